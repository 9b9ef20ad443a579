"""What SEC's constrain loss adds to its training step: the CRF inside it, and nothing else.

    python benchmarks/sec_step.py                    # the paper's: VGG16, 15 x 321 x 321
    python benchmarks/sec_step.py --backbone=mobilenet_v2 --batch=4

The step is the one that ``wsol_jax.main`` runs in the stage "segment" (41x41 maps of 21 classes, 10
iterations at 321 pixels), weights random; with all three losses and without the third, in turns.
The compiled programs are searched for calls to the host: there must be none.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from benchmarks import common, machine
from benchmarks.methods import setting_of, time_in_turns
from configs import sec
from wsol_jax.stages.sections import stage_config


def read_flags(argv=None):
    parser = common.make_parser(__doc__)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--batch", type=int, default=15)
    parser.add_argument("--size", type=int, default=321, help="pixels of the square image")
    parser.add_argument("--width", type=float, default=1.0, help="channel multiplier of the trunk")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="a round")
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
    setting = setting_of(flags)
    print(machine.heading(setting))
    times = time_in_turns(configs, flags, batch)
    row = common.Row(
        "SEC's step with its constrain loss", setting, *times.values(),
        against="the same without", compares="time",
    )  # fmt: skip
    print(row)
    machine.print_peak()
    common.write(flags, [row])


if __name__ == "__main__":
    main()
