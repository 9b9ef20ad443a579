"""Converts an export to ONNX, and checks it: see to_onnx.sh, which makes the environment.

The function is built again from the export's config, not read from its StableHLO, which jax2onnx
does not take; the check is against that StableHLO.
"""

import argparse
import json
import logging
import pathlib
import sys
from collections.abc import Sequence

import jax
import jax.export
import numpy as np
import onnx
import onnxruntime
from jax.extend.core import jaxpr_as_fun
from jax2onnx import to_onnx
from jax2onnx.converter import ir_optimizations
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from wsol_jax import methods
from wsol_jax.base import target
from wsol_jax.evaluate import portable

TOLERANCE = 1e-4  # of an output's peak
_COUNTS = (1, 7)
# They mistake the layout of a residual's branches where a ReLU6 is between (jax2onnx 0.17.1:
# MobileNetV2); onnxruntime takes superfluous transposes out itself.
_WRONG_PASSES = "remove_redundant_transpose"


def main(words: Sequence[str] | None = None) -> int:
    """Writes DIR/model.onnx and prints how far it is from the export; 1 where that is too far."""
    parser = argparse.ArgumentParser(prog="to_onnx.sh", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="what --mode=export wrote")
    parser.add_argument("--opset", type=int, default=21, help="ONNX's version of operators")
    options = parser.parse_args(words)
    folder = options.folder
    if not (folder / "model.json").is_file():
        print(f"error: {folder} is no export: it has no model.json.", file=sys.stderr)
        return 2
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # of shapes that nobody asked for
    content = json.loads((folder / "model.json").read_text())
    weights = load_file(folder / "weights.safetensors")
    convert(folder / "model.onnx", content, weights, options.opset)
    size = (folder / "model.onnx").stat().st_size
    print(f"{folder / 'model.onnx'}: {size / 1e6:.1f} MB, opset {options.opset}")
    worst = check(folder, content, weights)
    if worst <= TOLERANCE:
        return 0
    (folder / "model.onnx").unlink()
    print(f"error: {worst:.1e} from the export, more than {TOLERANCE}: removed.", file=sys.stderr)
    return 1


def convert(path: pathlib.Path, content: dict, weights: dict[str, np.ndarray], opset: int) -> None:
    """Writes an export's function, its weights inside, for any number of photos.

    Args:
      content: of model.json.
    """
    config, side = ConfigDict(content["config"]), content["input"]["size"]
    method = methods.build(config, len(content["classes"]))
    images = jax.ShapeDtypeStruct((1, side, side, 3), np.uint8)
    shapes = portable.flatten(jax.eval_shape(method.init, jax.random.key(0), images))
    call = portable.look(method, config, shapes, content["explained"])
    names = sorted(content["outputs"])

    def outputs(images):
        found = call(weights, images)
        return tuple(found[name] for name in names)

    passes = ir_optimizations._OPTIMIZER_PASSES
    ir_optimizations._OPTIMIZER_PASSES = tuple(
        x for x in passes if not x.name.startswith(_WRONG_PASSES)
    )
    images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), side, side, 3), np.uint8)
    # A TPU's forms are XLA's own convolutions and windows, not those written out for CPU and GPU.
    with target.traced_for("tpu"):
        # Traced before jax2onnx puts functions of its own in Flax's place, of fewer options.
        traced = jax.make_jaxpr(outputs)(images)
    model = to_onnx(
        jaxpr_as_fun(traced),
        inputs=[images],
        model_name=content["method"],
        opset=opset,
        input_names=["images"],
        output_names=names,
    )
    pool_two_axes(model.graph)
    onnx.save(model, path)


def pool_two_axes(graph: onnx.GraphProto) -> None:
    """Rewrites, in place, pools over (1, 1, b, h, w, c) as such over (b, c, h, w).

    jax2onnx pools along all of an array's axes, b and c by windows of 1; onnxruntime takes three at
    most.
    """
    axes = onnx.numpy_helper.from_array(np.array([0, 1]), "pool_two_axes")
    nodes = []
    for number, node in enumerate(graph.node):
        options = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
        if not node.op_type.endswith("Pool") or len(options.get("kernel_shape", ())) != 4:
            nodes.append(node)
            continue
        # A value an axis, or the values before and then those behind.
        middle = lambda x: [*x[1:3], *x[5:7]] if isinstance(x, list) else x
        options = {name: middle(value) for name, value in options.items()}
        names = [f"{node.name}_{number}_{i}" for i in range(4)]
        nodes += [
            onnx.helper.make_node("Squeeze", [node.input[0], axes.name], names[:1]),
            onnx.helper.make_node("Transpose", names[:1], names[1:2], perm=(0, 3, 1, 2)),
            onnx.helper.make_node(node.op_type, names[1:2], names[2:3], **options),
            onnx.helper.make_node("Transpose", names[2:3], names[3:], perm=(0, 2, 3, 1)),
            onnx.helper.make_node("Unsqueeze", [names[3], axes.name], node.output),
        ]
    if len(nodes) > len(graph.node):
        graph.initializer.append(axes)
    del graph.node[:]
    graph.node.extend(nodes)


def check(folder: pathlib.Path, content: dict, weights: dict[str, np.ndarray]) -> float:
    """The largest difference between model.onnx and the export, as a share of an output's peak."""
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    network = jax.jit(jax.export.deserialize((folder / "localize.stablehlo").read_bytes()).call)
    names, side, worst = [x.name for x in session.get_outputs()], content["input"]["size"], 0.0
    for count in _COUNTS:
        images = _images(count, side)
        found = dict(zip(names, session.run(None, {"images": images}), strict=True))
        expected = {name: np.asarray(x) for name, x in network(weights, images).items()}
        # A map may be 0 all over.
        peaks = {name: np.abs(x).max() or 1.0 for name, x in expected.items()}
        far = {n: np.abs(found[n] - x).max() / peaks[n] for n, x in expected.items()}
        ranks = "unlike" if far.pop("ranked") else "as"
        words = ", ".join(f"{name} {value:.1e}" for name, value in far.items())
        print(f"{count} photos: {words} of the peak; ranked {ranks} the export")
        worst = float(np.max([worst, *far.values()]))  # a NaN stays one
    return worst


def _images(count: int, side: int) -> np.ndarray:
    """(count, side, side, 3) uint8 of soft blobs: of noise, a network's maps are all but flat."""
    cells = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3)).astype(np.float32)
    large = jax.image.resize(cells, (count, side, side, 3), "cubic")
    return np.clip(np.asarray(large), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
