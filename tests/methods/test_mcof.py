"""MCOF's labellers on made-up photos and networks: what each leaves of one photo."""

import io
import logging
import types

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.labels import label_stage, make
from PIL import Image

from configs import mcof as mcof_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.data.label_formats import mask
from wsol_jax.data.pseudo_labels import LabelFolder, open_labels
from wsol_jax.data.records import Record
from wsol_jax.methods import Labeller, Localization, Segmentation, mcof
from wsol_jax.ops.superpixels import felzenszwalb
from wsol_jax.stages.sections import stage_config

RNG = np.random.default_rng(0)


def config_of(stage, **changes):
    config = stage_config(mcof_config.get_config("voc,root=x,weights=none"), stage)
    with config.unlocked():
        config.update_from_flattened_dict({f"mcof.{k}": v for k, v in changes.items()})
    return config


def labeller_of(stage, num_classes=4, **changes):
    return methods.build_labeller(config_of(stage, **changes), num_classes)


class Photo(types.SimpleNamespace):
    """What a labeller may see of a photo; there is no truth in it."""


def photo(*labels, pixels=None, name="part/a"):
    pixels = np.full((6, 8, 3), 90, np.uint8) if pixels is None else pixels
    return Photo(image_id=name, labels=labels, size=pixels.shape[1::-1], pixels=pixels)


def network(**arrays):
    """A trained network whose answers are given."""
    maps = arrays.get("maps")
    return types.SimpleNamespace(
        localize=lambda images: Localization(None, maps),
        infer=lambda batch: {"probabilities": arrays["probabilities"]},
    )


# ---------------------------------------------------------------- superpixels


def squares(side=40):
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[: side // 2], pixels[:, : side // 4] = (200, 30, 30), (30, 60, 220)
    return np.clip(pixels + RNG.integers(0, 9, pixels.shape), 0, 255).astype(np.uint8)


def test_superpixels_are_felzenszwalbs_at_the_configs_scale():
    pixels = squares()
    own = labeller_of("superpixels", scale=30.0, sigma=0.5, min_size=7)
    found = own.finish(photo(0, pixels=pixels), {}, {})["regions"]
    expected = felzenszwalb(pixels, scale=30.0, sigma=0.5, min_size=7)
    np.testing.assert_array_equal(found, expected)
    assert own.make is None and not own.reads and found.dtype == np.int32


def test_superpixels_over_the_cap_are_joined_and_said(caplog):
    pixels = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    logging.getLogger("absl").propagate = True
    settings = dict(scale=1.0, sigma=0.1, min_size=1)
    count = felzenszwalb(pixels, **settings).max() + 1
    own = labeller_of("superpixels", regions=12, **settings)
    with caplog.at_level("INFO", logger="absl"):
        found = own.finish(photo(0, pixels=pixels), {}, {})["regions"]
    assert set(np.unique(found)) == set(range(12)) and count > 12
    assert f"part/a: the smallest of {count} regions" in caplog.text
    assert "mcof.regions=12 are left" in caplog.text


@pytest.mark.parametrize("field", ["scale", "sigma", "min_size", "regions"])
def test_options_of_superpixels_are_checked(field):
    with pytest.raises(UserError, match=rf"mcof\.{field}=0(\.0)?: expected a(?: whole)? number"):
        labeller_of("superpixels", **{field: 0})
    changed = labeller_of("superpixels", **{field: 7}).settings
    assert changed != labeller_of("superpixels").settings


# ---------------------------------------------------------------- saliency


def test_saliency_of_a_folder_of_grey_pngs(tmp_path):
    (tmp_path / "part").mkdir()
    grey = RNG.integers(0, 256, (3, 4), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "part" / "a.png")
    own = labeller_of("saliency", saliency=str(tmp_path))
    found = own.finish(photo(2), {}, {})["saliency"]
    np.testing.assert_array_equal(found[..., 0], (grey / np.float32(255)).astype(np.float16))
    own.products["saliency"].check(found, (8, 6))
    # Another folder's are other labels; computed ones too.
    (tmp_path / "other").mkdir()
    Image.fromarray(255 - grey).save(tmp_path / "other" / "a.png")
    other = labeller_of("saliency", saliency=str(tmp_path / "other"))
    assert len({repr(x.settings) for x in (own, other, labeller_of("saliency"))}) == 3


def test_a_map_that_is_missing_or_of_colours_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no PNG"):
        labeller_of("saliency", saliency=str(tmp_path))
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    own = labeller_of("saliency", saliency=str(tmp_path))
    with pytest.raises(UserError) as error:
        own.finish(photo(2, name="b"), {}, {})
    assert str(tmp_path / "b.png") in str(error.value) and "\n" not in str(error.value)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png has the mode RGB"):
        own.finish(photo(2, name="b"), {}, {})
    Image.fromarray(np.zeros((3, 4), np.uint8)).convert("P").save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png has the mode P"):  # indices are no greys
        own.finish(photo(2, name="b"), {}, {})


def test_maps_that_were_replaced_are_other_labels_wherever_they_lie(tmp_path):
    def settings(folder, value):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(np.full((3, 4), value, np.uint8)).save(tmp_path / folder / "a.png")
        mcof._content.cache_clear()  # as in another process
        return labeller_of("saliency", saliency=str(tmp_path / folder)).settings

    assert settings("one", 7) == settings("moved", 7)
    assert settings("one", 7) != settings("one", 8)


@pytest.mark.parametrize("labels", [(), (0, 3)])
def test_photos_of_several_classes_need_no_saliency(tmp_path, labels):
    """Not even a file."""
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "another.png")
    own = labeller_of("saliency", saliency=str(tmp_path))
    found = own.finish(photo(*labels), {}, {})["saliency"]
    assert not found.any()
    own.products["saliency"].check(found, (8, 6))


def test_computed_saliency_is_of_what_stands_out():
    pixels = np.full((48, 64, 3), (40, 120, 40), np.uint8)
    pixels[14:34, 20:44] = (220, 40, 40)
    own = labeller_of("saliency")
    found = own.finish(photo(1, pixels=pixels), {}, {})["saliency"]
    assert found.dtype == np.float16 and found.shape == (48, 64, 1)
    assert found.min() >= 0 and found.max() <= 1
    assert found[16:32, 22:42].mean() > 0.7 > 0.2 > found[:, :15].mean()


def test_a_place_that_is_no_folder():
    with pytest.raises(UserError, match=r"mcof\.saliency: expected 'computed', 'none' or a folder"):
        labeller_of("saliency", saliency="/no/such/place")


# ---------------------------------------------------------------- seeds

REGIONS = np.array([[0, 0, 0, 0, 1, 1, 1, 1]] * 3 + [[2, 2, 2, 2, 3, 3, 3, 3]] * 3, np.int32)
QUARTERS = {"regions": {"regions": REGIONS}}


def quarters(values):
    """(4,) of each quarter -> a map of 6 x 8, the quarters flat."""
    return np.asarray(values)[REGIONS]


def test_seeds_are_the_regions_that_a_class_is_sure_of():
    """Classes 1 and 3 of the image; what class 0 and 2 are sure of is nobody's."""
    maps = [quarters(x) for x in ([9, 9, 9, 9], [8, 1, 2, 0], [9, 9, 9, 9], [0, 1, 1, 4.0])]
    made = {"maps": np.stack(maps, axis=-1).astype(np.float32)}
    own = labeller_of("seeds", share=0.5, peak=0.0)
    found = own.finish(photo(1, 3), made, QUARTERS)["seeds"]
    np.testing.assert_array_equal(found, quarters([2, 0, 0, 4]))
    assert found.dtype == np.uint8
    only = own.finish(photo(3), made, QUARTERS)["seeds"]
    np.testing.assert_array_equal(only, quarters([0, 0, 0, 4]))
    assert not own.finish(photo(), made, QUARTERS)["seeds"].any()
    assert not own.finish(photo(0), {"maps": -made["maps"]}, QUARTERS)["seeds"].any()


def test_maps_of_any_size_are_brought_to_the_photo():
    made = {"maps": np.zeros((3, 4, 4), np.float32)}
    made["maps"][0, 0, 1] = 5
    found = labeller_of("seeds").finish(photo(1), made, QUARTERS)["seeds"]
    np.testing.assert_array_equal(found, quarters([2, 0, 0, 0]))


@pytest.mark.parametrize("field", ["share", "peak"])
def test_options_of_seeds_are_checked(field):
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(
            UserError, match=rf"mcof\.{field}={value}: expected a number from 0 to 1"
        ):
            labeller_of("seeds", **{field: value})
    assert labeller_of("seeds", **{field: 0.9}).settings != labeller_of("seeds").settings


@pytest.mark.parametrize("stage", ["seeds", "masks_1"])
def test_more_classes_than_a_mask_holds(stage):
    labeller_of(stage, 254)
    with pytest.raises(UserError, match="masks hold 254 classes at most, not 255"):
        labeller_of(stage, 255)


def test_maps_of_a_classifier_and_of_a_segmenter():
    own, batch = labeller_of("seeds"), {"image": None}
    maps = jnp.ones((1, 2, 2, 4))
    assert own.make({"maps": network(maps=maps)}, batch)["maps"] is maps
    assert own.make({"maps": network(maps=Segmentation(maps))}, batch)["maps"] is maps


# ---------------------------------------------------------------- objects


def test_regions_called_an_absent_class_become_background():
    """Two photos: of classes 0 and 2, and of none."""
    likely = np.array([[0, 1, 2, 3], [1, 0, 3, 3]])  # as 1 + c
    probabilities = jnp.asarray(np.eye(5)[likely] * 0.5 + 0.1)
    regions = jnp.tile(jnp.array([[0, 1], [2, 3]]), (2, 1, 1))
    batch = {"labels": jnp.array([[1.0, 0, 1, 0], [0, 0, 0, 0]]), "regions": regions}
    own = labeller_of("objects_1")
    made = own.make({"network": network(probabilities=probabilities)}, batch)["classes"]
    assert made.dtype == jnp.uint8
    np.testing.assert_array_equal(made, [[0, 1, 0, 3], [0, 0, 0, 0]])
    found = own.finish(photo(0, 2), {"classes": np.asarray(made)[0]}, QUARTERS)["objects"]
    np.testing.assert_array_equal(found, quarters([0, 1, 0, 3]))
    assert found.dtype == np.uint8 and own.reads["network"] == "region_1"
    # A region that no cell of the ids lies in was not seen: its class would be the head's bias.
    unseen = {**batch, "regions": jnp.where(regions == 3, -1, regions)}
    made = own.make({"network": network(probabilities=probabilities)}, unseen)["classes"]
    np.testing.assert_array_equal(made, [[0, 1, 0, 0], [0, 0, 0, 0]])
    spec = own.wants["regions"]
    assert (spec.shape, spec.fill) == ((160, 160), -1)


# ---------------------------------------------------------------- refined


def scene():
    """A red square on grey; what was found of it is half, and some of the background."""
    pixels = np.full((36, 40, 3), 128, np.uint8) + RNG.integers(0, 6, (36, 40, 3), dtype=np.uint8)
    pixels[10:26, 12:28] = (210, 30, 30)
    found = np.zeros((36, 40), np.uint8)
    found[10:26, 12:20], found[0:3, 36:] = 3, 3
    prior = np.zeros((18, 20, 1), np.float16)
    prior[4:14, 5:15] = 0.8
    return pixels, found, prior


def refined_of(labels, found, pixels, prior, **changes):
    own = labeller_of("refined_1", **changes)
    earlier = {"objects": {"objects": found}, "saliency": {"saliency": prior}}
    return own.finish(photo(*labels, pixels=pixels), {}, earlier)["refined"]


def test_saliency_completes_the_object():
    pixels, found, prior = scene()
    refined = refined_of((2,), found, pixels, prior)
    expected = np.zeros_like(found)
    expected[10:26, 12:28] = 3
    assert refined.dtype == np.uint8 and set(np.unique(refined)) <= {0, 3}
    assert np.mean(refined == expected) > 0.97
    assert (refined[12:24, 22:26] == 3).all() and not refined[:3, 36:].any()


@pytest.mark.parametrize("labels", [(2, 3), (0, 1, 2), ()])
def test_photos_of_several_classes_are_left_as_they_are(labels):
    _, found, prior = scene()
    # Not even the photo is looked at.
    own = labeller_of("refined_1")
    earlier = {"objects": {"objects": found}, "saliency": {"saliency": prior[:1, :1]}}
    blind = Photo(image_id="a", labels=labels, size=(40, 36))
    assert own.finish(blind, {}, earlier)["refined"] is found


def test_nothing_found_and_nothing_salient():
    """The scaled prior alone decides; a photo of neither is background."""
    pixels, found, prior = scene()
    nothing = np.zeros_like(found)
    refined = refined_of((2,), nothing, pixels, prior)
    assert set(np.unique(refined)) <= {0, 3} and (refined[12:24, 14:26] == 3).all()
    assert not refined_of((2,), nothing, pixels, np.zeros_like(prior)).any()


# ---------------------------------------------------------------- masks


def test_probabilities_of_background_are_the_rest():
    found = RNG.dirichlet(np.ones(5), (2, 3, 3)).astype(np.float32)
    networks = {"network": network(maps=Segmentation(jnp.asarray(found[..., 1:])))}
    made = labeller_of("masks_1").make(networks, {"image": None})["probabilities"]
    np.testing.assert_allclose(made, found, atol=1e-6)
    whole = {"network": network(maps=Segmentation(jnp.full((1, 2, 2, 4), 0.2500001)))}
    assert labeller_of("masks_1").make(whole, {"image": None})["probabilities"].min() >= 0


@pytest.mark.parametrize("sharpen", [False, True])
@pytest.mark.parametrize("labels", [(1,), (0, 3), ()])
def test_masks_never_name_an_absent_class(sharpen, labels):
    """Class 2 is the likeliest everywhere."""
    rough = RNG.dirichlet(np.ones(5), (3, 4)).astype(np.float32)
    rough[..., 3] += 5
    pixels = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    own = labeller_of("masks_1", sharpen=sharpen)
    found = own.finish(photo(*labels, pixels=pixels), {"probabilities": rough}, {})["masks"]
    own.products["masks"].check(found, (16, 12))
    assert set(np.unique(found)) <= {0, *(1 + c for c in labels)}


def test_masks_are_the_likeliest_of_the_images_classes():
    """At the photo's own size: cells of four pixels each, probabilities all but flat within."""
    rough = np.zeros((2, 2, 5), np.float32)
    rough[..., 0] = 0.3
    rough[0, 0, 2], rough[0, 1, 4], rough[1, 0, 3] = 0.6, 0.5, 0.9
    own = labeller_of("masks_1", sharpen=False)
    pixels = np.zeros((8, 8, 3), np.uint8)
    found = own.finish(photo(1, 3, pixels=pixels), {"probabilities": rough}, {})["masks"]
    assert (found[:2, :2] == 2).all() and (found[:2, 6:] == 4).all() and not found[6:].any()
    sharp, plain = (labeller_of("masks_1", sharpen=x).settings for x in (True, False))
    assert repr(sharp) != repr(plain)


def test_masks_follow_the_photos_edges():
    pixels = np.full((24, 32, 3), 40, np.uint8)
    pixels[:, 13:] = 220
    rough = np.zeros((3, 4, 5), np.float32)
    rough[:, :2, 0], rough[:, 2:, 0] = 0.9, 0.1
    rough[..., 2] = 1 - rough[..., 0]
    changes = {"sharpen": True, "crf.bilateral": (10.0, 20.0, 10.0)}
    found = labeller_of("masks_1", **changes).finish(
        photo(1, pixels=pixels), {"probabilities": rough}, {}
    )["masks"]
    np.testing.assert_array_equal(found, np.where(np.arange(32) < 13, 0, 2) * np.ones((24, 1)))


@pytest.mark.parametrize("stage", ["refined_1", "masks_1"])
def test_options_of_the_crf_are_checked(stage):
    with pytest.raises(UserError, match=r"mcof\.crf: bilateral"):
        labeller_of(stage, **{"crf.bilateral": (1.0, 2.0)})


# ---------------------------------------------------------------- nobody sees the truth


class Sealed:
    """Photos of coloured squares whose boxes and masks must not be touched."""

    name, class_names = "train", ("a", "b", "c", "d")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        buffer = tiny_png(squares(24 + 4 * index))
        return Blind(f"id{index}", buffer, ((2,), (0, 3), (1,))[index])

    def mask(self, index):
        raise AssertionError("a mask was read for a label")


class Blind(Record):
    def __getattribute__(self, name):
        if name in ("boxes", "box_labels", "size"):
            raise AssertionError(f"{name} was read for a label")
        return super().__getattribute__(name)


def tiny_png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_no_truth_is_read_for_a_label(tmp_path):
    """Superpixels, saliency, seeds and the refined objects, as stages on photos."""
    place = lambda name, own: LabelFolder(tmp_path / name, own.products)
    first = {name: labeller_of(name, min_size=9) for name in ("superpixels", "saliency")}
    for name, own in first.items():
        make(tmp_path / name, Sealed(), labeller=own)
    cut = place("superpixels", first["superpixels"])

    def halves(photo, made, earlier):
        found = earlier["regions"]["regions"]
        return {"objects": np.where(found == found[0, 0], 1 + photo.labels[0], 0).astype(np.uint8)}

    objects = Labeller({"regions": "superpixels"}, {"objects": mask()}, None, halves, settings=1)
    make(tmp_path / "objects", Sealed(), labeller=objects, earlier={"regions": cut})
    own = labeller_of("refined_1")
    earlier = {"objects": place("objects", objects)}
    earlier["saliency"] = place("saliency", first["saliency"])
    found = make(tmp_path / "refined_1", Sealed(), labeller=own, earlier=earlier)
    assert found["images"] == 3
    for index, labels in enumerate(((2,), (0, 3), (1,))):
        values = set(np.unique(open_labels(tmp_path / "refined_1").read(f"id{index}")))
        assert values <= {0, *(1 + c for c in labels)}
    assert label_stage(tmp_path / "x", labeller=own, earlier=earlier).inputs().keys() == {
        "objects",
        "saliency",
        "settings",
        "labels",
    }
