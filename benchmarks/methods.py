"""What each method adds to a training step: its time over CAM's, on one trunk and one batch.

    python benchmarks/methods.py
    python benchmarks/methods.py --backbone=vgg16 --batch=2 --out=methods.json
    python benchmarks/methods.py --rows=CAMs2i --freeze     # one paper's, as on small photos

Every step is the one that ``wsol_jax.main`` runs: the config's method, compiled once, the state's
buffers donated, weights random. Rounds in turns; a method's ratio is the median over the rounds of
its time to CAM's in the same round. Of two-phase learning both phases are timed: what the second
takes longer than the first is the network that hides what it finds. CAMs2i's inter-sample criterion
is timed in each of its forms, and has its ratio to the intra part alone. The compiled programs are
searched for calls to the host, which would stall an accelerator: there must be none.
"""

import functools
import importlib
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import common, machine
from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.methods import shared
from wsol_jax.runs.plan import Plan, create_state, lower_step
from wsol_jax.stages.sections import stage_config

INTRA = "CAMs2i, intra"
# Rows: name, config, overrides of its fields.
ROWS = (
    ("CAM", "cam", {}),
    ("SPG", "spg", {}),
    (INTRA, "cams2i", {"cams2i.inter": False}),
    ("CAMs2i", "cams2i", {}),
    ("CAMs2i, images at 112", "cams2i", {"features.size": 112}),
    ("CAMs2i, images at 64", "cams2i", {"features.size": 64}),
    ("CAMs2i, features", "cams2i", {"cams2i.compare": "features"}),
    ("CAMs2i, trunk", "cams2i", {"cams2i.compare": "trunk"}),
    ("two-phase, first", "two_phase", {}),
    ("two-phase, second", "two_phase", {}),
)
# XLA's names for what leaves the device inside a program.
_HOST_CALL = re.compile(r"\b(infeed|outfeed|send|recv)\(|custom_call_target=\"[^\"]*callback")


def read_flags(argv=None):
    parser = common.make_parser(__doc__)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--batch", type=int, default=6, help="images; CAMs2i's pairs need 3 each")
    parser.add_argument("--size", type=int, default=224, help="pixels of the square image")
    parser.add_argument("--width", type=float, default=1.0, help="channel multiplier of the trunk")
    parser.add_argument("--head-channels", type=int, default=256)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="a round")
    parser.add_argument("--rows", default="", help="those whose names begin so; CAM is always one")
    parser.add_argument("--freeze", action="store_true", help="the trunk does not train")
    return parser.parse_args(argv)


def make_config(name, flags, overrides):
    """A method's CUB config on the same trunk, head width and batch for all."""
    get_config = importlib.import_module(f"configs.{name}").get_config
    config = get_config(f"cub,backbone={flags.backbone},weights=none,batch={flags.batch}")
    with config.unlocked():
        config.data.crop, config.model.width = flags.size, flags.width
        config.data.multi_label = False
        config.model.output_stride, config.model.head_layers = 16, 1
        config.model.head_channels, config.model.batch_norm = flags.head_channels, "inference"
        config.model.freeze_until = "all" if flags.freeze else ""
        if flags.backbone == "vgg16":
            config.model.final_endpoint, config.model.trunk = "conv5_3", {}
        config.optimizer.backbone_lr, config.optimizer.head_lr = 1e-7, 1e-6
        if name == "cams2i":
            config.features.backbone, config.features.width = flags.backbone, flags.width
            config.features.final_endpoint = config.model.final_endpoint
            config.features.weights, config.features.projection = "", 0
        config.model.dropout = 0.5
        if name == "spg":
            config.spg.channels, config.spg.c_layers = flags.head_channels, 1
        if name == "two_phase":
            config.two_phase.head = "cam"
        for path, value in overrides.items():
            section, field = path.split(".")
            config[section][field] = value
    return config


class Step:
    """One method's compiled step; call it to make one."""

    def __init__(self, config, flags, batch):
        mesh = sharding.data_mesh(1)
        method = methods.build(config, flags.classes)
        plan = Plan.of(config.train, 10_000, mesh)
        self.state, step, _ = create_state(config, method, plan, mesh)
        shapes = (plan, config, flags.classes, mesh, method.wants)
        self.compiled = lower_step(step, self.state, *shapes).compile()
        self.host_calls = len(_HOST_CALL.findall(self.compiled.as_text()))
        self.batch = sharding.to_devices(batch, mesh)

    def make(self, steps):
        for _ in range(steps):
            self.state, metrics = self.compiled(self.state, self.batch)
        float(metrics["loss"])

    def seconds(self, steps):
        return common.clock(lambda: self.make(steps))[0] / steps


def setting_of(flags):
    """A step's setting in words."""
    dtype = shared.compute_dtype("auto").name
    return f"{flags.backbone}, batch {flags.batch} at {flags.size}, {dtype}"


def time_in_turns(configs, flags, batch):
    """{name: seconds a step in each round}; ends the program where a step calls the host."""
    steps = {}
    for name, config in configs.items():
        steps[name] = Step(config, flags, batch)
        steps[name].seconds(1)
        print(f"  {name}: compiled, {steps[name].host_calls} calls to the host", flush=True)
    if any(step.host_calls for step in steps.values()):
        sys.exit("error: a step calls the host.")
    sides = {name: functools.partial(step.seconds, flags.steps) for name, step in steps.items()}
    return common.in_turns(sides, flags.rounds)


def main(argv=None):
    flags = read_flags(argv)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (flags.batch, flags.size, flags.size, 3), np.uint8),
        "labels": np.eye(flags.classes, dtype=np.float32)[np.arange(flags.batch) // 3],
        "valid": np.ones(flags.batch, bool),
        "index": np.arange(flags.batch, dtype=np.int32),
    }
    setting = setting_of(flags)
    print(machine.heading(setting))
    configs = {}
    for name, config_name, overrides in ROWS:
        if name != "CAM" and not name.startswith(flags.rows):
            continue
        config = make_config(config_name, flags, overrides)
        if config.stages:
            config = stage_config(config, name.split()[-1])
        configs[name] = config
    times = time_in_turns(configs, flags, batch)
    pairs = [(name, "CAM") for name in times if name != "CAM"]
    inter = [name for name, *_ in ROWS if name.startswith("CAMs2i") and name != INTRA]
    pairs += [(name, INTRA) for name in inter if {name, INTRA} <= set(times)]
    rows = [
        common.Row(
            f"a step of {name}", setting, times[name], times[other], against=f"{other}'s",
            compares="time",
        )
        for name, other in pairs
    ]  # fmt: skip
    for row in rows:
        print(row)
    shares = {}
    if "two-phase, second" in times:
        first, second = (times[f"two-phase, {n}"] for n in ("first", "second"))
        shares["suppression_share"] = share = float(np.median(1 - first / second))
        print(f"share of the suppressing network in a second-phase step: {100 * share:.0f} %")
    common.write(flags, rows, **shares)


if __name__ == "__main__":
    main()
