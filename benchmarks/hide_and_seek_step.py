"""What the CRF adds to a step of Hide-and-Seek segmentation, on pixels and on cells.

    python benchmarks/hide_and_seek_step.py                 # the paper's: VGG16, batch 1 at 321
    python benchmarks/hide_and_seek_step.py --backbone=mobilenet_v2 --batch=4
    python benchmarks/hide_and_seek_step.py --masks=runs/hide_and_seek --photos=20

The step is the one that ``wsol_jax.main`` runs after the early steps, weights random: without a
CRF, with one on the mask's 41x41 cells (all pairs), and with one on the image's 321x321 pixels (the
lattice), in turns. The compiled programs are searched for calls to the host: there must be none.

``--masks`` asks a trained run instead how far the two CRFs' masks are apart: the share of cells
whose label differs, on the first photos of its first test list, with 41x41 cells.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common, machine
from benchmarks.methods import setting_of, time_in_turns
from configs import hide_and_seek
from wsol_jax import methods
from wsol_jax.data import transforms
from wsol_jax.data.decode import decode_rgb
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import open_run

CRFS = ("none", "cells", "image")


def read_flags(argv=None):
    parser = common.make_parser(__doc__)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=321, help="pixels of the square image")
    parser.add_argument("--width", type=float, default=1.0, help="channel multiplier of the trunk")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="a round")
    parser.add_argument("--masks", type=pathlib.Path, help="workdir of a trained run")
    parser.add_argument("--photos", type=int, default=20)
    return parser.parse_args(argv)


def make_config(flags, crf):
    """The paper's network and CRF, at its stride, whatever the trunk."""
    words = f"voc,backbone={flags.backbone},weights=none,batch={flags.batch},width={flags.width}"
    config = hide_and_seek.get_config(words)
    paper = hide_and_seek.get_config("voc").hide_and_seek
    with config.unlocked():
        at_paper_size(config, flags.size, crf)
        for name in ("dilation", "cam_dilation", "cam_size", "cam_stride"):
            config.hide_and_seek[name] = paper[name]
        config.model.freeze_until = ""
        config.hide_and_seek.early_steps = 0
        for rate in ("backbone_lr", "head_lr", "classifier_lr"):
            config.optimizer[rate] = 1e-7
    return config


def at_paper_size(config, size, crf):
    """Eight pixels a cell, fc6 as wide in pixels as it was, and the CRF that belongs to that."""
    own, stride = config.hide_and_seek, config.model.output_stride
    own.cam_size = int(own.cam_size)  # whatever the crop becomes
    own.crf, own.cells = crf, hide_and_seek.get_config("voc").hide_and_seek.cells
    own.dilation = own.dilation * stride // 8
    config.data.crop = config.data.resize = size
    config.model.output_stride = 8


def photos_of(flags):
    """A batch of smooth noise, of as many colours as a photo."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (flags.batch, flags.size // 16, flags.size // 16, 3))
    large = jax.image.resize(small, (flags.batch, flags.size, flags.size, 3), "cubic")
    labels = np.eye(flags.classes, dtype=np.float32)[np.arange(flags.batch) % flags.classes]
    return {
        "image": np.asarray(large).clip(0, 255).astype(np.uint8),
        "labels": labels,
        "valid": np.ones(flags.batch, bool),
        "index": np.arange(flags.batch, dtype=np.int32),
    }


def time_steps(flags):
    """Prints and returns a row for each CRF, and its share of the step."""
    times = time_in_turns({crf: make_config(flags, crf) for crf in CRFS}, flags, photos_of(flags))
    rows, shares = [], {}
    for crf in CRFS[1:]:
        rows.append(
            common.Row(
                f"Hide-and-Seek's step, CRF on {crf}",
                setting_of(flags),
                times[crf],
                times["none"],
                against="the same without",
                compares="time",
            )
        )
        shares[crf] = float(np.median(1 - times["none"] / times[crf]))
        print(f"{rows[-1]}; the CRF is {100 * shares[crf]:.0f} % of the step")
    machine.print_peak()
    return rows, {"crf_share": shares}


def compare_masks(flags):
    """Prints and returns how far the masks of a run's network are apart under the two CRFs."""
    config, names = workdirs.load(flags.masks)
    run = open_run(config, flags.masks)
    name, source = next(iter(run.lists.tests.items()))
    count = min(flags.photos, len(source))
    images = np.zeros((count, flags.size, flags.size, 3), np.uint8)
    labels = np.zeros((count, len(names)), np.float32)
    for row in range(count):
        record = source[row]
        photo = decode_rgb(record.image, record.image_id)
        images[row] = transforms.resize(photo, flags.size, flags.size)
        labels[row, list(record.labels)] = 1
    masks = {}
    for crf in CRFS:
        fine = config.copy_and_resolve_references()
        with fine.unlocked():
            at_paper_size(fine, flags.size, crf)
            fine.model.weights, fine.hide_and_seek.sure_masks = "", True
        method = methods.build(fine, len(names))
        call = jax.jit(lambda batch, method=method: _mask(method, run.variables, batch))
        rows = zip(images, labels, strict=True)
        masks[crf] = np.stack([np.asarray(call(_row(*row))) for row in rows])
    apart = lambda a, b: float(np.mean(masks[a] != masks[b]))
    found = {f"{a}, {b}": apart(a, b) for a, b in (("cells", "image"), ("none", "image"))}
    for pair, share in found.items():
        print(f"labels that differ between {pair}: {100 * share:.1f} % ({count} of {name})")
    return {"photos": count, "labels_that_differ": found}


def _row(image, labels):
    return {"image": image[None], "labels": labels[None], "valid": np.ones(1, bool)}


def _mask(method, variables, batch):
    late = jnp.int32(2**30)
    return method.loss(variables, batch, jax.random.key(0), late)[1].pictures["mask"].labels[0]


def main(argv=None):
    flags = read_flags(argv)
    print(machine.heading(setting_of(flags)))
    rows, found = ([], compare_masks(flags)) if flags.masks else time_steps(flags)
    common.write(flags, rows, **found)


if __name__ == "__main__":
    main()
