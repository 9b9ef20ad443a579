"""A run opened from Python: the same figures as the commands', and few surprises."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import tiny
from PIL import Image

import wsol_jax
from wsol_jax.api import answer, predict
from wsol_jax.evaluate.rescore import rescore
from wsol_jax.runs.figures import write as write_figures


@pytest.fixture(scope="module")
def model():
    return wsol_jax.load(tiny.finished())


@pytest.fixture(scope="module")
def files():
    return sorted((tiny.data() / "test").rglob("*.jpg"))


def same(a, b):
    np.testing.assert_array_equal(a.probabilities, b.probabilities)
    np.testing.assert_array_equal(a.heatmap, b.heatmap)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    assert a.labels == b.labels


def test_the_package_alone_loads_no_jax():
    code = "import sys, wsol_jax; assert 'jax' not in sys.modules; assert 'load' in dir(wsol_jax)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tiny.ROOT)


def test_predict_says_the_same_to_the_bit(model, files, tmp_path):
    content = predict.predict(tiny.finished(), tiny.data() / "test", tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == content
    results = list(model(tiny.data() / "test"))
    assert len(results) == len(files) == len(content["images"])
    for i, result in enumerate(results):
        (entry,) = [a for a in content["annotations"] if a["image_id"] == i + 1]
        assert entry["score"] == result.score
        x, y, width, height = entry["bbox"]
        np.testing.assert_allclose(
            [x, y, x + width, y + height], result.boxes[0], rtol=0, atol=0.011
        )
        stored = cv2.imread(str(tmp_path / "heatmaps" / f"{result.name}.png"), -1)
        np.testing.assert_array_equal(stored, np.floor(result.heatmap * 255))


def test_evaluate_scores_the_same_maps_to_the_bit(model, tmp_path):
    rescore(tiny.finished(), tests="test", store=tmp_path)
    right = 0
    for result in model(tiny.data() / "test"):
        truth = result.name.partition("/")[0]
        stored = np.load(tmp_path / "test" / "scoremaps" / f"test/{result.name}.npy")
        if truth == result.label:  # the stored map is the true class's
            right += 1
            np.testing.assert_array_equal(stored, result.score_maps[result.best])
    assert right


def test_a_list_a_folder_and_single_photos_agree(model, files):
    listed = model(files)
    assert isinstance(listed, list) and isinstance(model(files[0].parent), Iterator)
    for file, result in zip(files, listed, strict=True):
        alone = model(file)
        assert alone.labels == result.labels and alone.name in (file.name, result.name)
        np.testing.assert_allclose(alone.probabilities, result.probabilities, atol=1e-6)
        np.testing.assert_allclose(alone.heatmap, result.heatmap, atol=1e-4)


def test_paths_bytes_arrays_and_pillow_give_the_same(model, files):
    pixels = cv2.imread(str(files[0]))[..., ::-1]
    given = [str(files[0]), files[0].read_bytes(), pixels, Image.fromarray(pixels)]
    first, *others = map(model, given)
    for other in others:
        same(first, other)


def test_a_turned_photo_counts_in_its_turned_pixels(model, files, tmp_path):
    turned = Image.open(files[0]).resize((90, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "t.jpg", exif=exif)
    result = model(tmp_path / "t.jpg")
    assert result.size == (40, 90) and result.image.shape == (90, 40, 3)
    assert result.heatmap.shape == result.mask.shape == (90, 40)
    assert (result.boxes[:, 2:] <= (40, 90)).all()
    assert np.asarray(result.plot()).shape == (90, 40, 3)


def test_the_heat_of_any_class(model, files):
    result = model(files[0])
    for name in model.class_names:
        heat = model.heatmap(files[0], name)
        assert heat.shape == result.size[::-1] and heat.max() <= 1
    np.testing.assert_array_equal(model.heatmap(files[0]), result.heatmap)


def test_threads_share_a_model(model, files):
    alone, found = model(files), {}

    def look(number):
        found[number] = model(files)

    threads = [threading.Thread(target=look, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results in found.values():
        for a, b in zip(alone, results, strict=True):
            same(a, b)


def test_a_folder_is_read_as_it_is_asked_for(model, files, tmp_path, monkeypatch):
    for i in range(150):
        shutil.copy(files[0], tmp_path / f"{i:03}.jpg")
    answered = []
    real = answer.answer
    monkeypatch.setattr(answer, "answer", lambda *a: (answered.append(1), real(*a))[1])
    results = model(tmp_path)
    next(results)
    assert len(answered) < 100  # and not all 150 in memory
    results.close()


def test_unreadable_photos(model, files, tmp_path):
    shutil.copy(files[0], tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_bytes(files[0].read_bytes()[:100])
    assert [result.name for result in model(tmp_path)] == ["good.jpg"]
    for photos in (tmp_path / "bad.jpg", [tmp_path / "good.jpg", tmp_path / "bad.jpg"]):
        with pytest.raises(wsol_jax.UserError, match=r"bad\.jpg"):
            model(photos)
    assert model([]) == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, f: m("nowhere.jpg"), "nowhere"),
        (lambda m, f: m(f[0], threshold=1), "threshold"),
        (lambda m, f: m(f[0], classes=["zebra"]), "zebra"),
        (lambda m, f: m.heatmap(f[0], "zebra"), "zebra"),
        (lambda m, f: m(np.zeros((8, 8, 3))), "uint8"),
        (lambda m, f: m(f[0], threshold="high"), "threshold"),
        (lambda m, f: m.heatmap(f), "one photo"),
        (lambda m, f: m.heatmap(f[0].parent), "one photo"),
        (lambda m, f: wsol_jax.load(f[0].parent), "config.json"),
        (lambda m, f: wsol_jax.load(tiny.finished(), dtype="float8"), "dtype"),
        (lambda m, f: wsol_jax.load(tiny.finished(), checkpoint="bset"), "best"),
        (lambda m, f: wsol_jax.load(tiny.finished(), batch=-1), "batch"),
    ],
)
def test_mistakes_are_one_sentence(model, files, call, words):
    with pytest.raises(wsol_jax.UserError, match=words):
        call(model, files)


def test_half_precision_is_near(model, files):
    half = wsol_jax.load(tiny.finished(), dtype="bfloat16", batch=2)
    assert half(files[0]).score == pytest.approx(model(files[0]).score, abs=0.05)


def test_a_photo_that_is_gone_is_a_sentence(model, files, tmp_path):
    shutil.copy(files[0], tmp_path / "a.jpg")
    result = model(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(wsol_jax.UserError, match=r"a\.jpg"):
        result.plot()


def test_the_maps_are_those_that_the_threshold_was_chosen_on(tmp_path):
    workdir = tiny.copy_finished(tmp_path / "run")
    figures = {**tiny.metrics(workdir), "explain": {"name": "layer_cam", "layer": ""}}
    write_figures(workdir, figures)
    assert wsol_jax.load(workdir).config.eval.explain == "layer_cam"


def test_pictures_are_saved(model, files, tmp_path):
    paths = model(files[0]).save(tmp_path)
    assert {path.parent.name for path in paths} == {"heatmaps", "overlays", "masks"}
    assert all(path.stat().st_size for path in paths)


def test_training_from_python_is_the_commands(tmp_path):
    place = f"{tiny.ROOT}/configs/cam.py:folder,root={tiny.data()}"
    words = tiny.flags(tiny.data(), None, epochs=1)
    fields = {}
    for word in words[1:]:
        name, _, text = word.removeprefix("--config.").partition("=")
        fields[name] = json.loads(text) if text[:1].isdigit() else text
    config = words[0].removeprefix("--config=")
    assert config.startswith(place)
    figures = wsol_jax.train(config, tmp_path, fields)
    assert figures == tiny.metrics(tmp_path) and figures["steps"] > 0
    assert repr(wsol_jax.load(tmp_path)).startswith("<cam of")


@pytest.mark.parametrize(
    ("config", "fields", "words"),
    [
        ("configs/spgg.py:embedded", {}, "spg.py"),
        ("README.md", {}, "Python"),
        ("configs/common.py", {}, "get_config"),
        ("configs/cam.py:embeded", {}, "embedded"),
        ("configs/cam.py:embedded", {"train.epoch": 1}, "'train.epoch'; did you mean 'epochs'"),
        ("configs/cam.py:embedded", {"train.epochs": "many"}, "many"),
        ("configs/cam.py:embedded", {"data.name": "cub"}, "data set"),
    ],
)
def test_bad_configs_are_one_sentence(config, fields, words, tmp_path):
    with pytest.raises(wsol_jax.UserError, match=words):
        wsol_jax.train(config, tmp_path / "w", fields)
    assert not (tmp_path / "w").exists()


def test_a_map_that_is_flat_is_said(model, files, monkeypatch, caplog):
    """Without a word, a page of it looks like a defect."""
    assert model.heatmap(files[0]).any() and "no place speaks" not in caplog.text
    flat = np.zeros((1, 4, 4), np.float32)
    monkeypatch.setattr("wsol_jax.api.model.named.maps", lambda *given: flat)
    name = model.class_names[0]
    assert not model.heatmap(files[0], label=name, method="grad_cam").any()
    assert f"no place speaks for '{name}': its map is 0 all over" in caplog.text
