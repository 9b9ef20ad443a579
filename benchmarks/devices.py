"""What each method's published recipe asks of accelerators that are not here: docs/devices.md.

    pip install -e .[aot]
    python benchmarks/devices.py --topology=v5e:2x2
    python benchmarks/devices.py --topology=h100:8 --recipes=cam,spg --images=8 --out=h100.json

Compiles the training step of each recipe for the topology and prints two tables. The first is of
one chip, as compiled: memory, products, traffic, the least time of a step. The second is by
formula: the same images a chip on 1 to 256 chips, where a chip's step stays as it is and the sum of
the gradients over all chips is added to what may bind. A program takes one to five minutes of one
core; what was compiled before is found again. No time here was measured on an accelerator.
"""

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing runs on this machine's devices
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from wsol_jax.base.errors import UserError
from wsol_jax.data import sources
from wsol_jax.stages import ahead
from wsol_jax.stages.ahead.topology import Topology, parse
from wsol_jax.stages.sections import stage_config

# By name: the config's file, what stands behind it, and of a run in stages the training.
RECIPES = {
    "cam": ("cam", "cub", ""),
    "spg": ("spg", "cub", ""),
    "cams2i": ("cams2i", "cub", ""),
    "second": ("two_phase", "voc", "second"),
    "sec": ("sec", "voc", "segment"),
    "hide_and_seek": ("hide_and_seek", "voc", ""),
    "region_net": ("mcof", "voc", "region_1"),
    "pixel_net": ("mcof", "voc", "pixel_1"),
}
SLICES = {
    "v5e": ("1x1", "2x2", "4x4", "8x8", "16x16"),
    "v6e": ("1x1", "2x2", "4x4", "8x8", "16x16"),
    "v4": ("1x1x1", "2x2x1", "2x2x4", "4x4x4", "4x8x8"),
    "v5p": ("1x1x1", "2x2x1", "2x2x4", "4x4x4", "4x8x8"),
    "h100": ("1", "8", "16", "64", "256"),
    "a100": ("1", "8", "16", "64", "256"),
}


def read_flags(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:2x2", help="what is compiled for")
    parser.add_argument("--recipes", default="", help="some, by commas; none named: all")
    parser.add_argument("--images", type=int, default=0, help="a chip; 0: the published batch")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for the figures")
    return parser.parse_args(argv)


def step_of(recipe: str, topology: str, images: int) -> ahead.Step:
    """A recipe's step, compiled; ``images``: a chip, 0 for the published batch."""
    file, arg, stage = RECIPES[recipe]
    config = importlib.import_module(f"configs.{file}").get_config(arg)
    config = stage_config(config, stage) if stage else config
    if recipe == "spg":
        config.spg.c_layers = 1  # the code's network, as the rows in docs/devices.md
    if images:
        config.train.batch_size = images * parse(topology).count
    return ahead.compile_step(config, sources.DATASETS[config.data.name].classes, topology)


def chip_row(name: str, step: ahead.Step) -> str:
    """A row of the first table."""
    bound = step.floor
    return (
        f"| {name} | {step.rows} | {step.memory / 1e9:.2f} | {step.flops / 1e12:.2f} | "
        f"{step.traffic / 1e9:.1f} | {bound.products * 1e3:.1f} | {bound.memory * 1e3:.1f} | "
        f"{step.exchanged / 1e6:.0f} | {bound.interconnect * 1e3:.2f} | {bound.binds} | "
        f"{step.images_per_second:,.0f} |"
    )


def on(step: ahead.Step, place: Topology) -> ahead.Step:
    """The step with as many images a chip on another number of chips of the kind, by formula."""
    return dataclasses.replace(step, topology=place)


def scale_row(name: str, step: ahead.Step) -> str:
    """A row of the second table: images/s at best, and the sum's time against the chip's step."""
    cells = []
    for shape in SLICES[step.topology.kind]:
        bound = on(step, parse(f"{step.topology.kind}:{shape}"))
        alone = max(bound.floor.products, bound.floor.memory)
        share = f" ({bound.floor.interconnect / alone:.1%})" if bound.topology.count > 1 else ""
        cells.append(f"{bound.images_per_second:,.0f}{share}")
    return f"| {name}, {step.rows} | {' | '.join(cells)} |"


def main(argv=None):
    flags = read_flags(argv)
    kind, steps, rows = parse(flags.topology).kind, {}, {}
    recipes = flags.recipes.split(",") if flags.recipes else list(RECIPES)
    for name in recipes:
        if name not in RECIPES:
            raise UserError(f"--recipes: no {name!r}; known are {', '.join(RECIPES)}.")
    for name in recipes:
        try:
            steps[name] = step_of(name, flags.topology, flags.images)
            rows[name] = steps[name].to_json()
        except ahead.TooLarge as error:
            rows[name] = {"too_large": str(error)}
            print(error)
        if flags.out:  # after each, as the next takes minutes
            flags.out.write_text(json.dumps(rows, indent=1))
    print(
        f"\n{flags.topology}, a chip's step as compiled:\n\n| recipe | images | memory, GB | "
        "TFLOP | traffic, GB | products, ms | memory, ms | gradients, MB | their sum, ms | binds | "
        "images/s at best, all chips |\n" + "| --- " * 11 + "|"
    )
    print("\n".join(chip_row(name, step) for name, step in steps.items()))
    counts = [f"{parse(f'{kind}:{shape}').count}" for shape in SLICES[kind]]
    print(
        f"\nimages/s at best on so many chips of {kind} (the sum's time, in % of the rest):\n\n"
        f"| recipe, images a chip | {' | '.join(counts)} |\n{'| --- ' * (1 + len(counts))}|"
    )
    print("\n".join(scale_row(name, step) for name, step in steps.items()))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
