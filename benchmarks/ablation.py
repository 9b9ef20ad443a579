"""Hide-and-Seek's ablations: a run of each row of the paper's tables, and both sides' figures.

    python benchmarks/ablation.py --data=embedded --tables=II,IV --out=runs/ablation
    python benchmarks/ablation.py --data=voc,root=VOC2012 --seeds=0,1 --out=runs/ablation_voc
    python benchmarks/ablation.py --out=runs/ablation --print-only

A row that several tables have is run once a seed; variants that differ in nothing but what happens
at test time are trained once. A finished run is left alone, an interrupted one goes on. Of each run
OUT/VARIANT/SEED is the workdir, OUT/VARIANT/SEED.log what it said; tables.md and tables.json have
the figures.
"""

import argparse
import importlib.metadata
import json
import pathlib
import platform
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.ablation_runs import Pool, Run, share_trainings
from benchmarks.ablation_tables import make_table, markdown, read_run
from configs import keywords
from configs.hide_and_seek import TABLES, VARIANTS, get_config
from wsol_jax.base import commands
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """The command's flags; ``tables``, ``seeds`` and ``flags`` as lists.

    Raises:
      UserError: an unknown table, or what is no seed.
    """
    parser = commands.Parser("ablation", __doc__)
    parser.prog = "python benchmarks/ablation.py"
    parser.add_argument("--data", default="", help="DATASET,key=value,... as after a config's path")
    parser.add_argument("--tables", default="I,II,III,IV,V,VI,VII", help="default %(default)s")
    parser.add_argument("--seeds", default="0", help="e.g. 0,1,2")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for all of it")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, sharing the cores")
    parser.add_argument(
        "--flags", action="append", default=[], help="a flag of every run; may be repeated"
    )
    parser.add_argument("--print-only", action="store_true", help="tables of what is finished")
    flags = parser.parse_args(arguments)
    flags.tables = list(dict.fromkeys(flags.tables.split(",")))
    for name in flags.tables:
        if name not in TABLES:
            raise UserError(f"--tables: no table {name!r}; there are {', '.join(TABLES)}.")
    if not re.fullmatch(r"\d+(,\d+)*", flags.seeds):
        raise UserError(f"--seeds={flags.seeds}: expected whole numbers, such as 0,1,2.")
    flags.seeds = list(dict.fromkeys(map(int, flags.seeds.split(","))))
    if flags.jobs < 1:
        raise UserError(f"--jobs={flags.jobs}: expected 1 or more.")
    # Values hold spaces and quotes of their own: only what begins with dashes is another flag.
    flags.flags = [flag for text in flags.flags for flag in re.split(r"\s+(?=--)", text.strip())]
    varied = {name for variant in VARIANTS.values() for name in variant.fields} | {"early_steps"}
    for flag in flags.flags:
        field = flag.partition("=")[0].removeprefix("--config.hide_and_seek.")
        if field in varied:
            raise UserError(f"--flags={flag}: the rows differ in {field}; it is theirs to set.")
    return flags


def main(arguments: Sequence[str]) -> int:
    """The command; 0, 1 where a run failed, or 2 after one sentence on what the user can mend."""
    failed: list[str] = []
    status = commands.run(lambda: failed.extend(_run(read_flags(arguments), arguments)))
    return status or min(len(failed), 1)


def _run(flags: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    """Runs what is missing and writes the tables; the sentences of the runs that failed."""
    settings = _settle(flags)
    runs = list_runs(flags, settings["data"])
    failed = [] if flags.print_only else Pool(settings, flags.jobs).run(share_trainings(runs))
    finished: dict[str, dict[int, pathlib.Path]] = {run.variant: {} for run in runs}
    for run in (run for run in runs if run.is_finished()):
        finished[run.variant][run.seed] = run.folder
    tables = {name: make_table(name, finished) for name in flags.tables}
    missing = [str(run) for run in runs if not run.is_finished()]
    text = _head(settings, flags.seeds, missing) + markdown(tables)
    print(text)
    packages = ("jax", "jaxlib", "flax", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    content = {
        "command": shlex.join(["python", "benchmarks/ablation.py", *arguments]),
        **settings,
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), **versions},
        "runs": {v: {s: read_run(f) for s, f in own.items()} for v, own in finished.items()},
        "missing": missing,
        "tables": tables,
    }
    write_whole(flags.out / "tables.md", text + "\n")
    write_whole(flags.out / "tables.json", json.dumps(content, indent=1) + "\n")
    return failed


def _settle(flags: argparse.Namespace) -> dict[str, Any]:
    """The data and the flags of every run in OUT, which are the same for all.

    Raises:
      UserError: OUT has runs of others, or print-only finds none.
    """
    path = flags.out / "ablation.json"
    before = json.loads(path.read_text()) if path.is_file() else None
    if flags.print_only:
        if before is None:
            raise UserError(f"--out={flags.out}: nothing was run there, {path} is missing.")
        return before
    if not flags.data:
        raise UserError("--data is missing: a data set, such as --data=voc,root=VOC2012.")
    now = {"data": flags.data, "flags": flags.flags}
    list_runs(flags, flags.data)  # a mistake in the data's keys comes before the first file
    if before not in (None, now) and any(flags.out.glob("*/**/checkpoints/[0-9]*")):
        raise UserError(
            f"--out={flags.out} has runs of --data={before['data']} with --flags="
            f"{before['flags']}: take another folder, or those."
        )
    write_whole(path, json.dumps(now, indent=1) + "\n")
    return now


def list_runs(flags: argparse.Namespace, data: str) -> list[Run]:
    """Each variant of the tables once a seed; the first seed of all before the second of any."""
    variants = dict.fromkeys(row.variant for name in flags.tables for row in TABLES[name])
    name, pairs = keywords.parse(data, {"crf": "hide_and_seek.crf"}, default="voc")
    words = ",".join([name, *(f"{key}={value}" for key, value in pairs.items() if key != "seed")])
    return [
        Run(
            variant,
            seed,
            get_config(f"{words},variant={variant},seed={seed}"),
            flags.out / variant / str(seed),
        )
        for seed in flags.seeds
        for variant in variants
    ]


def _head(settings: dict[str, Any], seeds: Sequence[int], missing: Sequence[str]) -> str:
    """What the tables are of."""
    words = shlex.join([f"--data={settings['data']}", *settings["flags"]])
    lines = [
        f"`{words}`, seeds {', '.join(map(str, seeds))}.",
        "Pixel accuracy / mean IoU in %; the paper's on VOC 2012 val. Ours: the mean of the seeds,",
        "lowest and highest in round brackets, 95% intervals over images in square ones.",
    ]
    if missing:
        lines.append(f"Not finished: {'; '.join(missing)}.")
    return "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the runs, as Ctrl-C does
    sys.exit(main(sys.argv[1:]))
