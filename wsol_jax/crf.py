"""Brings class probabilities to an image's edges with a dense CRF, on one image and no network.

python -m wsol_jax.crf IMAGE PROBS.npy --out=OUT.npy [--labels=OUT.png]
    [--bilateral=10,80,13] [--spatial=3,3] [--iterations=10] [--method=lattice]
"""

import argparse
import dataclasses
import io
import math
import pathlib
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from wsol_jax.base import commands, fetched, outputs
from wsol_jax.base.arrays import Header, Unreadable, read_npy
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_out
from wsol_jax.data.decode import CorruptImage, decode_rgb
from wsol_jax.ops.crf_settings import LEAST, MOST, MOST_ITERATIONS, CrfSettings

_CLIP = 1e-5  # as pydensecrf's unary_from_softmax has it
_KERNELS = {"bilateral": ("W", "SXY", "SRGB"), "spatial": ("W", "SXY")}
_MAX_EXACT = 10_000  # pixels: their kernel takes 400 MB

_HELP = """
PROBS.npy is (H, W, C), the classes last, of the image's height and width: probabilities in 0..1
that sum to 1 over the classes. Those below 1e-5 count as 1e-5. OUT.npy has the same shape, float32.

The CRF is that of Kraehenbuehl and Koltun 2011 with pydensecrf's semantics. --method=lattice is
pydensecrf's own approximation, for photos; --method=exact sums over all pairs of pixels, for small
images (10,000 pixels at most).
"""


def _parser() -> commands.Parser:
    parser = commands.Parser("crf", __doc__, _HELP)
    parser.add_argument("image", metavar="IMAGE", help="a photo; as stored, without EXIF's turn")
    parser.add_argument("probabilities", metavar="PROBS.npy", help="(H, W, C); no pickle is loaded")
    parser.add_argument("--out", metavar="OUT.npy", help="(H, W, C), whole or not at all")
    parser.add_argument("--labels", metavar="OUT.png", help="the likeliest class of each pixel")
    text = lambda numbers: ",".join(f"{number:g}" for number in numbers)
    for name, fields in _KERNELS.items():
        parser.add_argument(
            f"--{name}",
            default=text(getattr(CrfSettings, name)),
            metavar=",".join(fields),
            help="default %(default)s",
        )
    parser.add_argument(
        "--iterations",
        type=int,
        default=CrfSettings.iterations,
        metavar="N",
        help="default %(default)s",
    )
    parser.add_argument("--method", choices=("lattice", "exact"), default="lattice")
    return parser


def main(arguments: Sequence[str]) -> int:
    """The command; 0, or 2 after one sentence on what the user can mend."""
    return commands.run(lambda: _run(_parser().parse_args(arguments)))


def _run(flags: argparse.Namespace) -> None:
    settings = _settings(flags)
    if not flags.out and not flags.labels:
        raise UserError("name --out=OUT.npy, --labels=OUT.png or both.")
    with (
        outputs.to_file("--out", flags.out) as flags.out,
        outputs.to_file("--labels", flags.labels) as flags.labels,
    ):
        flags.image = str(fetched.local(flags.image, f"IMAGE={flags.image}"))
        name = f"PROBS.npy={flags.probabilities}"
        flags.probabilities = str(fetched.local(flags.probabilities, name))
        _sharpen(flags, settings)


def _sharpen(flags: argparse.Namespace, settings: CrfSettings) -> None:
    try:
        image = decode_rgb(flags.image, flags.image)
    except CorruptImage as error:
        raise UserError(f"{error}.") from None
    probabilities = _read(flags.probabilities, image)
    if flags.labels and probabilities.shape[-1] > 256:
        raise UserError(f"--labels holds 256 classes, not {probabilities.shape[-1]}.")
    pixels = math.prod(image.shape[:2])
    if flags.method == "exact" and pixels > _MAX_EXACT:
        raise UserError(
            f"--method=exact: the image has {pixels} pixels, expected {_MAX_EXACT} at most; "
            "--method=lattice has no such limit."
        )

    from wsol_jax.ops.crf import dense_crf

    try:
        found = dense_crf(
            -np.log(np.clip(probabilities, _CLIP, 1)),
            image,
            **dataclasses.asdict(settings),
        )
    except ValueError as error:  # deviations too small for this image
        raise UserError(f"--bilateral, --spatial: {error}.") from None
    found = np.asarray(found)
    if flags.out:
        buffer = io.BytesIO()
        np.save(buffer, found)
        _write("out", flags.out, buffer.getvalue())
    labels = found.argmax(-1)
    if flags.labels:
        _write("labels", flags.labels, cv2.imencode(".png", labels.astype(np.uint8))[1].tobytes())
    changed = np.mean(labels != probabilities.argmax(-1))
    print(f"{image.shape[0]}x{image.shape[1]} pixels, {found.shape[-1]} classes: ", end="")
    print(f"{100 * changed:.1f}% of the pixels have another class than before")


def _settings(flags: argparse.Namespace) -> CrfSettings:
    """The flags' settings; `CrfSettings` checks them, one flag at a time to name it."""
    found = CrfSettings(method=flags.method)
    for name, fields in _KERNELS.items():
        text = getattr(flags, name)
        try:
            values = tuple(map(float, text.split(",")))
        except ValueError:
            values = ()
        if len(values) != len(fields) or not all(map(math.isfinite, values)):
            raise UserError(f"--{name}={text}: expected {len(fields)} numbers {','.join(fields)}.")
        try:
            found = dataclasses.replace(found, **{name: values})
        except ValueError:
            span = f"W from 0 and the others from {LEAST:g}, {MOST:g} at most"
            raise UserError(f"--{name}={text}: expected {span}.") from None
    try:
        return dataclasses.replace(found, iterations=flags.iterations)
    except ValueError:
        raise UserError(
            f"--iterations={flags.iterations}: expected 0 to {MOST_ITERATIONS}."
        ) from None


def _read(path: str, image: np.ndarray) -> np.ndarray:
    """(H, W, C) float32 of the image's size, or UserError."""

    def check(header: Header) -> None:
        if header.dtype.kind != "f":
            raise Unreadable("expected one array of floating-point numbers")
        shape, size = header.shape, image.shape[:2]
        if len(shape) != 3 or shape[:2] != size or not shape[2]:
            hint = ". It has the classes first: move them last" if shape[1:] == size else ""
            raise Unreadable(
                f"shape {shape}, expected (H, W, C) = ({size[0]}, {size[1]}, classes), as the "
                f"image has {size[0]} rows and {size[1]} columns{hint}"
            )

    try:
        values = read_npy(path, check)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'no .npy file'}.") from None
    except Unreadable as error:
        raise UserError(f"{path}: {error}.") from None
    with np.errstate(over="ignore"):  # what overflows is infinity, which is refused
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: it holds NaN or infinity, expected probabilities in 0..1.")
    total = values.sum(-1)
    if values.min() < 0 or values.max() > 1.001 or np.abs(total - 1).max() > 0.01:
        raise UserError(
            f"{path}: expected probabilities in 0..1 that sum to 1 over the last axis; these lie "
            f"in {values.min():.3g}..{values.max():.3g} and sum to {total.min():.3g}.."
            f"{total.max():.3g}."
        )
    return values


def _write(flag: str, path: str, data: bytes) -> None:
    if pathlib.Path(path).is_dir():
        raise UserError(f"--{flag}={path}: it is a folder, expected a file.")
    write_out(f"--{flag}", path, data)


if __name__ == "__main__":
    commands.leave(main(sys.argv[1:]))
