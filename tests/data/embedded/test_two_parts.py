"""The second variant of the embedded data: two telling parts, an easy and a hard one, far apart."""

import pathlib

import cv2
import numpy as np
import pytest

from configs import cam
from wsol_jax.base.errors import UserError
from wsol_jax.data import sources
from wsol_jax.data.embedded import creature_tails, render_pool, scenes
from wsol_jax.data.embedded import source as embedded
from wsol_jax.data.lists import open_lists

HERE = pathlib.Path(__file__).parent
TWO = render_pool.Variant(parts=2)


@pytest.fixture(scope="module")
def twos():
    return [render_pool.draw_scene("train", i, TWO) for i in range(240)]


def _pixels(scene, part):
    return scene.image[scene.parts == part] / 255.0


def test_the_first_variant_is_what_it_was_before_there_was_a_second():
    """Three scenes as the code of that day drew them: two single ones and a crowd.

    Another processor or OpenCV may round a pixel otherwise; another draw moves everything.
    """
    kept = cv2.imread(str(HERE / "first_variant.png"))[..., ::-1].astype(int)
    masks = cv2.imread(str(HERE / "first_variant_masks.png"), cv2.IMREAD_GRAYSCALE)
    drawn = [("train", 0, False), ("test", 7, False), ("train", 3, True)]
    for k, (name, index, multi) in enumerate(drawn):
        scene = render_pool.draw_scene(name, index, render_pool.Variant(multi=multi))
        there = np.s_[:, 96 * k : 96 * (k + 1)]
        apart = np.abs(scene.image - kept[there])
        assert apart.max() <= 1 and (apart > 0).mean() < 1e-3
        np.testing.assert_array_equal(scene.mask, masks[there])
        assert scene.parts.max() == 1


def test_what_draws_the_hard_part_names_the_second_variants_files_alone(tmp_path, monkeypatch):
    before = [embedded._digest(parts) for parts in (1, 2)]
    assert before[0] != before[1]
    other = tmp_path / "tails.py"
    other.write_text("another tail")
    monkeypatch.setattr(creature_tails, "__file__", str(other))
    assert embedded._digest(1) == before[0] and embedded._digest(2) != before[1]


def test_boxes_and_masks_hold_both_parts(twos):
    for scene in twos[:60]:
        rows, columns = np.nonzero(scene.mask)
        assert scene.boxes.tolist() == [[columns.min(), rows.min(), columns.max(), rows.max()]]
        assert (scene.mask[scene.parts > 0] == 1 + scene.labels[0]).all()


def test_both_parts_are_in_view_and_far_apart(twos):
    for scene in twos:
        easy, hard = (np.argwhere(scene.parts == part) for part in (1, 2))
        x0, y0, x1, y1 = scene.boxes[0]
        apart = np.hypot(*(easy.mean(0) - hard.mean(0))) / np.hypot(x1 - x0, y1 - y0)
        assert len(hard) > 40 and apart > 0.4


def test_the_hard_part_is_smaller_and_paler(twos):
    areas = np.array([[(s.parts == part).sum() for part in (1, 2)] for s in twos])
    assert 0.3 < np.median(areas[:, 1] / areas[:, 0]) < 0.5
    # Spread of the colours within a part, and how far its mean is from grey.
    spread, tint = (
        np.median([[f(_pixels(s, part)) for part in (1, 2)] for s in twos], axis=0)
        for f in (lambda v: v.std(0).mean(), lambda v: np.ptp(v.mean(0)))
    )
    assert spread[1] < 0.75 * spread[0] and tint[1] < 0.65 * tint[0]


def test_each_part_tells_the_class_and_the_body_does_not(twos):
    """By the mean colour of the nearest class, fit on the first half of the scenes."""
    labels, half = np.array([s.labels[0] for s in twos]), len(twos) // 2

    def accuracy(pixels):
        means = np.array([p.mean(0) for p in pixels])
        centres = [means[:half][labels[:half] == c].mean(0) for c in range(8)]
        apart = np.linalg.norm(means[half:, None] - np.array(centres), axis=-1)
        return (apart.argmin(1) == labels[half:]).mean()

    bodies = []
    for scene in twos:  # a pixel of margin: rims are mixed into their neighbours
        near = cv2.dilate((scene.parts > 0).astype(np.uint8), np.ones((3, 3)))
        bodies.append(scene.image[(scene.mask > 0) & (near == 0)] / 255.0)
    easy, hard = (accuracy([_pixels(s, part) for s in twos]) for part in (1, 2))
    # Chance is 1 in 8; three standard errors of 120 scenes are 9 points.
    assert accuracy(bodies) < 0.125 + 0.09
    assert 0.6 < hard < easy and easy > 0.85


def test_crowds_have_them_too():
    crowd = render_pool.Variant(multi=True, parts=2)
    found = [render_pool.draw_scene("train", i, crowd) for i in range(20)]
    assert max(len(s.boxes) for s in found) > 1
    for scene in found:
        for k in range(len(scene.boxes)):
            assert {1, 2} <= set(scene.parts[scene.instances == k + 1].tolist())


def test_other_sizes():
    scene = scenes.render_scene(0, size=160, parts=2)
    assert scene.parts.shape == (160, 160) and set(np.unique(scene.parts)) == {0, 1, 2}


def test_a_config_names_it_and_no_other_data_have_it(monkeypatch):
    monkeypatch.setattr(embedded, "open_embedded", lambda name, **how: (name, how))
    for words, parts in (("embedded,parts=2", 2), ("embedded", 1)):
        found = sources.opener(cam.get_config(words).data)("train")
        assert found == ("train", {"multi": False, "parts": parts})
    with pytest.raises(UserError, match=r"data\.parts=2: .* embedded alone, not of the voc"):
        open_lists(cam.get_config("voc,root=none,parts=2").data)
    with pytest.raises(UserError, match=r"parts=3: expected .*1.*2"):
        cam.get_config("embedded,parts=3")
