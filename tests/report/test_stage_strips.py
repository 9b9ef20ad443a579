"""What each label stage made of a photo, beside the others."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.photos import Photos

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.label_formats import cells, mask, regions, soft_maps
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.methods import Localization
from wsol_jax.report import collect, overlays, saved, stage_strips, strips
from wsol_jax.report.colours import class_colours
from wsol_jax.report.example import Example, Run

SIZE = (20, 24)  # of every photo, height and width
STAGES = ("superpixels", "saliency", "seeds", "masks_1")


class Scenes(Photos):
    """Photos whose left half shows their class; the last one has no mask."""

    def mask(self, index):
        if index == self.count - 1:
            return None
        truth = np.zeros(SIZE, np.uint8)
        truth[:, :12] = 1 + index % 3
        truth[0] = UNLABELLED
        return truth


def write(folder, image_id, arrays):
    for path, content in folder.encode(image_id, arrays):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def folders(tmp_path):
    """Four stages' labels of nine photos; nobody could read photo 3."""
    formats = (regions(), soft_maps(), mask(), mask())
    made = {n: LabelFolder(tmp_path / n, {n: x}) for n, x in zip(STAGES, formats, strict=True)}
    ids = np.repeat(np.arange(24, dtype=np.int32)[None] // 8, 20, axis=0)
    for index in set(range(9)) - {3}:
        own = 1 + index % 3
        none = np.zeros((1, 1, 1), np.float16)  # of a photo of several classes
        soft = none if index == 4 else np.full((*SIZE, 1), 0.5, np.float16)
        seeds = np.full(SIZE, UNLABELLED, np.uint8)
        seeds[:, :6], seeds[:, 12:] = own, 0
        masks = np.where(ids < 1, own, 0).astype(np.uint8)  # eight of the twelve columns
        for stage, values in zip(STAGES, (ids, soft, seeds, masks), strict=True):
            write(made[stage], f"id{index}", {stage: values})
    return made


class Maps:
    """A classifier whose map of class c rises to c + 1, on the right; it sees the whole photo."""

    config = types.SimpleNamespace(
        eval=types.SimpleNamespace(batch_size=4, size=0), data=types.SimpleNamespace(crop=8)
    )
    variables = {"gain": jnp.ones(())}

    @property
    def method(self):
        def localize(variables, images):
            assert images.shape[1:] == (8, 8, 3)
            ramp = jnp.broadcast_to(jnp.linspace(-1, 1, 4), (len(images), 4, 4))
            maps = variables["gain"] * ramp[..., None] * jnp.arange(1, 4)
            return Localization(jnp.zeros((len(images), 3)), maps)

        return types.SimpleNamespace(localize=localize)


def test_a_strip_has_every_stage_in_order(folders):
    found = stage_strips.strips(Scenes(9), folders, Maps(), 27)
    assert [e.image_id for e in found] == [f"id{i}" for i in (0, 1, 2, 4, 5, 6, 7, 8)]
    one = found[1]
    # 12 columns of 19 rows count. Seeds: 6 of 12 of the class, 12 of 12 of background (what is
    # unlabelled is no class's). Masks: 8 of 12, 12 of 16.
    names = ["superpixels", "saliency", "class maps", "seeds 75.0 %", "masks_1 70.8 %", "truth"]
    assert list(one.pictures) == names
    assert one.iou == pytest.approx((8 / 12 + 12 / 16) / 2)
    assert one.label == one.predicted == "b" and one.split == "photos, stage by stage"
    grey = 15
    mixed = lambda c: np.rint(0.4 * grey + 0.6 * class_colours()[c])
    np.testing.assert_array_equal(one.pictures["masks_1 70.8 %"][5, 2], mixed(2))
    np.testing.assert_array_equal(one.pictures["masks_1 70.8 %"][5, 10], mixed(0))
    np.testing.assert_array_equal(one.pictures["truth"][5, 10], mixed(2))
    assert (one.pictures["saliency"] == 0.5).all()
    np.testing.assert_allclose(one.pictures["class maps"][0], [0, 0, 1 / 3, 1], atol=1e-6)
    assert "saliency" not in found[3].pictures  # of a photo that has none


def test_without_masks_and_network_there_are_neither_figures_nor_heat(folders):
    last = stage_strips.strips(Scenes(9), folders, None, 27)[-1]
    assert list(last.pictures) == list(STAGES) and last.iou is None


def test_a_stage_without_labels_of_a_photo_is_left_out_of_its_strip(folders):
    folders["masks_1"].path("id0").unlink()
    found = stage_strips.strips(Scenes(9), folders, None, 27)
    assert list(found[0].pictures) == ["superpixels", "saliency", "seeds 75.0 %", "truth"]
    assert found[0].iou == pytest.approx(0.75)


def test_cells_and_products_are_named_and_stretched(tmp_path):
    both = LabelFolder(tmp_path / "cues", {"near": cells(2), "far": cells(2)})
    values = np.array([[1, 0], [1, 0]], np.uint8)
    write(both, "id0", {"near": values, "far": values[:, ::-1].copy()})
    (one,) = stage_strips.strips(Scenes(9), {"cues": both}, None, 27)
    assert list(one.pictures) == ["cues/near 100.0 %", "cues/far 0.0 %", "truth"]
    assert one.pictures["cues/near 100.0 %"].shape == (*SIZE, 3)


def test_class_maps_are_those_of_the_images_classes():
    """In batches of four, the last one smaller; every map is a share of its maximum."""
    found = stage_strips.class_heats(Maps(), Scenes(9), range(6))
    assert len(found) == 6
    for heat in found:
        np.testing.assert_allclose(heat[2], [0, 0, 1 / 3, 1], atol=1e-6)


def test_regions_are_outlined_in_fine_lines():
    photo = np.full((10, 20, 3), 90, np.uint8)
    ids = np.zeros((10, 20), np.int32)
    ids[:, 10:], ids[5:, 10:] = 70000, 70001
    out = overlays.outline_regions(photo, ids, side=40)
    lines = (out == overlays.OURS).all(-1)
    assert out.shape == (20, 40, 3) and (out[~lines] == 90).all()
    expected = np.zeros((20, 40), bool)
    expected[:, 20] = expected[10, 20:] = True
    np.testing.assert_array_equal(lines, expected)


def run(config_gallery=27):
    config = types.SimpleNamespace(
        labels="masks=seeds", eval=types.SimpleNamespace(gallery=config_gallery)
    )
    lists = types.SimpleNamespace(train=Scenes(9), tests={}, class_names=("a", "b", "c"))
    return types.SimpleNamespace(config=config, lists=lists)


def collected(folders, tmp_path, names):
    kind = types.SimpleNamespace(draws=True)
    evaluated = types.SimpleNamespace(figures={"threshold": 0.5}, kind=kind, scored={})
    some = {name: folders[name] for name in names}
    collect.collect(run(), tmp_path, evaluated, Maps(), some)
    return saved.load(str(tmp_path)).examples


def test_a_run_of_several_label_stages_shows_them_all(folders, tmp_path):
    found = collected(folders, tmp_path, STAGES)
    assert len(found) == 8 and {e.split for e in found} == {"photos, stage by stage"}
    assert all("truth" in e.pictures for e in found[:-1])


def test_a_run_of_one_label_stage_shows_what_was_trained_on(folders, tmp_path):
    (tmp_path / "seeds" / "seeds.json").write_text(
        '{"sha256": "", "products": {"seeds": {"kind": "mask", "size": 0}}}'
    )
    found = collected(folders, tmp_path, ["seeds"])
    assert {e.split for e in found} == {"photos: seeds"}
    assert list(found[0].pictures) == ["labels"]


def test_beside_another_run_the_last_stage_stands(folders):
    some = stage_strips.strips(Scenes(9), folders, None, 27)
    one = Run({}, some, 0.5, classes=("a", "b", "c"))
    assert isinstance(some[0], Example)
    text = strips.comparison({"x": one, "y": one})
    assert "x 70.8 % of id0" in text and "truth of id0" in text
