"""Figures of a list whose maps, boxes and masks are known, through the whole scoring pass."""

import dataclasses
import io
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image

from configs import common
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Record
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.evaluate.kind import Task
from wsol_jax.evaluate.score import score_list
from wsol_jax.methods import Localization
from wsol_jax.runs.opened import Network

SIDE = 56  # a quarter of the metrics' 224 pixels
# The object of image i, in pixels of the stored image: half, a third, and a corner of it.
BOXES = [(8, 12, 47, 43), (20, 4, 51, 27), (0, 0, 31, 31), (4, 24, 35, 51)]
LABELS = [0, 1, 2, 1]


def region(box):
    x0, y0, x1, y1 = box
    inside = np.zeros((SIDE, SIDE), bool)
    inside[y0 : y1 + 1, x0 : x1 + 1] = True
    return inside


@dataclasses.dataclass
class Scenes:
    """Black photos with the object bright in red, so that a method can see its truth."""

    truth: bool = True
    broken: tuple[int, ...] = ()
    name: str = "scenes"
    class_names: tuple[str, ...] = ("a", "b", "c")

    def __len__(self):
        return len(BOXES)

    def __getitem__(self, index):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[region(BOXES[index]), 0] = 255
        pixels[..., 1] = 80 * LABELS[index]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image = b"none" if index in self.broken else buffer.getvalue()
        known = dict(
            boxes=np.array([BOXES[index]], np.float32),
            box_labels=np.array([LABELS[index]], np.int32),
        )
        return Record(f"id{index}", image, (LABELS[index],), **(known if self.truth else {}))

    def mask(self, index):
        if not self.truth:
            return None
        return np.where(region(BOXES[index]), LABELS[index] + 1, 0).astype(np.uint8)


class Parted(Scenes):
    """The left half of each object is its easy part, its lowest rows the hard one."""

    def part_mask(self, index):
        x0, y0, x1, y1 = BOXES[index]
        parts = np.zeros((SIDE, SIDE), np.uint8)
        parts[y0 : y1 + 1, x0 : (x0 + x1 + 1) // 2] = 1
        parts[y1 - 3 : y1 + 1, x0 : x1 + 1] = 2
        return parts


def sees(wrong=(), flat=False):
    """A method that lights exactly the object, and names its class but in images ``wrong``."""

    def localize(variables, images):
        red, green = images[..., 0].astype(jnp.float32) / 255, images[:, 0, 0, 1]
        label = jnp.round(green / 80).astype(jnp.int32)
        named = label
        for i in wrong:
            x0, y0, x1, y1 = BOXES[i]
            one = jnp.all(images[:, y0 : y1 + 1, x0 : x1 + 1, 0] == 255, axis=(1, 2))
            area = jnp.sum(images[..., 0] == 255, axis=(1, 2)) == (x1 - x0 + 1) * (y1 - y0 + 1)
            named = jnp.where(one & area, (label + 1) % 3, named)
        maps = jnp.repeat(red[..., None] * (0.0 if flat else 1.0), 3, axis=-1)
        return Localization(jax.nn.one_hot(named, 3) * 9, maps)

    return types.SimpleNamespace(localize=localize)


def config(**changes):
    c = ml_collections.ConfigDict(common.base())
    c.data.crop, c.data.resize, c.eval.batch_size, c.data.threads = SIDE, SIDE, 3, 2
    c.update_from_flattened_dict(changes)
    return c


def score(method=None, source=None, threshold=0.5, **changes):
    network = Network(config(**changes), method or sees(), {}, sharding.data_mesh(1))
    thresholds = {} if threshold is None else {"": threshold}
    task = Task(thresholds=thresholds, central=np.array([0, 0, 223, 223]))
    return score_list(network, source or Scenes(), kinds.of(network), task)


@pytest.fixture(scope="module")
def perfect():
    return score()


def test_perfect_maps_score_one(perfect):
    figures = perfect.figures(0.5)
    for name in ("top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc", "gt_known_loc"):
        assert figures[name] == 1, name
    assert figures["max_box_acc"] == figures["max_box_acc_v2"] == 1
    assert figures["pxap"] > 0.98  # the bicubic edge of a map is not a pixel sharp
    assert figures["images"] == 4
    # The whole image against boxes of 41%, 24%, 33% and 29% of it.
    assert figures["central_box"] == 0
    assert 0.1 < figures["gaussian_pxap"] < 0.8
    assert figures["intervals_95"]["gt_known_loc"] == [1, 1]


def test_a_wrong_class_is_no_localization():
    figures = score(sees(wrong=(1,))).figures(0.5)
    assert figures["top1_acc"] == figures["top1_loc"] == 0.75
    # Three classes: the right one is among five.
    assert figures["top5_acc"] == figures["top5_loc"] == figures["gt_known_loc"] == 1


def test_the_maps_mass_on_each_telling_part(tmp_path, perfect):
    """A map that lights exactly the object has on a part the part's share of the object."""
    scores, flat = score(source=Parted()), score(sees(flat=True), Parted())
    figures, even = scores.figures(0.5), flat.figures(0.5)
    masks = [Parted().part_mask(i) for i in range(4)]
    for k, part in enumerate(("easy_part", "hard_part"), 1):
        own = np.array([(mask == k).sum() for mask in masks])
        objects = np.array([region(box).sum() for box in BOXES])
        assert figures[f"{part}_mass"] == pytest.approx((own / objects).mean(), rel=1e-6)
        area = own.mean() / SIDE**2
        assert figures[f"{part}_area"] == pytest.approx(area, rel=1e-9)
        assert even[f"{part}_mass"] == pytest.approx(area, rel=1e-9)
        low, high = figures["intervals_95"][f"{part}_mass"]
        assert low <= figures[f"{part}_mass"] <= high
    scores.save(tmp_path / "s.npz")
    again = BoxScores.load(tmp_path / "s.npz")
    assert again.figures(0.5) == figures == BoxScores().merge(again).figures(0.5)
    pair = BoxScores.paired([flat], [scores], ((0.5,), (0.5,)))["easy_part_mass"]
    assert pair.value == pytest.approx(figures["easy_part_mass"] - even["easy_part_mass"])
    assert pair.low <= pair.value <= pair.high
    assert not any("part" in name for name in perfect.figures(0.5))  # nobody knows its parts


def test_flat_maps_find_nothing():
    figures = score(sees(flat=True)).figures(0.5)
    assert figures["top1_acc"] == 1
    for name in ("top1_loc", "top5_loc", "gt_known_loc", "max_box_acc"):
        assert figures[name] == 0, name
    area = np.mean([region(b).mean() for b in BOXES])
    assert figures["pxap"] == pytest.approx(area, abs=1e-6)  # precision of lighting everything


def test_a_list_without_truth_has_no_figures_but_accuracy():
    figures = score(source=Scenes(truth=False)).figures(0.5)
    assert figures["top1_acc"] == 1
    for name in (
        "top1_loc",
        "gt_known_loc",
        "max_box_acc",
        "max_box_acc_v2",
        "pxap",
        "central_box",
        "gaussian_pxap",
    ):
        assert figures[name] is None, name


def test_without_a_threshold_top_k_localization_is_unknown():
    figures = score(threshold=None).figures(0.0)
    assert figures["top1_loc"] is None and figures["top1_acc"] == 1
    assert figures["max_box_acc"] == 1


def test_an_unreadable_image_is_left_out():
    scores = score(source=Scenes(broken=(2,)))
    assert scores.hits.images.ids() == ("id0", "id1", "id3")
    with pytest.raises(UserError, match="max_corrupt=0"):
        score(source=Scenes(broken=(2,)), **{"data.max_corrupt": 0})
    with pytest.raises(UserError, match=r"none of the 4 images of list .* can be read"):
        score(source=Scenes(broken=(0, 1, 2, 3)))


def test_save_load_and_merge_round_trip(perfect, tmp_path):
    perfect.save(tmp_path / "deep" / "scenes.npz")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["scenes.npz"]
    again = BoxScores.load(tmp_path / "deep" / "scenes.npz")
    assert again.figures(0.5) == perfect.figures(0.5)
    merged = perfect.merge(again)
    assert merged.figures(0.5) == perfect.figures(0.5)
    assert BoxScores().merge(perfect).figures(0.5) == perfect.figures(0.5)


def test_each_images_class_iou_and_truth_are_kept(tmp_path):
    """IoU 1 where the map lights exactly the object, at the run's threshold."""
    scores = score(sees(wrong=(1,)))
    scores.save(tmp_path / "s.npz")
    for kept in (scores, BoxScores.load(tmp_path / "s.npz")):
        assert kept.class_names == ("a", "b", "c")
        found = dict(kept.classes.items())
        assert [found[f"id{i}"][0] for i in range(4)] == LABELS
        assert [found[f"id{i}"][1] == LABELS[i] for i in range(4)] == [True, False, True, True]
        hits = np.array([v for _, v in kept.ious.items()]) >= 0.5
        np.testing.assert_array_equal(hits, kept.boxes.gt_known_hits(0.5))
        truth = dict(kept.truth.items())
        for i, box in enumerate(BOXES):
            np.testing.assert_array_equal(truth[f"id{i}"], [[4 * v for v in box]])
    assert len(score(threshold=None).ious) == len(score(source=Scenes(truth=False)).ious) == 0


def test_an_empty_score_saves_and_loads(tmp_path):
    BoxScores().save(tmp_path / "none.npz")
    figures = BoxScores.load(tmp_path / "none.npz").figures(0.5)
    assert figures["images"] == 0 and figures["gt_known_loc"] is None


# ---------------------------------------------------------------- scores of another classifier


def write(path, ids=None, probabilities=None, **more):
    ids = [f"id{i}" for i in range(4)] if ids is None else ids
    if probabilities is None:
        probabilities = np.eye(3, dtype=np.float32)[[(x + 1) % 3 for x in LABELS]]
    np.savez(path, image_ids=np.array(ids), probabilities=probabilities, **more)
    return {"eval.class_scores": str(path)}


def test_another_classifiers_scores_take_the_networks_place(tmp_path):
    """All wrong in the file: Top-1 is 0 though the network is right; boxes stay the network's."""
    figures = score(**write(tmp_path / "p.npz")).figures(0.5)
    assert figures["top1_acc"] == figures["top1_loc"] == 0
    assert figures["gt_known_loc"] == figures["top5_loc"] == 1


def test_rows_are_found_by_id_and_not_by_place(tmp_path):
    right = np.eye(3, dtype=np.float32)[LABELS][::-1]
    ids = [f"id{i}" for i in range(4)][::-1]
    figures = score(sees(wrong=(0, 1)), **write(tmp_path / "p.npz", ids, right)).figures(0.5)
    assert figures["top1_acc"] == figures["top1_loc"] == 1


def test_scores_of_other_images_are_not_used_and_said_so(tmp_path, caplog):
    given = write(tmp_path / "p.npz", [f"other{i}" for i in range(4)])
    with caplog.at_level("WARNING", logger="absl"):
        figures = score(**given).figures(0.5)
    assert figures["top1_acc"] == 1
    assert any("p.npz" in r.getMessage() and "scenes" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    "case", ["shape", "rows", "nan", "missing", "key", "absent", "npy", "torn", "text"]
)
def test_a_wrong_file_is_one_sentence(tmp_path, case):
    path = tmp_path / "p.npz"
    given = {"eval.class_scores": str(path)}
    match case:
        case "shape":
            write(path, probabilities=np.ones((4, 5), np.float32))
        case "rows":
            write(path, probabilities=np.ones((3, 3), np.float32))
        case "nan":
            write(path, probabilities=np.full((4, 3), np.nan, np.float32))
        case "missing":
            write(path, ["id0", "id1", "id2", "other"])
        case "key":
            np.savez(path, ids=np.arange(4))
        case "npy":
            with path.open("wb") as file:
                np.save(file, np.ones((4, 3)))
        case "torn":
            write(path)
            path.write_bytes(path.read_bytes()[:200])
        case "text":
            write(path, probabilities=np.full((4, 3), "high"))
    with pytest.raises(UserError, match=r"class_scores=.*p\.npz"):
        score(**given)
