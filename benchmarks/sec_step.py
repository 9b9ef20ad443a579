"""What SEC's constrain loss adds to its training step: the CRF inside it, and nothing else.

    python benchmarks/sec_step.py                    # the paper's: VGG16, 15 x 321 x 321
    python benchmarks/sec_step.py --backbone=mobilenet_v2 --batch=4

The step is the one that ``wsol_jax.main`` runs in the stage "segment" (41x41 maps of 21 classes, 10
iterations at 321 pixels), weights random; with all three losses and without the third, in turns.
The compiled programs are searched for calls to the host: there must be none.
"""

import argparse
import json
import pathlib
import platform
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from benchmarks.methods import time_in_turns
from configs import sec
from wsol_jax.stages.sections import stage_config


def read_flags(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--batch", type=int, default=15)
    parser.add_argument("--size", type=int, default=321, help="pixels of the square image")
    parser.add_argument("--width", type=float, default=1.0, help="channel multiplier of the trunk")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="a round")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for the figures")
    return parser.parse_args(argv)


def make_config(flags, constrain):
    """The segmentation stage on maps of 8 pixels a cell, whatever the trunk."""
    words = f"voc,backbone={flags.backbone},weights=none,batch={flags.batch},width={flags.width}"
    config = sec.get_config(words)
    with config.unlocked():
        config.stage.segment.sec.constrain = constrain
    config = stage_config(config, "segment")
    paper = sec.get_config("voc")
    with config.unlocked():
        config.data.crop = config.data.resize = flags.size
        config.sec.cells = paper.cues.size
        for field in ("channels", "dilation", "bilateral", "spatial"):
            config.sec[field] = paper.stage.segment.sec[field]
        config.model.output_stride = 8
        config.model.freeze_until, config.train.batch_size = "", flags.batch
        for rate in ("backbone_lr", "head_lr", "classifier_lr"):
            config.optimizer[rate] = 1e-7
    return config


def main(argv=None):
    flags = read_flags(argv)
    rng = np.random.default_rng(0)
    labels = np.eye(flags.classes, dtype=np.float32)[np.arange(flags.batch) % flags.classes]
    configs = {"all three": make_config(flags, 1.0), "without constrain": make_config(flags, 0.0)}
    cells = configs["all three"].sec.cells
    cues = np.full((flags.batch, cells, cells), 255, np.uint8)
    cues[:, ::3, ::3], cues[:, 1::5, 1::5] = 0, 1 + labels.argmax(-1)[:, None, None]
    small = rng.integers(0, 256, (flags.batch, flags.size // 16, flags.size // 16, 3))
    batch = {
        "image": np.asarray(
            jax.image.resize(small, (flags.batch, flags.size, flags.size, 3), "cubic")
        )
        .clip(0, 255)
        .astype(np.uint8),
        "labels": labels,
        "valid": np.ones(flags.batch, bool),
        "index": np.arange(flags.batch, dtype=np.int32),
        "cues": cues,
    }
    device = jax.devices()[0]
    print(f"{flags.backbone}, batch {flags.batch} at {flags.size}, {device.device_kind}")
    times = time_in_turns(configs, flags, batch)
    ratios = np.array(times["all three"]) / np.array(times["without constrain"])
    for name, values in times.items():
        print(f"{name}: {np.median(values):.3f} s a step")
    print(
        f"ratio with to without the constrain loss: {np.median(ratios):.2f}x "
        f"({ratios.min():.2f} to {ratios.max():.2f})"
    )
    memory = device.memory_stats()
    if memory:
        print(f"peak memory of the device: {memory['peak_bytes_in_use'] / 2**20:.0f} MiB")
    if flags.out:
        setting = {k: v for k, v in vars(flags).items() if k != "out"}
        where = {"device": device.device_kind, "machine": platform.machine()}
        found = {"jax": jax.__version__, "setting": setting, "seconds": times}
        found["ratio"] = float(np.median(ratios))
        flags.out.write_text(json.dumps({**where, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
