"""Every command on runs, data and outputs in a store, on a machine with an empty cache."""

import json
import shutil

import pytest
import tiny
from helpers import fake_store
from helpers.runs import figures_of

pytestmark = pytest.mark.slow

RUN, PHOTOS, OUT = (f"fake://bucket/{name}" for name in ("runs/cam", "photos", "out"))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A store with photos, and with a run that was copied there by hand."""
    root = tmp_path_factory.mktemp("remote") / "store/bucket"
    shutil.copytree(tiny.data(), root / "photos")
    shutil.copytree(tiny.finished(), root / "runs/cam")
    return root


@pytest.fixture
def machine(bucket, tmp_path):
    return fake_store.Machine(bucket.parent, tmp_path / "cache")


def output_of(done):
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "/remote/" not in done.stdout, done.stdout  # the cache's paths are nobody's concern
    return done.stdout


def test_compare_and_report(bucket, machine):
    other = str(tiny.finished())
    said = output_of(machine.python("wsol_jax.compare", RUN, other, f"--out={OUT}/table.json"))
    local = machine.python("wsol_jax.compare", other, other)
    assert said == local.stdout
    assert "test" in json.loads((bucket / "out/table.json").read_text())
    assert not list(machine.cache.rglob("checkpoints"))
    words = [f"a={RUN}", f"b={other}", f"--out={OUT}/both.html"]
    said = output_of(machine.python("wsol_jax.report", *words))
    assert said.endswith(f"report: {OUT}/both.html\n")
    assert "<html" in (bucket / "out/both.html").read_text()


def test_predict(bucket, machine, tmp_path):
    words = ["--mode=predict", f"--images={PHOTOS}/test"]
    said = output_of(machine.run([*words, f"--workdir={RUN}", f"--out={OUT}/found"]))
    assert f"{OUT}/found/predictions.json" in said
    local = [*words[:1], f"--images={tiny.data()}/test", f"--workdir={tiny.finished()}"]
    assert tiny.run([*local, f"--out={tmp_path}/found"]).returncode == 0
    found, expected = (
        json.loads((place / "predictions.json").read_text())
        for place in (bucket / "out/found", tmp_path / "found")
    )
    assert found["info"].pop("description").startswith(f"wsol_jax cam, {RUN}, step ")
    expected["info"].pop("description")
    assert found == expected
    page = (bucket / "out/found/index.html").read_text()
    assert RUN in page
    assert str(machine.cache) not in page
    assert list(machine.cache.glob("remote/out/*")) == []


def test_evaluate_reads_and_writes(bucket, machine):
    words = [f"--workdir={RUN}", f"--out={OUT}/figures.json", f"--store_maps={OUT}/maps"]
    said = output_of(machine.python("wsol_jax.evaluate", *words))
    assert f"maps: {OUT}/maps/test" in said
    stored = [f"--scoremaps={OUT}/maps/test/scoremaps", f"--metadata={OUT}/maps/test/metadata"]
    said = output_of(machine.python("wsol_jax.evaluate", *stored))
    assert f"maps of {OUT}/maps/test/scoremaps" in said
    place = bucket / "runs/again"
    shutil.copytree(tiny.finished(), place)
    (place / "metrics.json").unlink()
    (place / "metrics.json.sha256").unlink()
    said = output_of(machine.run(["--mode=evaluate", "--workdir=fake://bucket/runs/again"]))
    assert "figures: fake://bucket/runs/again/metrics.json" in said
    assert figures_of(place) == figures_of(tiny.finished())


def test_training_on_remote_photos(bucket, machine):
    words = tiny.flags(PHOTOS, "fake://bucket/runs/there")
    output_of(machine.run(words))
    place = bucket / "runs/there"
    assert figures_of(place) == figures_of(tiny.finished())
    assert json.loads((place / "config.json").read_text())["config"]["data"]["root"] == PHOTOS
    page = (place / "report.html").read_text()
    assert str(machine.cache) not in page


def test_check_data_and_describe(bucket, machine):
    config = tiny.flags(PHOTOS, None)
    said = output_of(machine.run(["--mode=check_data", f"--out={OUT}/look", *config]))
    assert f"page: {OUT}/look/check_data.html" in said
    assert (bucket / "out/look/check_data.html").is_file()
    output_of(machine.run(["--mode=describe", f"--workdir={OUT}/sizes", *config]))
    assert json.loads((bucket / "out/sizes/describe.json").read_text())["classes"] == 3


def test_crf(bucket, machine):
    import numpy as np

    np.save(bucket / "probabilities.npy", np.full((48, 48, 2), 0.5, np.float32))
    photo = f"{PHOTOS}/test/ball/00.jpg"
    words = [photo, "fake://bucket/probabilities.npy", f"--out={OUT}/sharp.npy"]
    output_of(machine.python("wsol_jax.crf", *words, f"--labels={OUT}/sharp.png"))
    assert np.load(bucket / "out/sharp.npy").shape == (48, 48, 2)
    assert (bucket / "out/sharp.png").is_file()


def test_from_python(bucket, machine, tmp_path):
    script = tmp_path / "look.py"
    script.write_text(
        "import sys, wsol_jax\n"
        f"model = wsol_jax.load({RUN!r})\n"
        f"result = model({PHOTOS + '/test/ball/00.jpg'!r})\n"
        f"many = list(model({PHOTOS + '/test'!r}))\n"
        "print(model, result.name, len(many))\n"
        "try:\n"
        f"    result.save({OUT!r})\n"
        "except wsol_jax.UserError as error:\n"
        "    print(error)\n"
        "try:\n"
        f"    wsol_jax.load({PHOTOS!r})\n"
        "except wsol_jax.UserError as error:\n"
        "    print(error)\n"
    )
    said = output_of(machine.script(script)).splitlines()
    assert said[0].startswith(f"<cam of {RUN} at step ")
    assert said[0].endswith(" 00.jpg 4")
    assert said[1] == f"folder={OUT}: expected a path on this machine, not a URL."
    assert said[2].startswith(f"--workdir={PHOTOS} holds no run: {PHOTOS}/config.json is missing")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--mode=evaluate", f"--workdir={PHOTOS}"], f"--workdir={PHOTOS} holds no run"),
        (["--mode=evaluate", "--workdir=gs:/bucket/run"], "a URL has two slashes, as in gs://b"),
        (["--mode=evaluate", "--workdir=nosuch://b/r"], "fsspec knows no URLs of the kind nosuch"),
        (
            ["--mode=predict", f"--workdir={RUN}", "--images=fake://bucket/none", f"--out={OUT}"],
            "--images=fake://bucket/none: no such folder, or an empty one.",
        ),
        (
            ["--mode=predict", f"--workdir={RUN}", f"--images={PHOTOS}", "--out=fake://no/bucket"],
            "--out=fake://no/bucket cannot be written: there is no such bucket or folder.",
        ),
    ],
)
def test_refusals(machine, words, sentence):
    assert sentence in tiny.error_sentence(machine.run(words))


def test_a_remote_folder_of_photos_is_named_as_it_was_typed(bucket, machine):
    (bucket / "odd/train").mkdir(parents=True)
    (bucket / "odd/train/notes.txt").write_text("no photo")
    config = "--config=configs/cam.py:folder,root=fake://bucket/odd"
    sentence = tiny.error_sentence(machine.run(["--mode=check_data", config]))
    assert "fake://bucket/odd" in sentence
    assert str(machine.cache) not in sentence
