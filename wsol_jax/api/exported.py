"""A run's network as files that JAX alone runs, on CPU, GPU or TPU.

A folder of four: ``localize.stablehlo``, the function that jax.export serialised; its weights,
``weights.safetensors``, which are its arguments; ``model.json``, what goes in, what comes out and
what to do with it; and ``run.py``, which does that.
"""

import hashlib
import json
import os
import pathlib
import platform
from typing import NamedTuple, Protocol

import jax
import jax.export
import jaxlib
import numpy as np
import safetensors.numpy
from absl import logging

import wsol_jax
from wsol_jax import methods
from wsol_jax.api import run_exported
from wsol_jax.base import remote, target
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_out
from wsol_jax.base.types import Config, Json
from wsol_jax.data.pipeline import eval_size
from wsol_jax.evaluate import portable
from wsol_jax.evaluate.localize import Explained
from wsol_jax.evaluate.multi_label_scores import PRESENT
from wsol_jax.methods import Method, Segmentation, shared
from wsol_jax.metrics.maps import MAP_SIZE
from wsol_jax.runs import figures
from wsol_jax.runs.opened import Network
from wsol_jax.runs.plan import without_weights
from wsol_jax.runs.state import fingerprint

FORMAT = "wsol_jax export, version 1"
FUNCTION, WEIGHTS, MODEL, RUN = "localize.stablehlo", "weights.safetensors", "model.json", "run.py"
PLATFORMS = ("cpu", "cuda", "tpu")
_FILES = {FUNCTION, WEIGHTS, MODEL, RUN}
_NORMALISATIONS = {
    "tf": "x / 127.5 - 1",
    "torch": "(x - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375), RGB",
    "caffe": "BGR, less (103.939, 116.779, 123.68)",
}


class Opened(Protocol):
    """What ``wsol_jax.load`` gives: ``api.model.Model``, which is written on this module."""

    network: Network
    class_names: tuple[str, ...]
    threshold: float
    step: int
    workdir: pathlib.Path


def write(model: Opened, out: str | os.PathLike) -> pathlib.Path:
    """Writes a model as files that JAX alone runs; those of an earlier export are replaced.

    Args:
      model: what ``wsol_jax.load`` gives.
      out: the folder, no URL (``--mode=export`` takes one); made if absent.

    Raises:
      UserError: ``out`` is something else, or the model's method cannot be exported.
    """
    remote.refuse_url(out, "out")
    out = pathlib.Path(out)
    check_out(out)
    method, config = _portable_method(model)
    traced = _trace(method, config, model)
    arrays = {name: np.asarray(traced.weights[name], order="C") for name in sorted(traced.weights)}
    files = {
        FUNCTION: _serialize(traced.exported),
        WEIGHTS: safetensors.numpy.save(arrays, {"format": FORMAT}),
        RUN: pathlib.Path(run_exported.__file__).read_bytes(),
    }
    content = _describe(model, config, traced)
    content["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[MODEL] = json.dumps(content, indent=1).encode()  # last: it vouches for the others
    for name, data in files.items():
        write_out("--out", out / name, data)
    return out


def _serialize(function: jax.export.Exported) -> bytes:
    try:
        return bytes(function.serialize())
    except ImportError as error:  # JAX names its package for it
        raise UserError(
            "jax.export needs the package flatbuffers: pip install flatbuffers."
        ) from error


def check_out(out: pathlib.Path) -> None:
    """Raises UserError for a place that holds anything but an export, or cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in out.iterdir() if path.name not in _FILES)
        own = not others or FORMAT in (out / MODEL).read_text(errors="replace")
    except FileExistsError:
        raise UserError(f"--out={out}: it is a file, expected a folder.") from None
    except FileNotFoundError:
        own = False
    except OSError as error:
        raise UserError(f"--out={out}: {error.strerror or error}.") from None
    if not own:
        raise UserError(f"--out={out} holds {others[0]} and no export: take another folder.")
    if not os.access(out, os.W_OK):
        raise UserError(f"--out={out}: the folder cannot be written.")


class _Traced(NamedTuple):
    """The exported function, the weights that it takes, its input's side, what its maps are."""

    exported: jax.export.Exported
    weights: dict[str, np.ndarray]
    size: int
    segmenter: bool
    explained: list[str] | None


def _portable_method(model: Opened) -> tuple[Method, Config]:
    """The model's method at a dtype that no machine decides: float32, unless the run names one."""
    config, method = model.network.config.copy_and_resolve_references(), model.network.method
    if config.dtype == "auto":
        with config.unlocked():
            config.dtype = "float32"
        if jax.default_backend() != "cpu":  # where it was built for bfloat16
            method = methods.build(without_weights(config), len(model.class_names))
    return method, config


def _trace(method: Method, config: Config, model: Opened) -> _Traced:
    """Exports the method's ``portable.look`` for any batch; UserError where that cannot be."""
    variables, size = model.network.variables, eval_size(config)
    weights = {name: np.asarray(x) for name, x in portable.flatten(variables).items()}
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
    explained = Explained.of(model.network)
    explained = None if explained is None else [explained.name, explained.layer]
    shapes = {name: portable.shape_of(x) for name, x in weights.items()}
    call = portable.look(method, config, shapes, explained)
    try:
        with target.traced_for(target.EVERY):
            shapes = {name: shapes[name] for name in portable.used(call, shapes, images)}
            exported = jax.export.export(jax.jit(call), platforms=PLATFORMS)(shapes, images)
            maps = jax.eval_shape(method.localize, variables, images).maps
            segmenter = isinstance(maps, Segmentation) and explained is None
    except Exception as error:  # whatever a method of anyone's does that one program cannot
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        if "_DimExpr" in reason:
            reason = "it needs to know how many images there are, and an export takes any number"
        what = f"method {config.method!r}" if explained is None else f"eval.explain={explained[0]}"
        raise UserError(f"{what} cannot be exported: {reason}.") from error
    weights = {name: weights[name] for name in shapes}
    return _Traced(exported, weights, size, segmenter, explained)


def _describe(model: Opened, config: Config, traced: _Traced) -> dict[str, Json]:
    """The content of model.json but for the files' hashes."""
    found = figures.read(model.workdir) if model.workdir.is_dir() else None
    several = bool(config.data.multi_label)
    if config.eval.ten_crop:
        logging.warning("eval.ten_crop: the export's class scores are those of the whole photo")
    if config.eval.view != "whole":
        logging.warning("eval.view: the export is shown the whole photo")
    return {
        "format": FORMAT,
        "method": config.method,
        "classes": list(model.class_names),
        "several_classes_an_image": several,
        "segmenter": traced.segmenter,
        "threshold": model.threshold,
        "threshold_from": (found or {}).get("threshold_from", "no evaluation: the default"),
        "min_score": PRESENT if several else 0.0,
        "dtype": config.dtype,
        "explained": traced.explained,
        "input": _describe_input(config, traced.size),
        "outputs": _describe_outputs(config, traced),
        "decoding": _decoding(traced.segmenter, several),
        "function": {
            "file": FUNCTION,
            "call": "jax.export.deserialize(bytes).call(weights, images); weights by name",
            "platforms": list(PLATFORMS),
            "calling_convention": traced.exported.calling_convention_version,
        },
        "weights": {
            "file": WEIGHTS,
            "arrays": len(traced.weights),
            "parameters": sum(x.size for x in traced.weights.values()),
        },
        "checkpoint": {
            "step": model.step,
            "sha256": fingerprint(model.network.variables),
            "run": model.workdir.resolve().name,
        },
        "versions": {
            "wsol_jax": wsol_jax.__version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "config": _without_places(config),
    }


def _without_places(config: Config) -> dict[str, Json]:
    """The config as a dict, without where files lie on this machine."""
    config = without_weights(config)
    with config.unlocked():
        for name in ("root", "boxes", "coco", "labels", "masks"):
            config.data[name] = ""
    return config.to_dict()


def _describe_input(config: Config, size: int) -> dict[str, Json]:
    preprocessing = shared.preprocessing(config.model)
    return {
        "name": "images",
        "shape": ["b", size, size, 3],
        "dtype": "uint8",
        "size": size,
        "colours": "RGB, 0 to 255; an alpha channel is dropped",
        "orientation": "turned as the camera's EXIF says",
        "resize": f"the whole photo to {size} x {size}, its proportions lost: bilinear with "
        "half-pixel centres, or the mean over areas if a side shrinks by more than half (run.py)",
        "normalisation": f"inside the function: {_NORMALISATIONS[preprocessing]}",
    }


def _describe_outputs(config: Config, traced: _Traced) -> dict[str, Json]:
    meanings = {
        "probabilities": f"of each class, by {shared.score_kind(config)}",
        "maps": "of each class in each cell, cells stretched over the whole photo: "
        + (
            "its probability, before any CRF; background has what is left to 1"
            if traced.segmenter
            else "raw score, more is more object, of any range"
        ),
        "ranked": "the likeliest classes' indices, the likeliest first",
        "heat": "the maps of those classes, enlarged bicubically (OpenCV's, a = -0.75) to "
        f"{MAP_SIZE} x {MAP_SIZE} and stretched to [0, 1]",
    }
    names = jax.tree.unflatten(traced.exported.out_tree, traced.exported.out_avals)
    return {
        name: {
            "shape": [n if isinstance(n, int) else str(n) for n in x.shape],
            "dtype": str(x.dtype),
            "meaning": meanings[name],
        }
        for name, x in names.items()
    }


def _decoding(segmenter: bool, several: bool) -> dict[str, str]:
    """What ``predict`` does with the outputs, in words."""
    present = "all classes of min_score or more" if several else "the likeliest class"
    words = {
        "present": present,
        "box": "of floor(255 heat), what lies above int(threshold * its maximum); the largest "
        "8-connected region's bounding box, 1 cell wider and higher, within the map; scaled to the "
        "photo's pixels",
        "picture": "heat enlarged bilinearly to the photo",
    }
    if segmenter:
        words["mask"] = (
            "background = 1 - sum of maps; all enlarged bilinearly to the photo; argmax, 0 "
            "background, 1 + c class c. Not inside: the dense CRF of predict, section eval.crf of "
            "config (python -m wsol_jax.crf is one)"
        )
        words["present"] += ", where the mask has it"
        words["box"] = "of the largest region of the class in the mask"
    return words
