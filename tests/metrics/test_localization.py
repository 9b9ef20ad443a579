"""Box accuracy and Top-k localization against loops over images and thresholds."""

import itertools

import numpy as np
import pytest

from wsol_jax.metrics.bootstrap import bootstrap_interval
from wsol_jax.metrics.localization import DELTAS, BoxAccuracy, HitRates, rank_classes, top_k_hits

TAUS = np.arange(0, 1, 0.05)
IDS = [f"dir/image {i:02d}" for i in range(23)]


def random_ious(seed=0, n=23):
    rng = np.random.default_rng(seed)
    largest = rng.random((n, len(TAUS)))
    return largest, np.maximum(largest, rng.random((n, len(TAUS))))


def accumulator(ids=IDS, seed=0, order=None):
    largest, every = random_ious(seed)
    scored = BoxAccuracy(TAUS)
    for i in range(len(ids)) if order is None else order:
        scored.update([ids[i]], largest[[i]], every[[i]])
    return scored


def test_box_accuracies_by_hand():
    largest, every = random_ious()
    scored = accumulator()
    v1 = max(sum(row[t] >= 0.5 for row in largest) / 23 for t in range(len(TAUS)))
    v2 = [
        max(sum(row[t] >= delta for row in every) / 23 for t in range(len(TAUS)))
        for delta in (0.3, 0.5, 0.7)
    ]
    got = scored.compute()
    assert got["max_box_acc"] == v1
    assert got["max_box_acc_v2"] == pytest.approx(sum(v2) / 3, rel=1e-15)
    assert len(set(v2)) == 3  # each delta has a maximum of its own
    for t in (0, 7, 19):
        assert scored.gt_known(TAUS[t]) == sum(row[t] >= 0.5 for row in largest) / 23
        by_image = dict(zip(scored.images.ids(), scored.gt_known_hits(TAUS[t]), strict=True))
        assert by_image == {i: largest[k, t] >= 0.5 for k, i in enumerate(IDS)}
    with pytest.raises(ValueError, match="grid"):
        scored.gt_known(0.512)


def test_a_box_at_exactly_delta_is_right():
    scored = BoxAccuracy([0.5])
    scored.update(["a", "b", "c"], [[0.5], [0.3], [0.7]], [[0.5], [0.3], [0.7]])
    np.testing.assert_allclose(scored.curves()[0, :, 0], [1, 2 / 3, 1 / 3])


def test_best_threshold_is_the_middle_of_the_longest_best_run():
    taus = np.arange(8) / 8
    for hits, want in (
        ("01101110", 5),  # the longer run, its middle
        ("01100110", 1),  # the first of two as long, its lower middle
        ("00000001", 7),
        ("11111111", 3),
        ("00000000", 3),
    ):
        scored = BoxAccuracy(taus)
        ious = np.array([[float(h) for h in hits]])
        scored.update(["a"], ious, ious)
        assert scored.best_threshold() == taus[want], hits
    with pytest.raises(ValueError, match="without images"):
        BoxAccuracy().best_threshold()


def test_padding_is_left_out_and_images_count_once():
    largest, every = random_ious()
    scored = BoxAccuracy(TAUS)
    for start in range(0, 23, 8):  # a last batch of 7, padded by repeats of its first image
        take = [i if i < 23 else start for i in range(start, start + 8)]
        mask = np.arange(start, start + 8) < 23
        scored.update([IDS[i] for i in take], largest[take], every[take], mask)
    np.testing.assert_array_equal(scored.curves(), accumulator().curves())
    with pytest.raises(ValueError, match=r"image 00.* twice"):
        scored.update(IDS[:1], largest[:1], every[:1])


def test_merging_in_any_split_and_order_gives_the_same_bits():
    whole = accumulator()
    largest, every = random_ious()
    rng = np.random.default_rng(4)
    for _ in range(5):
        parts = [BoxAccuracy(TAUS) for _ in range(4)]
        for i in rng.permutation(23):
            parts[rng.integers(4)].update([IDS[i]], largest[[i]], every[[i]])
        for order in itertools.islice(itertools.permutations(parts), 0, 24, 5):
            merged = BoxAccuracy(TAUS)
            for part in order:
                merged = merged.merge(BoxAccuracy.from_arrays(part.to_arrays()))
            assert merged.compute() == whole.compute()
            assert merged.intervals(resamples=50) == whole.intervals(resamples=50)
            np.testing.assert_array_equal(merged.curves(), whole.curves())
            np.testing.assert_array_equal(merged.hits(), whole.hits())


def test_an_image_of_two_lists_counts_once_where_asked():
    largest, every = random_ious()
    a, b = BoxAccuracy(TAUS), BoxAccuracy(TAUS)
    a.update(IDS[:15], largest[:15], every[:15])
    b.update(IDS[10:], largest[10:], every[10:])
    with pytest.raises(ValueError, match=r"image 10.* twice"):
        a.merge(b)
    assert a.merge(b, overlap=True).compute() == accumulator().compute()
    with pytest.raises(ValueError, match="thresholds"):
        a.merge(BoxAccuracy(TAUS[:-1]))


def test_intervals_redraw_images_and_maximise_anew():
    scored = accumulator()
    got = scored.intervals(seed=3, resamples=400)
    hits = scored.hits()
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, 23, (400, 23))
    values = [hits[d][:, 0, 1].mean(axis=0).max() for d in drawn]
    np.testing.assert_allclose(got["max_box_acc"], np.quantile(values, (0.025, 0.975)), rtol=1e-12)
    values = [hits[d][:, 1].mean(axis=0).max(axis=1).mean() for d in drawn]
    np.testing.assert_allclose(
        got["max_box_acc_v2"], np.quantile(values, (0.025, 0.975)), rtol=1e-12
    )


def test_comparing_two_runs():
    a, b = accumulator(seed=0), accumulator(seed=1)
    same = a.compare(a, resamples=50)["max_box_acc"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    found = a.compare(b, resamples=300)
    for name, difference in found.items():
        assert difference.value == b.compute()[name] - a.compute()[name]
        assert difference.low < difference.value + 0.2
        assert difference.low < difference.high
    back = b.compare(a, resamples=300)["max_box_acc"]
    assert back.low == pytest.approx(-found["max_box_acc"].high, abs=1e-12)
    with pytest.raises(ValueError, match="different images"):
        a.compare(accumulator(ids=[i + "x" for i in IDS]))


def test_no_images_give_nan():
    assert np.isnan(BoxAccuracy(TAUS).gt_known(TAUS[3]))
    assert np.isnan(HitRates(["top1_acc"]).compute()["top1_acc"])


def test_rank_classes():
    scores = np.array([[0.1, 0.4, 0.2, 0.4, 0.0, 0.3], [5, 4, 3, 2, 1, 0]])
    np.testing.assert_array_equal(rank_classes(scores), [[1, 3, 5, 2, 0], [0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(rank_classes(scores[:, :3], 5), [[1, 2, 0], [0, 1, 2]])


GOOD, NEAR, BAD = [10, 10, 49, 49], [10, 10, 49, 69], [60, 60, 99, 99]  # IoU 1, 2/3, 0


@pytest.mark.parametrize(
    ("ranked", "boxes", "want"),
    [
        # class 7 is the truth; want: top1_acc, top5_acc, top1_loc, top5_loc, top5_star_loc
        ([7, 1, 2, 3, 4], [[GOOD], [BAD], [BAD], [BAD], [BAD]], (1, 1, 1, 1, 1)),
        ([7, 1, 2, 3, 4], [[BAD, GOOD], [GOOD], [GOOD], [BAD], [BAD]], (1, 1, 0, 0, 1)),
        ([1, 7, 2, 3, 4], [[GOOD], [NEAR], [BAD], [BAD], [BAD]], (0, 1, 0, 1, 1)),
        ([1, 7, 2, 3, 4], [[GOOD], [BAD, NEAR], [BAD], [BAD], [BAD]], (0, 1, 0, 0, 1)),
        ([1, 2, 7, 3, 4], [[GOOD], [BAD], [BAD, GOOD], [BAD], [BAD]], (0, 1, 0, 0, 0)),
        ([1, 2, 7, 3, 4], [[GOOD], [BAD], [GOOD], [BAD], [BAD]], (0, 1, 0, 1, 1)),
        ([1, 2, 3, 4, 7], [[GOOD], [BAD], [BAD], [BAD], [GOOD]], (0, 1, 0, 1, 0)),
        ([1, 2, 3, 4, 5], [[GOOD], [GOOD], [GOOD], [GOOD], [GOOD]], (0, 0, 0, 0, 0)),
        ([1, 7], [[BAD], [GOOD]], (0, 1, 0, 1, 1)),
    ],
)
def test_top_k(ranked, boxes, want):
    boxes = [np.array(b) for b in boxes]
    got = top_k_hits(ranked, boxes, [7], np.array([GOOD]), np.array([7]))
    assert tuple(int(v) for v in got.values()) == want
    assert list(got) == ["top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc"]


def test_a_box_must_meet_an_object_of_its_own_class():
    truth, labels = np.array([GOOD, BAD]), np.array([7, 1])
    right = top_k_hits([7, 1], [np.array([GOOD]), np.array([GOOD])], [1, 7], truth, labels)
    assert right["top1_loc"]
    wrong = top_k_hits([7, 1], [np.array([BAD]), np.array([GOOD])], [1, 7], truth, labels)
    assert wrong["top1_acc"]
    assert not wrong["top5_loc"]
    unboxed = top_k_hits([7], [np.array([GOOD])], [7], np.zeros((0, 4)), np.zeros(0))
    assert unboxed == {"top1_acc": True, "top5_acc": True}


def test_hit_rates_know_what_they_do_not_know():
    rates = HitRates(["top1_acc", "top1_loc"])
    rates.update("b", {"top1_acc": True, "top1_loc": False})
    rates.update("a", {"top1_acc": True})
    rates.update("c", {"top1_acc": np.bool_(False), "top1_loc": True})
    assert rates.compute() == {"top1_acc": 2 / 3, "top1_loc": 1 / 2}
    ids, hits = rates.values("top1_loc")
    assert ids == ("b", "c")
    np.testing.assert_array_equal(hits, [False, True])
    other = HitRates(["top1_acc", "top1_loc"])
    other.update("d", {"top1_acc": False, "top1_loc": True})
    both = HitRates.from_arrays(other.to_arrays()).merge(rates)
    assert both.compute() == rates.merge(other).compute() == {"top1_acc": 0.5, "top1_loc": 2 / 3}
    assert rates.intervals(2)["top1_loc"] == bootstrap_interval(hits, 2)
    with pytest.raises(ValueError, match="typo"):
        rates.update("e", {"typo": True})
    with pytest.raises(ValueError, match="'a' is counted twice"):
        rates.update("a", {})


def test_defaults_are_the_communitys():
    scored = BoxAccuracy()
    assert len(scored.thresholds) == 1000
    assert scored.thresholds[-1] == pytest.approx(0.999)
    assert scored.deltas == DELTAS == (0.3, 0.5, 0.7)
