"""The rendered scenes, and the files that keep them."""

import os
import pickle
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from wsol_jax.base import errors
from wsol_jax.data.embedded import contact_sheet, render_pool, scenes
from wsol_jax.data.embedded import source as embedded

SIZES = {"train": 8, "tune": 3, "test": 4}


@pytest.fixture(scope="module")
def singles():
    return [scenes.render_scene((1, i)) for i in range(240)]


@pytest.fixture(scope="module")
def crowds():
    return [scenes.render_scene((2, i), objects=(1, 4)) for i in range(80)]


def _config(multi=False, workers=0, parts=1):
    name = ("tiny_multi" if multi else "tiny") + f"_{parts}" * (parts > 1)
    return embedded.EmbeddedConfig(
        name=name, multi=multi, parts=parts, list_sizes=SIZES, workers=workers
    )


def _source(list_name, config, cache):
    folder = embedded.prepare(config, str(cache))
    return embedded.EmbeddedSource(list_name, config, folder)


def _tight_box(pixels):
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return [columns[0], rows[0], columns[-1], rows[-1]]


def _equal(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in scenes.Scene.__annotations__)


# ---- scenes -----------------------------------------------------------------------------------


def test_a_seed_gives_the_same_scene_whatever_was_drawn_before(singles):
    assert _equal(scenes.render_scene((1, 7)), singles[7])
    assert not np.array_equal(singles[7].image, singles[8].image)


def test_number_of_threads_changes_nothing(crowds):
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        assert _equal(scenes.render_scene((2, 3), objects=(1, 4)), crowds[3])
    finally:
        cv2.setNumThreads(threads)


def test_boxes_and_masks_agree(singles, crowds):
    for scene in singles[:60] + crowds:
        assert scene.image.shape == (96, 96, 3) and scene.image.dtype == np.uint8
        assert scene.mask.dtype == np.uint8 and scene.boxes.dtype == np.float32
        for k, (box, label) in enumerate(zip(scene.boxes, scene.box_labels, strict=True)):
            pixels = scene.instances == k + 1
            assert box.tolist() == _tight_box(pixels)
            assert (scene.mask[pixels] == 1 + label).all()
        assert set(np.unique(scene.mask)) - {0} == {1 + c for c in scene.labels}
        assert scene.labels == tuple(sorted(set(scene.box_labels.tolist())))
        assert ((scene.mask > 0) == (scene.instances > 0)).all()
        assert (scene.mask[scene.parts > 0] > 0).all()


def test_the_mask_is_where_the_creature_covers_more_than_half(monkeypatch):
    painted = []
    paste = scenes._paste

    def spy(canvas, sprite, spot, light):
        painted.append(paste(canvas, sprite, spot, light)[0])
        return painted[-1], np.zeros_like(painted[-1])[None]

    monkeypatch.setattr(scenes, "_paste", spy)
    for seed in range(5):
        scene = scenes.render_scene((5, seed))
        alpha = painted[-1].reshape(96, 2, 96, 2).mean((1, 3))  # the creature comes last
        clear = np.abs(alpha - 0.5) > 1e-4
        np.testing.assert_array_equal((scene.mask > 0)[clear], (alpha > 0.5)[clear])


def test_the_telling_part_is_small(singles):
    shares = np.array([(s.parts > 0).sum() / (s.mask > 0).sum() for s in singles])
    assert 0.11 < np.median(shares) < 0.17
    assert shares.min() > 0.05 and shares.max() < 0.3


def test_all_classes_occur_and_none_is_rare(singles):
    counts = np.bincount([s.labels[0] for s in singles], minlength=len(scenes.CLASS_NAMES))
    assert len(counts) == len(scenes.CLASS_NAMES) >= 8
    assert counts.min() >= 240 / len(counts) / 2.5


def _linear_accuracy(features, labels):
    """Accuracy on the second half of linear discriminants fit on the first."""
    half = len(labels) // 2
    fit, seen = features[:half], labels[:half]
    means = np.stack([fit[seen == c].mean(0) for c in range(len(scenes.CLASS_NAMES))])
    within = np.cov((fit - means[seen]).T) + 1e-6 * np.diag(fit.var(0))
    apart = features[half:, None] - means
    distance = np.einsum("nci,ij,ncj->nc", apart, np.linalg.inv(within), apart)
    return (distance.argmin(1) == labels[half:]).mean()


def _colours(scene, pixels):
    values = scene.image[pixels] / 255.0
    return np.concatenate([values.mean(0), values.std(0), [pixels.mean()]])


def test_bodies_and_boxes_tell_no_class_and_heads_do(singles):
    labels = np.array([s.labels[0] for s in singles])
    # A pixel of margin, since the rim of the head is mixed into its neighbours.
    bodies = [(s.mask > 0) & (cv2.dilate(s.parts, np.ones((3, 3))) == 0) for s in singles]
    body = np.array([_colours(s, b) for s, b in zip(singles, bodies, strict=True)])
    head = np.array([_colours(s, s.parts > 0) for s in singles])
    sides = np.array([[*(b := s.boxes[0]), b[2] - b[0], b[3] - b[1]] for s in singles])
    # Chance is 1 in 8; three standard errors of 120 test scenes are 9 points.
    assert _linear_accuracy(body, labels) < 0.125 + 0.09
    assert _linear_accuracy(sides, labels) < 0.125 + 0.09
    assert _linear_accuracy(head, labels) > 0.9


def test_no_fixed_central_box_does_well(singles):
    boxes = np.array([s.boxes[0] for s in singles])
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    best = 0
    for w in range(24, 97, 6):
        for h in range(24, 97, 6):
            x0, y0 = 48 - w / 2, 48 - h / 2
            wide = np.minimum(boxes[:, 2] + 1, x0 + w) - np.maximum(boxes[:, 0], x0)
            tall = np.minimum(boxes[:, 3] + 1, y0 + h) - np.maximum(boxes[:, 1], y0)
            both = np.maximum(wide, 0) * np.maximum(tall, 0)
            best = max(best, (both / (w * h + areas - both) >= 0.5).mean())
    assert 0.03 < best < 0.2
    share = areas / 96**2
    assert share.min() > 0.08 and share.max() < 0.3


def test_crowds_have_one_to_four_and_hide_little(crowds):
    counts = np.bincount([len(s.boxes) for s in crowds], minlength=5)
    assert counts[0] == 0 and len(counts) == 5 and (counts[1:] >= 8).all()
    assert any(len(s.labels) > 1 for s in crowds)
    assert any(len(s.labels) < len(s.boxes) for s in crowds)  # two of a kind
    for scene in crowds:
        for k in range(len(scene.boxes)):
            assert ((scene.instances == k + 1) & (scene.parts == 1)).any()  # its head is in view


def test_a_creature_wholly_hidden_is_not_labelled():
    canvas = np.zeros((3, 192, 192), np.float32)
    front = np.zeros((192, 192), np.float32)
    front[40:100, 40:100] = 1
    behind = np.zeros_like(front)
    scene = scenes._finish(
        np.random.default_rng(0), canvas, [behind, front], [behind[None]] * 2, [3, 5], 96
    )
    assert scene.labels == (5,) and scene.box_labels.tolist() == [5]
    assert scene.boxes.tolist() == [[20, 20, 49, 49]]
    assert set(np.unique(scene.mask)) == {0, 6} and set(np.unique(scene.instances)) == {0, 1}


def test_other_sizes():
    scene = scenes.render_scene(0, size=160)
    assert scene.image.shape == (160, 160, 3) and scene.mask.shape == (160, 160)


def test_contact_sheet_is_a_small_png(tmp_path):
    path = tmp_path / "sheet.png"
    contact_sheet.save(contact_sheet.draw(scenes_each=1), str(path))
    assert cv2.imread(str(path)).shape == (440, 800, 3)
    assert path.stat().st_size < 600_000


# ---- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("multi, parts", [(False, 1), (True, 1), (False, 2), (True, 2)])
def test_written_and_read_back(tmp_path, multi, parts):
    config = _config(multi, parts=parts)
    variant = render_pool.Variant(multi=multi, parts=parts)
    for name, count in SIZES.items():
        source = _source(name, config, tmp_path)
        assert (source.name, len(source)) == (name, count)
        assert tuple(source.class_names) == scenes.CLASS_NAMES
        for i in range(count):
            scene = render_pool.draw_scene(name, i, variant)
            record = source[i]
            assert record.image_id == f"{name}_{i:05d}"
            pixels = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(pixels[..., ::-1], scene.image)
            np.testing.assert_array_equal(source.mask(i), scene.mask)
            if parts > 1:
                np.testing.assert_array_equal(source.part_mask(i), scene.parts)
            else:
                assert source.part_mask(i) is None
            np.testing.assert_array_equal(record.boxes, scene.boxes)
            np.testing.assert_array_equal(record.box_labels, scene.box_labels)
            assert record.boxes.dtype == np.float32 and record.box_labels.dtype == np.int32
            assert record.labels == scene.labels and record.size == (96, 96)
            assert _equal(source.scene(i), scene)
        with pytest.raises(IndexError):
            source[count]


def test_number_of_workers_changes_nothing():
    lists = [
        render_pool.draw_lists({"train": 30, "test": 2}, render_pool.SINGLE, workers)
        for workers in (0, 2)
    ]
    for name in ("train", "test"):
        for one, two in zip(lists[0][name], lists[1][name], strict=True):
            assert (one["image"], one["mask"]) == (two["image"], two["mask"])
            np.testing.assert_array_equal(one["boxes"], two["boxes"])


def test_lists_share_no_scene():
    images = [
        render_pool.draw_scene(
            name, i, render_pool.Variant(multi=multi, parts=parts)
        ).image.tobytes()
        for name in embedded.LIST_SIZES
        for i in range(3)
        for multi in (False, True)
        for parts in (1, 2)
    ]
    assert len(set(images)) == len(images)


def test_a_second_open_reuses_the_cache(tmp_path, monkeypatch):
    first = _source("test", _config(), tmp_path)[0]

    def drawn_again(*args, **kwargs):
        raise AssertionError("drawn again")

    monkeypatch.setattr(render_pool, "draw_lists", drawn_again)
    assert _source("test", _config(), tmp_path)[0].image == first.image


def test_pickled_while_open(tmp_path):
    source = _source("test", _config(), tmp_path)
    record = source[1]
    copy = pickle.loads(pickle.dumps(source))
    assert copy[1].image == record.image and (copy.mask(1) == source.mask(1)).all()
    assert len(pickle.dumps(source)) < 2000  # no pictures, no open files


def test_cache_folder_is_the_variable_unless_given(tmp_path, monkeypatch):
    monkeypatch.setenv(embedded.CACHE_VARIABLE, str(tmp_path / "a"))
    monkeypatch.setattr(render_pool, "draw_lists", _tiny_lists)
    assert len(embedded.open_embedded("tune")[0].labels) == 1
    embedded.open_embedded("tune", multi=True, cache_dir=str(tmp_path / "b"))
    embedded.open_embedded("tune", parts=2, cache_dir=str(tmp_path / "b"))
    assert list((tmp_path / "a").glob("*/*/single/1.0.0/dataset_info.json"))
    assert list((tmp_path / "b").glob("*/*/single_parts2/1.0.0/dataset_info.json"))
    assert list((tmp_path / "b").glob("*/*/multi/1.0.0/dataset_info.json"))


def _tiny_lists(list_sizes, variant, workers):
    return {n: render_pool.draw_examples(n, 0, 2, variant) for n in list_sizes}


def test_unknown_list_and_size_are_refused():
    with pytest.raises(errors.UserError, match=r"'tset'.*'test'.*train, tune, test"):
        embedded.open_embedded("tset")
    with pytest.raises(errors.UserError, match="48"):
        embedded.open_embedded("test", size=32)


def test_unwritable_cache_names_the_variable(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(errors.UserError, match=embedded.CACHE_VARIABLE):
        embedded.open_embedded("test", cache_dir=str(blocked / "cache"))


def test_damaged_cache_says_what_to_delete(tmp_path):
    source = _source("test", _config(), tmp_path)
    for file in tmp_path.rglob("*test.array_record*"):
        file.unlink()
    with pytest.raises(errors.UserError, match="delete"):
        source[0]


_SCRIPT = """
import os, sys
from wsol_jax.data.embedded import source as embedded
def die(*args, **kwargs):
    os.kill(os.getpid(), 9)
def die_at_the_third(self, examples):
    for i, example in enumerate(examples):
        yield (i, example) if i < 2 else die()
if {killed!r} == "writing":
    embedded.EmbeddedScenes._generate_examples = die_at_the_third
if {killed!r} == "moving":
    embedded.os.rename = die
config = embedded.EmbeddedConfig(name="tiny", list_sizes={sizes!r}, workers=0)
folder = embedded.prepare(config, {cache!r})
print(len(embedded.EmbeddedSource("test", config, folder)[0].image))
assert "tensorflow" not in sys.modules
"""


def _start(cache, killed=""):
    script = _SCRIPT.format(sizes=SIZES, cache=str(cache), killed=killed)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_two_processes_at_once_and_no_tensorflow(tmp_path):
    runs = [_start(tmp_path) for _ in range(2)]
    results = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert sum(err.count(b"drawing") for _, err in results) == 1  # the second one waited
    assert not list(tmp_path.glob("*/.writing*"))


def test_without_locks_the_slower_of_two_is_content(tmp_path, monkeypatch):
    config = _config()
    finished = embedded.prepare(config, str(tmp_path))
    final = finished / "embedded_scenes" / "tiny" / "1.0.0"
    monkeypatch.setattr(embedded, "fcntl", None)
    embedded._write(config, finished, final)  # as if it had looked before the other was done
    assert len(list(final.glob("*array_record*"))) == 3
    assert not list(finished.glob(".writing*"))


@pytest.mark.parametrize("killed", ["writing", "moving"])
def test_killed_half_way_leaves_no_broken_cache(tmp_path, killed):
    run = _start(tmp_path, killed)
    run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("*/.writing*"))  # it was under way
    assert not list(tmp_path.glob("*/embedded_scenes/tiny/*"))
    record = _source("test", _config(), tmp_path)[0]
    assert record.labels == render_pool.draw_scene("test", 0).labels
    assert not list(tmp_path.glob("*/.writing*"))  # and what it left is gone
