"""Compares runs: means over seeds, their spread, and a paired interval over images.

python -m wsol_jax.compare runs/cam0,runs/cam1,runs/cam2 runs/spg0,runs/spg1,runs/spg2
python -m wsol_jax.compare runs/two_phase:first runs/two_phase    a part against the whole
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from wsol_jax.base import commands, outputs
from wsol_jax.base.files import check_writable, write_out
from wsol_jax.base.text import printable
from wsol_jax.evaluate.compare import compare
from wsol_jax.evaluate.figures import COMPARED

_HELP = """
Every test list that all runs have scored gives a table, in %: the mean of each side's seeds, the
lowest and highest in round brackets (of one seed its 95% interval over images, in square ones), and
the difference of the means with its 95% interval over images. A list under whose name the runs
scored other images is not paired; where there is no other, the command refuses.
"""


# Of a side, or of the difference: figure -> its numbers by name.
Figures = Mapping[str, Mapping[str, float | Sequence[float]]]


def _parser() -> commands.Parser:
    parser = commands.Parser("compare", __doc__, _HELP)
    side = "workdirs of finished runs, the seeds of one side; WORKDIR:PART is a part of one"
    parser.add_argument("a", metavar="A1,A2,...", help=side)
    parser.add_argument("b", metavar="B1,B2,...", help="those of the other side")
    parser.add_argument("--out", metavar="FILE", help="the table's figures as JSON")
    return parser


def main(arguments: Sequence[str]) -> int:
    """The command; 0, or 2 after one sentence on what the user can mend."""
    return commands.run(lambda: _run(_parser().parse_args(arguments)))


def _run(flags: argparse.Namespace) -> None:
    with outputs.to_file("--out", flags.out) as out:
        if out:
            check_writable("--out", out)
        result = compare(flags.a.split(","), flags.b.split(","))
        print(table(result))
        if out:
            write_out("--out", out, json.dumps(result, indent=1))


def table(result: Mapping[str, Mapping[str, Figures]]) -> str:
    """``compare``'s result as text: means in %, their spread, paired differences."""
    lines = []
    for name, entry in result.items():
        unpaired = entry.get("not_paired", "")
        heads = f"{printable(name):26}{'a':>24}{'b':>24}"
        lines.append(heads if unpaired else f"{heads}{'b - a [95% over images]':>28}")
        for figure in COMPARED:
            if not any(figure in entry[side] for side in ("a", "b")):
                continue
            cells = [_cell(entry[side].get(figure)) for side in ("a", "b")]
            pair = entry["b-a"].get(figure)
            tail = (
                f"{100 * pair['value']:+.1f} {_ends(pair['interval_95'], '+.1f')}" if pair else ""
            )
            lines.append(f"  {figure:24}{cells[0]:>24}{cells[1]:>24}{tail:>28}".rstrip())
        if maps := entry.get("explained"):
            lines.append(f"maps: a {printable(maps['a'])}, b {printable(maps['b'])}")
        if unpaired:
            lines.append(f"not paired: {printable(unpaired)}")
    return "\n".join(lines)


def _cell(spread: Mapping[str, float | Sequence[float]] | None) -> str:
    """A side's figure: the seeds' mean and range, or one seed's interval over images."""
    if not spread:
        return "-"
    mean = f"{100 * spread['mean']:.1f}"
    if spread.get("seeds") == 1:
        return f"{mean} {_ends(spread['interval_95'])}" if "interval_95" in spread else mean
    return f"{mean} ({100 * spread['low']:.1f}-{100 * spread['high']:.1f})"


def _ends(interval: Sequence[float], form: str = ".1f") -> str:
    low, high = (format(100 * end, form) for end in interval)
    return f"[{low}, {high}]"


if __name__ == "__main__":
    commands.leave(main(sys.argv[1:]))
