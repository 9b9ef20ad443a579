"""A run's checkpoint scored by wsol_jax.evaluate.__main__, and its maps stored and scored again."""

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import types

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import tiny
from PIL import Image

from configs import common
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Record
from wsol_jax.evaluate import __main__ as evaluate
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.evaluate.kind import Task
from wsol_jax.evaluate.score import score_list
from wsol_jax.evaluate.stored.layout import read_metadata
from wsol_jax.evaluate.stored.summary import METRICS, summarise
from wsol_jax.evaluate.stored.write import MapStore
from wsol_jax.methods import Localization
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.report import comparison
from wsol_jax.report import saved as report
from wsol_jax.report.example import Run
from wsol_jax.runs.opened import Network


def command(*words):
    """The command in a fresh interpreter with one device, as the run had."""
    flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    return subprocess.run(
        [sys.executable, "-m", "wsol_jax.evaluate.__main__", *map(str, words)],
        cwd=tiny.ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )


def snapshot(folder):
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """What scoring the finished run with --store_maps printed and left."""
    root = tmp_path_factory.mktemp("stored")
    workdir = tiny.finished()
    before = snapshot(workdir)
    done = command(
        f"--workdir={workdir}", f"--store_maps={root / 'maps'}", f"--out={root / 'run.json'}"
    )
    assert done.returncode == 0, done.stderr
    assert snapshot(workdir) == before  # the run's folder is only read
    return root, done


def test_the_same_figures_as_training_reported(stored):
    root, done = stored
    found = json.loads((root / "run.json").read_text())["test"]
    told = tiny.metrics(tiny.finished())
    assert {"max_box_acc", "gt_known_loc", "top1_acc", "top5_loc"} <= set(found)
    for name, entry in found.items():
        assert entry["value"] == told["test"]["test"][name], name
        assert entry["interval"] == told["test"]["test"]["intervals_95"][name], name
    assert found["gt_known_loc"]["threshold"] == told["threshold"]
    assert "max_box_acc_v2" in done.stdout and str(root / "maps" / "test") in done.stdout


def test_stored_maps_give_the_same_figures(stored):
    root, _ = stored
    place = root / "maps" / "test"
    found = json.loads((root / "run.json").read_text())["test"]
    arguments = [
        f"--scoremaps={place / 'scoremaps'}",
        f"--metadata={place / 'metadata'}",
        f"--predictions={place / 'predictions.npz'}",
        f"--threshold={found['gt_known_loc']['threshold']}",
        f"--out={root / 'again.json'}",
    ]
    assert evaluate.main(arguments) == 0
    again = json.loads((root / "again.json").read_text())
    assert list(again) == list(found)
    for name, entry in found.items():
        for key in ("value", "interval", "images"):
            assert entry[key] == again[name][key], (name, key)


def test_the_layout_is_the_communitys(stored):
    place = stored[0] / "maps" / "test"
    metadata = read_metadata(place / "metadata")
    assert len(metadata.ids) == 4
    for image_id in metadata.ids:
        score_map = np.load(place / "scoremaps" / f"{image_id}.npy", allow_pickle=False)
        assert score_map.shape == (224, 224) and score_map.dtype == np.float32
        assert score_map.min() >= 0 and score_map.max() <= 1
    boxes = (place / "metadata" / "localization.txt").read_text()
    assert "." not in boxes.replace(".jpg", "")  # whole numbers, which others insist on


def test_a_store_in_use_and_other_mistakes(stored, capsys):
    root, _ = stored
    workdir = f"--workdir={tiny.finished()}"

    def refused(*words):
        assert evaluate.main(words) == 2
        return capsys.readouterr().err.splitlines()[-1]

    told = refused(workdir, f"--store_maps={root / 'maps'}")
    assert (
        told.startswith("error: ") and "not empty" in told and str(root / "maps" / "test") in told
    )
    assert "nothing" in refused(workdir, "--lists=nothing")
    told = refused(f"--workdir={root}")
    assert str(root) in told and "holds no run" in told
    assert "either" in refused(workdir, "--scoremaps=x")
    assert "--metadata goes with" in refused(workdir, "--metadata=x")
    assert "--map_dtype goes with" in refused(workdir, "--map_dtype=float16")


def test_half_precision_another_list_and_the_latest_checkpoint(tmp_path):
    arguments = [f"--workdir={tiny.finished()}", f"--store_maps={tmp_path / 'maps'}"]
    arguments += ["--map_dtype=float16", "--lists=tune", "--checkpoint=latest"]
    arguments += ["--metrics=max_box_acc", f"--out={tmp_path / 'run.json'}"]
    assert evaluate.main(arguments) == 0
    place = tmp_path / "maps" / "tune"
    arguments = [f"--scoremaps={place / 'scoremaps'}", f"--metadata={place / 'metadata'}"]
    assert evaluate.main([*arguments, f"--out={tmp_path / 'again.json'}"]) == 0
    first = next((place / "scoremaps").rglob("*.npy"))
    assert np.load(first).dtype == np.float16
    found = json.loads((tmp_path / "run.json").read_text())
    assert list(found) == ["tune"] and list(found["tune"]) == ["max_box_acc"]


def test_the_page_of_finished_runs_shows_all_of_their_images(tmp_path):
    """Two runs that differ: the images come from the kept maps, the photos from the data set."""
    one, other = tiny.finished(), tiny.copy_finished(tmp_path / "other")
    path = other / "scores" / "test.npz"
    scores = BoxScores.load(path)
    before = dict(scores.ious.items())
    scores.ious = PerImage((), np.float32)
    scores.ious.update(list(before), np.array([1 - v for v in before.values()]))
    scores.save(path)
    (other / "report_data.npz").unlink()
    report.save(str(other / "report_data.npz"), Run(tiny.metrics(one), [], 0.5))
    comparison.compare_workdirs(tmp_path / "both.html", [str(one), str(other)])
    text = (tmp_path / "both.html").read_text("utf-8")
    assert "not on this machine" not in text
    chosen = text.split('<section class="shelf" data-share="">')[1:]  # no draw
    shelf = [part.split("</section>")[0] for part in chosen]
    shown = [re.findall(r"</h4><code>(.*?)</code>", part) for part in shelf]
    gaps = {i: 1 - 2 * v for i, v in before.items()}
    ahead = sorted((i for i in gaps if gaps[i] > 0), key=lambda i: (-gaps[i], i))
    behind = sorted((i for i in gaps if gaps[i] < 0), key=lambda i: (gaps[i], i))
    assert shown == [x for x in (ahead, behind) if x]


SIDES = (56, 72)  # width and height of the photos below


@dataclasses.dataclass
class Scenes:
    """Photos of noise on a bright object, with boxes (some of halves), masks and awkward ids."""

    name: str = "scenes"
    class_names: tuple[str, ...] = tuple("abcdefg")

    def __len__(self):
        return 40

    def _scene(self, index):
        rng = np.random.default_rng(index)
        x0, y0 = rng.integers(0, 30, 2)
        x1, y1 = x0 + rng.integers(8, 26), y0 + rng.integers(8, 40)
        inside = np.zeros(SIDES[::-1], bool)
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
        return rng, (x0, y0, x1, y1), inside

    def __getitem__(self, index):
        rng, box, inside = self._scene(index)
        pixels = rng.integers(0, 160, (*SIDES[::-1], 3), dtype=np.uint8)
        pixels[inside, 0] += 60
        pixels[..., 1] = 30 * (index % 7) + (20 if index % 5 == 0 else 0)  # some are mistaken
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        other = (0, 0, *np.array(SIDES) - 1)
        boxes = np.array([box, other], np.float32) + np.float32(0.1 * (index % 2))
        boxes = np.minimum(boxes, np.array([*SIDES, *SIDES], np.float32) - 1)
        return Record(
            image_id=f"f {index % 3}/{index}, .png",
            image=buffer.getvalue(),
            labels=(index % 7,),
            boxes=boxes if index % 8 else boxes[:0],  # some boxes are unknown
            box_labels=np.array([index % 7, (index + 1) % 7], np.int32)[: 2 if index % 8 else 0],
        )

    def mask(self, index):
        rng, _, inside = self._scene(index)
        mask = np.where(inside, index % 7 + 1, 0).astype(np.uint8)
        mask[rng.random(mask.shape) < 0.1] = 255
        mask[:4] = (index + 1) % 7 + 1  # another class, which is background to this one
        return mask if index % 6 else None


def red_maps(variables, images):
    """Red is the map of every class; green names the class, rightly in most images."""
    red, green = images[..., 0].astype(jnp.float32) / 255, images[:, 30, 30, 1] / 30
    closeness = -jnp.square(jnp.arange(7) - green[:, None])
    return Localization(closeness, jnp.repeat(red[..., None], 7, axis=-1) - 0.3)


def test_the_round_trip_keeps_every_bit_of_every_figure(tmp_path, capsys):
    config = ml_collections.ConfigDict(common.base())
    config.data.crop, config.data.resize, config.eval.batch_size = 56, 56, 16
    config.data.threads = 2
    store = MapStore(tmp_path / "s", Scenes())
    method = types.SimpleNamespace(localize=red_maps)
    mesh = sharding.data_mesh(1)
    network = Network(config, method, {}, mesh)
    task = Task(thresholds={"": 0.55}, keep=store.keep)
    scores = score_list(network, Scenes(), kinds.of(network), task)
    store.finish()
    expected = summarise(METRICS, scores.boxes, scores.pixels, scores.hits, (0.55, "--threshold"))
    place = tmp_path / "s"
    arguments = [f"--scoremaps={place / 'scoremaps'}", f"--metadata={place / 'metadata'}"]
    arguments += [f"--masks={place / 'masks'}", f"--predictions={place / 'predictions.npz'}"]
    arguments += ["--threshold=0.55", f"--out={tmp_path / 'again.json'}"]
    assert evaluate.main(arguments) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert {name: entry | {"skipped": 0} for name, entry in expected.items()} == again
    assert [again[n]["images"] for n in ("max_box_acc", "pxap", "top1_acc")] == [35, 33, 40]
    for name in ("max_box_acc", "max_box_acc_v2", "gt_known_loc", "pxap", "top1_acc", "top1_loc"):
        assert 0.02 < again[name]["value"] < 0.98, name  # figures that a slip would change
    shown = capsys.readouterr().out
    assert "5 of 40 images have no box" in shown and "7 of 40 images have no mask" in shown


@pytest.mark.parametrize("image_id", ["../x", "/x", "a\nb"])
def test_an_id_that_leaves_the_store_is_refused(tmp_path, image_id):
    class Odd(Scenes):
        def __getitem__(self, index):
            return dataclasses.replace(super().__getitem__(index), image_id=image_id)

    store = MapStore(tmp_path / "s", Odd())
    image = types.SimpleNamespace(index=0)
    with pytest.raises(UserError, match="--store_maps"):
        store.keep(image, np.zeros((224, 224), np.float32))
    assert [p.name for p in tmp_path.rglob("*")] == ["s"]
