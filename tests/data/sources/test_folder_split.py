"""The cut of photos into lists: by class, the same everywhere, and still when photos are added."""

import collections

import numpy as np

from wsol_jax.data.sources import folder_split


def _shares(labels, found):
    counts = collections.defaultdict(collections.Counter)
    for image_id, names in labels.items():
        for name in names:
            counts[name][found[image_id]] += 1
    return counts


def _single(sizes):
    return {f"{name}/{i}.jpg": (name,) for name, n in sizes.items() for i in range(n)}


def test_each_class_of_three_photos_has_one_in_each_list():
    sizes = {f"c{n}": n for n in range(3, 80)}
    labels = _single(sizes)
    found = folder_split.by_class(labels)
    assert found.keys() == labels.keys()
    for name, counts in _shares(labels, found).items():
        n = sizes[name]
        assert counts["tune"] >= max(1, n // 20) and counts["test"] >= max(1, n // 20), name
        assert counts["train"] >= n - 2 * max(1, n // 5), name
    total = collections.Counter(found.values())
    # Binomial counts of 3,157 photos, five standard deviations, and what small classes were given.
    assert abs(total["test"] / len(labels) - 0.1) < 0.03
    assert abs(total["tune"] / len(labels) - 0.1) < 0.03


def test_a_class_of_one_or_two_is_learnt():
    labels = _single({"one": 1, "two": 2})
    counts = _shares(labels, folder_split.by_class(labels))
    assert counts["one"]["train"] == 1 and counts["two"]["train"] >= 1


def test_photos_of_several_classes():
    rng = np.random.default_rng(0)
    names = [f"c{c}" for c in range(12)]
    labels = {}
    for i in range(150):
        chosen = rng.choice(12, size=rng.integers(0, 4), replace=False, p=np.arange(1, 13) / 78)
        labels[f"{i}.jpg"] = tuple(names[c] for c in chosen)
    found = folder_split.by_class(labels)
    sizes = collections.Counter(name for own in labels.values() for name in own)
    for name, counts in _shares(labels, found).items():
        if sizes[name] >= 3:
            assert all(counts[place] for place in folder_split.SHARES), (name, counts)


def test_a_photo_that_is_added_moves_no_other():
    sizes = {"a": 200, "b": 150}
    before = folder_split.by_class(_single(sizes))
    assert before == folder_split.by_hash(list(before))  # nothing needs mending there
    for more in range(1, 40):
        after = folder_split.by_class(_single({**sizes, "a": 200 + more}))
        assert {image_id: after[image_id] for image_id in before} == before


def test_the_order_of_photos_does_not_matter():
    labels = _single({f"c{n}": n for n in range(3, 20)})
    backwards = dict(reversed(labels.items()))
    assert folder_split.by_class(labels) == folder_split.by_class(backwards)


def test_what_cannot_be_is_left():
    """Four photos, each three of them a class: no three lists can hold one of each."""
    ids = [f"{i}.jpg" for i in range(4)]
    classes = {f"without {i}": [x for x in ids if x != ids[i]] for i in range(4)}
    labels = {x: tuple(c for c, own in classes.items() if x in own) for x in ids}
    found = folder_split.by_class(labels)
    assert found.keys() == set(ids) and set(found.values()) <= folder_split.SHARES.keys()


def test_a_name_that_is_no_utf8():
    name = b"cat/\xff.jpg".decode(errors="surrogateescape")
    assert folder_split.by_class({name: ("cat",)}) == {name: "train"}
