"""Exports: the very answer of the run, in a process that has JAX and nothing of this package."""

import functools
import hashlib
import json
import re
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import tiny
from helpers import exported, mcof, networks
from PIL import Image
from safetensors.numpy import load_file

import wsol_jax
from wsol_jax import methods
from wsol_jax.api import run_exported
from wsol_jax.api.exported import FUNCTION, MODEL, WEIGHTS
from wsol_jax.data.pipeline import eval_size
from wsol_jax.data.transforms import resize
from wsol_jax.explain import named
from wsol_jax.metrics.boxes import boxes_from_score_map
from wsol_jax.metrics.maps import prepare_map

COUNTS = (1, 7)
SEGMENTERS = ("sec", "hide_and_seek", "pixel_net")
FAST = ("mobilenet_v2", "sec")
SLOW = (*networks.FILES, "two_phase", "hide_and_seek", "pixel_net", "layer_cam")
MODELS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


class Exports(dict):
    """By name, the export of a model, with what it says where wsol_jax cannot be imported."""

    def __init__(self, place):
        self.place = place

    def __missing__(self, name):
        group = FAST if name in FAST else SLOW
        for each in group:
            self[each] = self.place / each
            model = exported.model(each)
            assert model.export(self[each]) == self[each]
            side = eval_size(model.config)
            images = {str(count): exported.random_images(count, side) for count in COUNTS}
            np.savez(self[each] / "images.npz", **images)
        exported.look_elsewhere(*(self[each] for each in group))
        return self[name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The command's export of a finished run."""
    out = tmp_path_factory.mktemp("out") / "exported"
    done = tiny.run(["--mode=export", f"--workdir={tiny.finished()}", f"--out={out}"])
    assert done.returncode == 0, done.stderr
    assert "run.py" in done.stdout
    return out


def described(folder):
    return json.loads((folder / MODEL).read_text())


def assert_near(found, expected, share=1e-6):
    """Equal up to a share of the peak."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", MODELS)
def test_an_export_says_what_localize_says(folders, name, count):
    model, images = exported.model(name), np.load(folders[name] / "images.npz")[str(count)]
    method, variables = model.network.method, model.network.variables
    own = jax.jit(method.localize)(variables, images)
    maps = np.asarray(methods.plain_maps(own.maps))
    if name == "layer_cam":
        every = np.tile(np.arange(5, dtype=np.int32), (count, 1))
        maps = np.moveaxis(named.class_maps(method, variables, images, every, name), 1, -1)
    found = np.load(folders[name] / "found.npz")
    found = {key.partition("/")[2]: found[key] for key in found if key.startswith(f"{count}/")}
    assert_near(found["maps"], maps)
    logits = np.asarray(own.logits, np.float64)
    kind = "sigmoid" if name in (*SEGMENTERS, "two_phase") and model.several else "softmax"
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = odds / odds.sum(axis=1, keepdims=True)
    if kind == "sigmoid":
        expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    for row in range(count):
        order = np.argsort(-found["probabilities"][row], kind="stable")
        np.testing.assert_array_equal(found["ranked"][row], order)
        for place, index in enumerate(order):
            heat = prepare_map(found["maps"][row, ..., index])
            np.testing.assert_allclose(found["heat"][row, place], heat, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_one_file_is_for_every_platform(folders, name):
    function = jax.export.deserialize((folders[name] / FUNCTION).read_bytes())
    assert function.platforms == ("cpu", "cuda", "tpu")
    called = set(re.findall(r"custom_call @(\w+)", function.mlir_module()))
    assert called <= {"shape_assertion"}, called
    # No weight is a constant in it: it stays small, and others read them.
    assert len(function.mlir_module_serialized) < 200_000
    weights = load_file(folders[name] / WEIGHTS)
    assert (
        sum(w.size for w in weights.values()) == described(folders[name])["weights"]["parameters"]
    )


@pytest.mark.slow
def test_what_localize_does_not_read_is_left_out(folders):
    weights = load_file(folders["spg"] / WEIGHTS)
    assert "params/head/class_maps/kernel" in weights
    assert not [name for name in weights if "branches" in name]
    model = exported.model("spg")
    for name, array in weights.items():
        leaf = functools.reduce(
            lambda tree, key: tree[key], name.split("/"), model.network.variables
        )
        np.testing.assert_array_equal(array, leaf)


@pytest.mark.parametrize("name", MODELS)
def test_model_json_says_what_is_there(folders, name):
    folder, side = folders[name], eval_size(exported.model(name).config)
    content, found = described(folder), np.load(folder / "found.npz")
    assert content["classes"] == list(exported.CLASSES)
    assert content["segmenter"] == (name in SEGMENTERS)
    assert ("mask" in content["decoding"]) == (name in SEGMENTERS)
    assert content["explained"] == (["layer_cam", ""] if name == "layer_cam" else None)
    assert content["input"]["shape"] == ["b", side, side, 3]
    for output, words in content["outputs"].items():
        array = found[f"7/{output}"]
        assert words["shape"] == ["b", *array.shape[1:]] and words["dtype"] == str(array.dtype)
    for file, digest in content["files"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest


def test_the_command_says_how_the_threshold_was_chosen(written):
    content, figures = described(written), tiny.metrics(tiny.finished())
    assert content["threshold"] == figures["threshold"]
    assert content["threshold_from"] == figures["threshold_from"]
    assert content["checkpoint"]["step"] == figures["steps"]
    assert str(tiny.data()) not in json.dumps(content)


def test_run_py_finds_what_predict_finds(written, tmp_path):
    files = sorted((tiny.data() / "test").rglob("*.jpg"))
    large = cv2.resize(cv2.imread(str(files[0])), (150, 90))
    cv2.imwrite(str(tmp_path / "large.png"), large)
    files = [*map(str, files), str(tmp_path / "large.png")]
    code = "import sys, runpy; sys.modules.update(wsol_jax=None, flax=None, cv2=None)\n"
    code += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], {}, '__main__')"
    words = [sys.executable, "-c", code, str(written / "run.py"), *files]
    done = subprocess.run(words, check=True, cwd=tmp_path, capture_output=True, text=True)
    results = wsol_jax.load(tiny.finished())(files)
    for line, file, result in zip(done.stdout.splitlines(), files, results, strict=True):
        said, _, box = line.removeprefix(f"{file}: ").partition(", box ")
        label, score = said.split()
        assert label == result.label and float(score) == pytest.approx(result.score, abs=1e-4)
        cell = max(result.size) / 224  # of this network, whose maps are all but flat
        np.testing.assert_allclose(json.loads(box), result.boxes[0], atol=cell + 0.06)
        heat = np.asarray(
            Image.open(tmp_path / f"{file.rpartition('/')[2].partition('.')[0]}_heat.png")
        )
        assert heat.shape == result.heatmap.shape


def test_run_py_takes_a_segmenters_box_from_its_mask(tmp_path):
    exported.model("sec").export(tmp_path / "out")
    for number in range(4):
        pixels = exported.random_images(1 + number, 40)[0]
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(pixels, (90, 60)))
    words = [sys.executable, "out/run.py", *(f"{number}.png" for number in range(4))]
    done = subprocess.run(words, check=True, cwd=tmp_path, capture_output=True, text=True)
    boxes = 0
    for number, line in enumerate(done.stdout.splitlines()):
        said, _, box = line.removeprefix(f"{number}.png: ").partition(", ")
        mask = np.asarray(Image.open(tmp_path / f"{number}_mask.png"))
        region = mask == 1 + exported.CLASSES.index(said.split()[0])
        assert region.any() == box.startswith("box ")
        if region.any():
            small = cv2.resize(region.astype(np.float32), (224, 224), interpolation=0)
            expected = (boxes_from_score_map(small, [0.2])[0][0] + (0, 0, 1, 1)) / 224
            box = np.array(json.loads(box.removeprefix("box "))) / [90, 60, 90, 60]
            np.testing.assert_allclose(box, expected, atol=1.5 / 60)
            boxes += 1
    assert boxes


def test_run_py_says_which_photo_it_cannot_read(written, tmp_path):
    (tmp_path / "no.jpg").write_text("no photo")
    for name in ("no.jpg", "nowhere.jpg"):
        words = [sys.executable, str(written / "run.py"), name]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert f"error: {name} cannot be read: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (64, 63), (20, 31), (64, 33), (9, 5)])
def test_run_py_warps_as_this_package(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    found = run_exported.warp(Image.fromarray(pixels), 32)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, resize(pixels, 32, 32))


@pytest.mark.parametrize("size", [(65, 33), (128, 96), (500, 333)])
def test_run_py_averages_as_this_package(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    found = run_exported.warp(Image.fromarray(pixels), 32).astype(int)
    far = abs(found - resize(pixels, 32, 32))
    assert far.max() <= 1 and (far > 0).mean() < 0.01  # halves are rounded either way


def test_run_py_takes_the_box_that_this_package_takes():
    rng = np.random.default_rng(0)
    for threshold in (0.1, 0.3, 0.5, 0.7):
        heat = prepare_map(rng.random((7, 7)).astype(np.float32))
        (expected,) = boxes_from_score_map(heat, [threshold])[0] + (0, 0, 1, 1)
        found = run_exported.largest_box(heat, threshold) * 224
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert not run_exported.largest_box(np.zeros((224, 224), np.float32), 0.2).any()


def test_an_export_is_replaced_and_nothing_else(tmp_path):
    model = exported.model("mobilenet_v2")
    model.export(tmp_path / "out")
    (tmp_path / "out" / "model.onnx").write_text("beside it")
    (tmp_path / "out" / WEIGHTS).write_text("damaged")
    model.export(tmp_path / "out")
    assert load_file(tmp_path / "out" / WEIGHTS)
    shutil.copytree(tmp_path / "out", tmp_path / "half")
    (tmp_path / "half" / MODEL).unlink()
    with pytest.raises(wsol_jax.UserError, match=r"holds model\.onnx and no export"):
        model.export(tmp_path / "half")
    (tmp_path / "half" / "model.onnx").unlink()
    model.export(tmp_path / "half")  # what a killed export left
    (tmp_path / "file").write_text("x")
    with pytest.raises(wsol_jax.UserError, match="expected a folder"):
        model.export(tmp_path / "file")
    with pytest.raises(wsol_jax.UserError, match="out=memory://b/x: expected a path"):
        model.export("memory://b/x")


def counting(variables, images):
    """A method of somebody that asks how many images there are."""
    logits = np.zeros(len(images)) + images.mean()
    return methods.Localization(logits, images[..., :1])


def calling(variables, images):
    """A method of somebody that leaves the device."""
    shape = jax.ShapeDtypeStruct((1, 5), np.float32)
    logits = jax.pure_callback(lambda x: x, shape, np.zeros((1, 5), np.float32))
    return methods.Localization(logits, images[..., :1])


@pytest.mark.parametrize("localize", [counting, calling])
def test_a_method_that_cannot_be_exported_is_a_sentence(tmp_path, localize):
    method = methods.Method(None, None, None, localize)
    model = exported.model_of(
        networks.tiny("cam"), method, {"params": {"x": np.zeros(1, np.float32)}}
    )
    with pytest.raises(wsol_jax.UserError, match="method 'cam' cannot be exported: "):
        model.export(tmp_path / "out")


@pytest.mark.slow
def test_region_net_and_maps_by_trial_cannot_be_exported(tmp_path):
    method, variables = mcof.made("region_1")
    model = exported.model_of(mcof.tiny("region_1"), method, variables)
    with pytest.raises(wsol_jax.UserError, match=r"'region_net' cannot be exported: .*regions"):
        model.export(tmp_path / "out")
    config = networks.tiny("cam", **{"eval.explain": "score_cam"})
    model = exported.model_of(config, *networks.made("cam"))
    with pytest.raises(wsol_jax.UserError, match=r"explain=score_cam cannot .* any number\.$"):
        model.export(tmp_path / "out")


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], "--workdir"),
        (["--workdir=nowhere"], "--out"),
        (["--workdir=nowhere", "--out=out"], "nowhere"),
        (["--workdir=nowhere", "--out=out", "--threshold=0.5"], "--threshold"),
    ],
)
def test_mistakes_are_one_sentence(words, expected, tmp_path):
    words = [w.replace("=out", f"={tmp_path / 'out'}") for w in words]
    assert expected in tiny.error_sentence(tiny.run(["--mode=export", *words]))
    assert not (tmp_path / "out").exists()
