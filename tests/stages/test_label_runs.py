"""Runs of SEC: cues and the segmenter that trains on them, whole, killed and gone on with."""

import functools
import json
import shutil
import signal

import cv2
import jax
import numpy as np
import pytest
import tiny
from helpers.labels import content, cue_folder
from helpers.runs import figures_of, saved, start_pair, start_several, step_of, whole_run
from helpers.sec_runs import CELLS, words
from helpers.voc import write_voc
from PIL import Image

from wsol_jax import methods
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.index_png import voc_palette
from wsol_jax.data.pseudo_labels import open_labels
from wsol_jax.methods.taps import gradient_saliency
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import open_run
from wsol_jax.stages import recipe as stages

LAST = 6  # 12 photos, batches of 6, 3 epochs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc") / "voc")


def run(*args, **options):
    return whole_run(words(*args), **options)


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A run that nothing disturbed; read it, do not write there."""
    workdir = tmp_path_factory.mktemp("sec")
    run(root, workdir)
    return workdir


def start(finished, workdir, *names):
    """A run whose first stages are done."""
    for name in names:
        shutil.copytree(finished / name, workdir / name)
    return workdir


@pytest.mark.slow
def test_the_run_leaves_cues_figures_and_pictures(finished):
    cues = json.loads((finished / "cues" / "cues.json").read_text())
    assert set(content(finished / "cues")) == {f"{i:02}.png" for i in range(12)}
    assert cues["images"] == 12 and cues["size"] == CELLS
    assert cues["foreground"] + cues["background"] + cues["unlabelled"] == pytest.approx(1)
    assert min(cues["foreground"], cues["background"]) > 0
    assert saved(finished / "segment")[-1] == LAST
    rows = tiny.history(finished / "segment")
    assert {"train/seed", "train/expand", "train/constrain"} <= set(rows[0])
    inputs = json.loads((finished / "segment" / "inputs.json").read_text())
    assert inputs == {"cues": cues["sha256"]}
    figures = tiny.metrics(finished)
    assert set(figures["stages"]) == {"first", "cues", "segment", "evaluate"}
    assert set(figures["parts"]) == {"before_crf", "cam"}
    for entry in (figures, *figures["parts"].values()):
        scores = entry["test"]["val"]
        assert scores["images"] == 4  # the fifth has no mask
        assert 0 <= scores["miou"] <= 1 and 0 <= scores["pixel_accuracy"] <= 1
    for part in ("", "before_crf", "cam"):
        assert (finished / "scores" / part / "val.npz").is_file()
    page = (finished / "report.html").read_text()
    assert "cues" in page and "before the CRF" in page and "thresholded class maps" in page


@pytest.mark.slow
def test_cues_are_those_of_the_stages_network(finished, root):
    """From the checkpoint's maps and gradients, by loops in NumPy."""
    opened = open_run(stages.stage_config(_config_of(finished), "first"), finished / "first")
    train = opened.lists.train
    localize = jax.jit(opened.method.localize)
    explained = functools.partial(methods.Trained, opened.method)
    salient = jax.jit(lambda v, x: gradient_saliency(explained(v), x, "block_1_project"))

    def at_size(x):
        shape = (1, CELLS, CELLS, *x.shape[3:])
        return np.asarray(jax.image.resize(x, shape, "bilinear", antialias=False))

    different = 0
    for index in range(len(train)):
        pixels = cv2.imread(train[index].image)[..., ::-1]
        small = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_LINEAR)[None]
        maps = at_size(localize(opened.variables, small).maps)[0]
        height = at_size(salient(opened.variables, small))[0]
        expected = np.full((CELLS, CELLS), UNLABELLED)
        expected[height <= np.sort(height.ravel())[int(0.1 * CELLS**2)]] = 0
        sure = {
            c: maps[..., c] > 0.3 * maps[..., c].max()
            for c in train[index].labels
            if maps[..., c].max() > 0
        }
        for c in sorted(sure, key=lambda c: (-sure[c].sum(), -c)):  # the smallest last
            expected[sure[c]] = 1 + c
        cue = cue_folder(finished / "cues", CELLS).read(train[index].image_id)
        different += (expected != cue).sum()
    assert different <= 4  # of 432, by rounding


def _config_of(workdir):
    return workdirs.load(workdir)[0]


@pytest.mark.slow
def test_killed_among_the_cues(finished, root, tmp_path):
    start(finished, tmp_path, "first")
    patch = "helpers.patches:die_in_the_sixth_cue"
    done = tiny.run(words(root, tmp_path, "--stages=cues"), patch=patch)
    assert done.returncode == -signal.SIGKILL
    assert done.stderr.count("cues: compiling ...\n") == 1
    folder = tmp_path / "cues"
    assert len(content(folder)) == 5 and not (folder / "cues.json").exists()
    # Half of the cues are none.
    for stage in ("segment", "segment,evaluate"):
        sentence = tiny.error_sentence(tiny.run(words(root, tmp_path, f"--stages={stage}")))
        assert f"the labels in {folder} are not all made: run their stage first, --stages=cues" in (
            sentence
        )
        assert not (tmp_path / "segment" / "checkpoints").exists()
    times = {p: p.stat().st_mtime_ns for p in folder.glob("*.png")}
    run(root, tmp_path, "--stages=cues")
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert content(folder) == content(finished / "cues")
    for name in ("cues.json", "inputs.json"):
        assert (folder / name).read_bytes() == (finished / "cues" / name).read_bytes()
    times = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    done = run(root, tmp_path, "--stages=cues")
    assert "stage cues was done: 12 images" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in times} == times


@pytest.mark.slow
def test_the_segmenter_killed_and_gone_on_with(finished, root, tmp_path):
    """Ends with an unbroken run's bits."""
    start(finished, tmp_path, "first", "cues")
    folder = tmp_path / "segment"
    started = tiny.Run(words(root, tmp_path, "--stages=segment"))
    started.until(lambda: step_of(folder) >= 3 and saved(folder))
    started.send(signal.SIGKILL)
    assert started.wait().returncode == -signal.SIGKILL
    assert 0 < saved(folder)[-1] < LAST
    sentence = tiny.error_sentence(tiny.run(words(root, tmp_path, "--stages=evaluate")))
    assert f"stage 'segment' is not done (step {saved(folder)[-1]} of {LAST}" in sentence
    done = run(root, tmp_path)
    assert "goes on at step" in done.stderr and "stage cues was done" in done.stderr
    expected, found = tiny.arrays(finished / "segment", LAST), tiny.arrays(folder, LAST)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(folder) == tiny.history(finished / "segment")
    assert figures_of(tmp_path) == figures_of(finished)


@pytest.mark.slow
def test_cues_of_other_settings_labels_or_networks(finished, root, tmp_path):
    """Each is refused with a sentence, and what it advises helps."""
    workdir = start(finished, tmp_path / "run", "first", "cues", "segment")
    folder = workdir / "cues"
    before = content(folder)
    refusal = f"{folder} holds labels that were made of other networks, labels or settings"
    more = "--config.cues.foreground=0.6"
    assert refusal in tiny.error_sentence(tiny.run(words(root, workdir, more, "--stages=cues")))
    other = tmp_path / "voc"
    shutil.copytree(root, other)
    path = other / "Annotations" / "03.xml"
    path.write_text(path.read_text().replace("<name>bird</name>", "<name>cow</name>"))
    assert refusal in tiny.error_sentence(tiny.run(words(other, workdir, "--stages=cues")))
    assert content(folder) == before
    # Another threshold needs no other classifier: without the cues it makes them of the first.
    shutil.rmtree(folder)
    run(root, workdir, more, "--stages=cues")
    assert content(folder) != before
    # A part of the run does not take what the whole would refuse.
    for part in ("segment", "evaluate"):
        assert refusal in tiny.error_sentence(tiny.run(words(root, workdir, f"--stages={part}")))
    done = tiny.run(words(root, workdir, more, "--stages=segment"))
    assert "stage 'segment' was trained with other labels than" in tiny.error_sentence(done)
    # Nor do cues follow a network that is another now.
    for photo in (other / "JPEGImages").glob("*.jpg"):
        cv2.imwrite(str(photo), 255 - cv2.imread(str(photo)))
    shutil.rmtree(workdir / "first")
    run(other, workdir, more, "--stages=first")
    path.write_text((root / "Annotations" / "03.xml").read_text())
    assert refusal in tiny.error_sentence(tiny.run(words(other, workdir, more, "--stages=cues")))


@pytest.mark.slow
def test_a_damaged_cue_is_named(finished, root, tmp_path):
    start(finished, tmp_path, "first", "cues")
    path = tmp_path / "cues" / "07.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    done = tiny.run(words(root, tmp_path, "--stages=segment"))
    assert str(path) in tiny.error_sentence(done)
    path.unlink()
    done = tiny.run(words(root, tmp_path, "--stages=segment"))
    assert f"labels {path} and 0 more are missing: --stages=cues" in tiny.error_sentence(done)
    assert not saved(tmp_path / "segment")
    run(root, tmp_path, "--stages=cues")  # what the sentence advises
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_two_processes_write_the_cues_of_one(finished, root, tmp_path):
    start(finished, tmp_path, "first")
    for run in start_pair(words(root, tmp_path, "--stages=cues"), devices=2):
        done = run.wait(timeout=400)
        assert done.returncode == 0, done.stderr
        assert "4 device(s)" in done.stderr
    found, expected = content(tmp_path / "cues"), content(finished / "cues")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    summaries = [json.loads((w / "cues/cues.json").read_text()) for w in (tmp_path, finished)]
    assert summaries[0] == summaries[1]


@pytest.mark.slow
def test_two_processes_train_the_segmenter_of_one(finished, root, tmp_path):
    """Each reads its own rows' cues; a CRF for each photo, wherever it lies."""
    start(finished, tmp_path, "first", "cues")
    gentle = ("--config.stage.segment.sec.dropout=0.0",)
    whole = start(finished, tmp_path / "whole", "first", "cues")
    done = tiny.run(words(root, whole, "--stages=segment", *gentle))
    assert done.returncode == 0, done.stderr
    for one in start_pair(words(root, tmp_path, "--stages=segment", *gentle), devices=2):
        done = one.wait(timeout=400)
        assert done.returncode == 0, done.stderr
    rows, others = (tiny.history(w / "segment") for w in (whole, tmp_path))
    assert [row["step"] for row in rows] == list(range(1, LAST + 1))
    for row, other in zip(rows, others, strict=True):
        for name in ("train/loss", "train/seed", "train/expand", "train/constrain"):
            # The constrain loss is 1e-5 here, a thousandth of it the others' rounding.
            np.testing.assert_allclose(other[name], row[name], rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_four_processes_run_the_whole_recipe(root, tmp_path):
    """Two networks, cues between them, scores: as one process, but for the order of sums."""
    gentle = (
        "--config.stage.segment.sec.dropout=0.0",
        "--config.optimizer.backbone_lr=0.001",
        "--config.optimizer.head_lr=0.001",
        "--config.model.batch_norm=inference",
        "--config.model.dropout=0.0",
    )
    one, four = tmp_path / "one", tmp_path / "four"
    done = tiny.run(words(root, one, *gentle))
    assert done.returncode == 0, done.stderr
    ends = [run.wait(timeout=900) for run in start_several(words(root, four, *gentle), 4)]
    for done in ends:
        assert done.returncode == 0, done.stderr
        assert "4 device(s)" in done.stderr
    assert content(four / "cues").keys() == content(one / "cues").keys()
    for stage in ("first", "segment"):
        rows, others = (tiny.history(w / stage) for w in (one, four))
        assert [row["step"] for row in others] == [row["step"] for row in rows]
        np.testing.assert_allclose(others[0]["train/loss"], rows[0]["train/loss"], rtol=1e-3)
    figures, others = (tiny.metrics(w)["test"] for w in (one, four))
    assert figures.keys() == others.keys()
    for name, values in figures.items():
        for figure in ("images", "miou"):
            assert others[name][figure] == pytest.approx(values[figure], abs=0.02)


@pytest.mark.slow
def test_predict_leaves_a_mask_of_each_photo(finished, root, tmp_path):
    """Of the photo's own size, in VOC's colours; a photo larger than the CRF works on, too."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("00.jpg", "03.jpg"):
        shutil.copy(root / "JPEGImages" / name, photos)
    large = cv2.resize(cv2.imread(str(photos / "00.jpg")), (560, 60))
    cv2.imwrite(str(photos / "large.png"), large)
    out = tmp_path / "out"
    done = tiny.run(
        ["--mode=predict", f"--workdir={finished}", f"--images={photos}", f"--out={out}"]
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 3
    sizes = {"00.jpg": (48, 40), "03.jpg": (48, 40), "large.png": (560, 60)}
    for name, size in sizes.items():
        with Image.open(out / "masks" / f"{name}.png") as mask:
            assert mask.mode == "P" and mask.size == size
            palette = np.array(mask.getpalette(), np.uint8).reshape(-1, 3)
            classes = np.array(mask)
        np.testing.assert_array_equal(palette, voc_palette()[: len(palette)])
        assert classes.max() <= 20
    assert "segmentation" in (out / "index.html").read_text()


@pytest.mark.slow
def test_labels_and_a_further_stage_are_scored(finished, root, tmp_path):
    """eval.labels by a loop over the pixels; eval.stages as a run of that stage alone has it."""
    start(finished, tmp_path, "first", "cues", "segment")
    run(root, tmp_path, "--config.eval.labels=true", "--config.eval.stages=('first',)")
    figures, before = tiny.metrics(tmp_path), tiny.metrics(finished)
    assert figures_of(tmp_path) == figures_of(finished)
    folder = open_labels(tmp_path / "cues")
    hits, right = np.zeros((21, 21)), 0
    missed, seen = np.zeros(21), 0
    for i in range(12):
        with Image.open(root / f"SegmentationClass/{i:02}.png") as file:
            truth = np.array(file)
        cue = folder.read(f"{i:02}")
        for y, x in np.ndindex(*truth.shape):
            said = cue[int((y + 0.5) / 40 * CELLS), int((x + 0.5) / 48 * CELLS)]
            seen += 1
            if said == UNLABELLED:
                missed[truth[y, x]] += 1
            else:
                hits[truth[y, x], said] += 1
                right += truth[y, x] == said
    union = hits.sum(axis=0) + hits.sum(axis=1) + missed - np.diag(hits)
    found = figures["stages"]["cues"]["labels"]
    assert found["images"] == 12
    assert found["miou"] == pytest.approx(np.mean(np.diag(hits)[union > 0] / union[union > 0]))
    assert found["labelled"] == pytest.approx(hits.sum() / seen)
    assert found["accuracy"] == pytest.approx(right / hits.sum())
    assert "labels" not in before["stages"]["cues"] and "test" not in before["stages"]["first"]
    first = figures["stages"]["first"]
    assert first["steps"] == before["stages"]["first"]["steps"]
    assert set(first["test"]) == {"val"}
    assert (tmp_path / "first" / "scores" / "val.npz").is_file()
    alone = tmp_path / "alone"
    shutil.copytree(tmp_path / "first", alone)
    done = tiny.run(["--mode=evaluate", f"--workdir={alone}"])
    assert done.returncode == 0, done.stderr
    assert tiny.metrics(alone)["test"] == first["test"]
