"""Whole recipes in processes of their own: what each stage leaves, stopped, resumed, scored."""

import json
import re
import shutil
import signal

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from helpers.runs import LAST, figures_of, saved, step_of, whole_run
from helpers.voc import write_voc

from wsol_jax.evaluate import rescore
from wsol_jax.methods import two_phase
from wsol_jax.metrics.maps import prepare_map
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import open_run
from wsol_jax.stages.product import own_network

FIELDS = ("--config.model.final_endpoint=block_1", "--config.train.eval_epochs=0.0")


def words(workdir, *more, root=None, **options):
    return tiny.flags(root or tiny.data(), workdir, *FIELDS, *more, method="two_phase", **options)


def run(*args, **options):
    return whole_run(words(*args, **options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recipe that nothing disturbed; read it, do not write there."""
    workdir = tmp_path_factory.mktemp("stages")
    run(workdir)
    return workdir


@pytest.mark.slow
def test_the_recipe_leaves_its_folders_figures_and_pictures(finished):
    for name in ("first", "second"):
        assert saved(finished / name)[-1] == LAST
        assert [row["step"] for row in tiny.history(finished / name)] == list(range(1, LAST + 1))
    assert not (finished / "checkpoints").exists()
    hidden = [row["train/suppressed"] for row in tiny.history(finished / "second")]
    assert all(0 <= share <= 1 for share in hidden) and max(hidden) > 0
    assert "train/suppressed" not in tiny.history(finished / "first")[0]
    figures = tiny.metrics(finished)
    assert set(figures["test"]) == {"test"} and set(figures["parts"]) == {"first", "second"}
    assert set(figures["stages"]) == {"first", "second", "evaluate"}
    for name, part in figures["parts"].items():
        assert part["test"]["test"]["images"] == 4 and 0 <= part["threshold"] < 1
        assert 0 <= part["test"]["test"]["max_box_acc_v2"] <= 1
        assert (finished / "scores" / name / "test.npz").is_file()
        stage = figures["stages"][name]
        assert stage["steps"] == LAST and stage["train_seconds"] > 0
        assert stage["train/loss"] == tiny.history(finished / name)[-1]["train/loss"]
        assert stage == tiny.metrics(finished / name)
    trained = sum(figures["stages"][name]["train_seconds"] for name in ("first", "second"))
    assert figures["train_seconds"] == pytest.approx(trained)
    assert figures["seconds"] > figures["train_seconds"]
    page = (finished / "report.html").read_text()
    for name in ("first map", "hidden", "second map", "vote"):
        assert name in page
    for name in ("first", "second"):
        assert f"{name} \N{MIDDLE DOT} " in page  # the stages' curves


@pytest.mark.slow
def test_the_second_checkpoint_holds_the_first_network_as_it_was(finished):
    first, second = (tiny.arrays(finished / name, LAST) for name in ("first", "second"))
    held = {name: x for name, x in second.items() if "['first']" in name}
    own = {k: v for k, v in first.items() if k.startswith(("['params']", "['collections']"))}
    assert len(held) == len(own) > 20
    for name, value in own.items():
        kept = "['collections']['first']" + name.removeprefix("['collections']")
        np.testing.assert_array_equal(held[kept], value, err_msg=name)


@pytest.mark.slow
def test_a_finished_recipe_is_not_trained_again(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    files = [path for path in workdir.rglob("*/checkpoints/**/*") if path.is_file()]
    assert len(files) > 10
    before = {path: path.stat().st_mtime_ns for path in files}
    histories = [tiny.history(workdir / name) for name in ("first", "second")]
    (workdir / "report.html").unlink()
    done = run(workdir)
    for name in ("first", "second"):
        assert f"stage {name} was done: step {LAST}" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert [tiny.history(workdir / name) for name in ("first", "second")] == histories
    assert figures_of(workdir) == figures_of(finished)
    for name in ("first", "second"):
        assert tiny.metrics(workdir)["stages"][name] == tiny.metrics(finished)["stages"][name]
    assert (workdir / "report.html").is_file()


@pytest.mark.slow
def test_stopped_and_killed_within_the_second_stage(finished, tmp_path):
    """Goes on, and ends with an unbroken recipe's bits."""
    shutil.copytree(finished / "first", tmp_path / "first")
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "first/checkpoints").rglob("*")}
    second = tmp_path / "second"
    started = tiny.Run(words(tmp_path))
    started.until(lambda: step_of(second) >= 3)
    started.send(signal.SIGTERM)
    done = started.wait()
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "the same command goes on from there" in done.stderr.splitlines()[-1]
    stopped = saved(second)[-1]
    assert 3 <= stopped < LAST and not (second / "metrics.json").exists()
    # Half of a network is no network.
    done = tiny.run(words(tmp_path, "--stages=evaluate"))
    assert f"stage 'second' is not done (step {stopped} of {LAST}" in tiny.error_sentence(done)
    started = tiny.Run(words(tmp_path))
    started.until(lambda: step_of(second) > stopped)
    started.send(signal.SIGKILL)
    assert started.wait().returncode == -signal.SIGKILL
    done = run(tmp_path)
    assert f"stage first was done: step {LAST}" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in files} == files
    expected, found = tiny.arrays(finished / "second", LAST), tiny.arrays(second, LAST)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(second) == tiny.history(finished / "second")
    assert figures_of(tmp_path) == figures_of(finished)


@pytest.mark.slow
def test_first_trained_again_on_other_photos(finished, tmp_path):
    """The folder of photos has changed since (data.root may): first/ is removed and made anew."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    root = tmp_path / "data"
    shutil.copytree(tiny.data(), root)
    for path in (root / "train").rglob("*.jpg"):
        cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    shutil.rmtree(workdir / "first")
    run(workdir, "--stages=first", root=root)
    for stage in ("second", "evaluate"):
        done = tiny.run(words(workdir, f"--stages={stage}", root=root))
        sentence = tiny.error_sentence(done)
        assert "stage 'second' was trained with another network of stage 'first'" in sentence
        assert f"remove {workdir / 'second'} to train it again" in sentence
    # Another run's folder in its place is another config's: named before anything else.
    other = workdir / "first" / "config.json"
    other.write_text(other.read_text().replace('"seed": 0', '"seed": 1'))
    sentence = tiny.error_sentence(tiny.run(words(workdir, root=root)))
    assert "seed=1" in sentence and str(workdir / "first") in sentence


@pytest.mark.slow
def test_evaluate_mode_scores_the_recipe_again(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    (workdir / "metrics.json").unlink()
    done = tiny.run(["--mode=evaluate", f"--workdir={workdir}"])
    assert done.returncode == 0, done.stderr
    assert figures_of(workdir) == figures_of(finished)
    page = (workdir / "report.html").read_text()
    assert "second map" in page and "vote" in page
    assert "is not done" in tiny.error_sentence(
        tiny.run(words(tmp_path / "new", "--mode=evaluate"))
    )


@pytest.mark.slow
def test_predict_uses_the_vote(finished, tmp_path):
    photos = tiny.data() / "test"
    done = tiny.run(
        ["--mode=predict", f"--workdir={finished}", f"--images={photos}", f"--out={tmp_path}"]
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "predictions.json").read_text())
    assert len(result["images"]) == 4
    assert result["info"]["threshold"] == tiny.metrics(finished)["threshold"]
    config, _ = workdirs.load(finished / "second")
    opened = open_run(config, finished / "second")
    model = opened.config.model
    backbone, head = two_phase._parts(opened.config, len(tiny.CLASSES))
    network = two_phase.TwoPhaseNetwork(backbone, head, model.final_endpoint, model.preprocessing)
    own = own_network(opened.variables, ("first",))
    apart = []
    for image in result["images"]:
        pixels = cv2.imread(str(photos / image["file_name"]))[..., ::-1]
        small = jnp.asarray(cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_LINEAR)[None])
        names = [entry["name"] for entry in result["categories"]]
        best = names.index(image["classes"][0]["name"])
        weighted = []  # eq. 5
        for variables in (opened.variables["first"], own):
            logits, maps = (np.asarray(x[0], np.float64) for x in network.apply(variables, small))
            sure = np.exp(logits - logits.max())
            weighted.append(sure[best] / sure.sum() * np.maximum(maps[..., best], 0))
        heat = cv2.imread(str(tmp_path / "heatmaps" / f"{image['file_name']}.png"), -1) / 255.0
        maps = [prepare_map(x.astype(np.float32)) for x in (np.maximum(*weighted), *weighted)]
        vote, first, second = (np.abs(cv2.resize(x, (48, 48)) - heat).mean() for x in maps)
        assert vote < 0.02
        apart.append((first, second))
    assert (np.max(apart, axis=0) > 0.02).all(), apart


@pytest.mark.slow
def test_the_other_commands_find_the_network(finished, tmp_path):
    """describe before a run; wsol_jax.evaluate.__main__ and another threshold after it."""
    done = tiny.run(words(tmp_path / "d", "--mode=describe"))
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "d" / "describe.json").read_text())
    own = tiny.arrays(finished / "second", LAST)
    params = {k: v for k, v in own.items() if k.startswith("['params']")}
    assert list(described["stages"]) == ["first", "second"]
    assert described["stages"]["second"]["parameters"] == sum(x.size for x in params.values())
    assert "stage first:" in done.stdout and "stage second:" in done.stdout
    scored, _, step = rescore.rescore(finished)
    assert step == LAST
    test = tiny.metrics(finished)["test"]["test"]
    figures = scored["test"].figures(tiny.metrics(finished)["threshold"])
    for name in ("gt_known_loc", "max_box_acc", "max_box_acc_v2", "top1_acc"):
        assert figures[name] == test[name], name


@pytest.mark.slow
def test_three_phases(tmp_path):
    done = run(tmp_path, keys=",phases=3", epochs=1)
    assert [f"stage {name}: " in done.stderr for name in ("first", "second", "third")] == [True] * 3
    figures = tiny.metrics(tmp_path)
    assert set(figures["parts"]) == {"first", "second", "third"}
    assert set(figures["stages"]) == {"first", "second", "third", "evaluate"}
    page = (tmp_path / "report.html").read_text()
    for name in ("first map", "second map", "hidden", "third map", "vote"):
        assert name in page
    inputs = json.loads((tmp_path / "third" / "inputs.json").read_text())
    assert set(inputs) == {"first", "second"}
    assert inputs["first"] == json.loads((tmp_path / "second" / "inputs.json").read_text())["first"]
    assert run(tmp_path, keys=",phases=3", epochs=1).stderr.count("was done: step 3") == 3


@pytest.mark.slow
def test_several_labels_an_image(tmp_path):
    """A VOC folder: sigmoid scores, and the paper's three figures of the whole and its parts."""
    root = write_voc(tmp_path / "voc")
    more = ("--config.eval.tolerance=20.0", "--config.optimizer.head_lr=0.02")
    flags = words(tmp_path / "run", *more, epochs=2, keys=",test=val+val2")
    assert flags[0].count(f":folder,root={tiny.data()},boxes={tiny.data()}/boxes.csv") == 1
    place = f":folder,root={tiny.data()},boxes={tiny.data()}/boxes.csv"
    flags[0] = flags[0].replace(place, f":voc,root={root}")
    done = tiny.run(flags)
    assert done.returncode == 0, done.stderr
    figures = tiny.metrics(tmp_path / "run")
    names = {"saliency_ap", "saliency_ap_per_map", "location_map", "centre_location_map"}
    assert set(figures["test"]) == {"val", "val2", "val+val2"}
    assert figures["test"]["val+val2"]["images"] == figures["test"]["val"]["images"] == 5
    for entry in (figures, *figures["parts"].values()):
        for name in names | {"class_map"}:
            for one in entry["test"].values():
                assert 0 < one[name] <= 1, name
                low, high = one["intervals_95"][name]
                assert 0 <= low <= one[name] <= high <= 1
    whole = figures["test"]["val"]
    assert set(whole["by_class"]["location_ap"]) == {"bird", "cat", "dog"}
    assert 0 <= whole["peak_distance"] < np.hypot(48, 40)
    assert "peak_distance" not in figures["parts"]["first"]["test"]["val"]
    assert re.search("location.map", done.stdout, re.IGNORECASE)
    page = (tmp_path / "run" / "report.html").read_text()
    for name in ("first map", "hidden", "second map", "vote"):
        assert name in page
    before = figures_of(tmp_path / "run")
    done = tiny.run(["--mode=evaluate", f"--workdir={tmp_path / 'run'}"])
    assert done.returncode == 0, done.stderr
    assert figures_of(tmp_path / "run") == before
    out = tmp_path / "out"
    photos = root / "JPEGImages"
    done = tiny.run(
        ["--mode=predict", f"--workdir={tmp_path / 'run'}", f"--images={photos}", f"--out={out}"]
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 17
