"""A table of docs/results.md once more: its runs over the seeds, then the paired comparisons.

    python benchmarks/reproduce.py --list
    python benchmarks/reproduce.py embedded --out=runs/embedded
    python benchmarks/reproduce.py photos --root=VOC2012 --weights=FILE --out=runs/photos

OUT/NAME0, OUT/NAME1, ... are the runs' workdirs. A finished run is left alone, an interrupted one
goes on. OUT/NAME0.made.json has the git revision of each time that it was begun or went on,
OUT/table.json the comparisons, each run's command with these revisions, and what ran where. Lists
of photos are your own (``wsol_train`` and so on below ImageSets of the VOC folder).
"""

import argparse
import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common, machine
from wsol_jax.base import commands
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole

_ONE = "voc,root={root},train=wsol_train,tune=wsol_tune,test=wsol_test+wsol_test_hard"
# Other data sets of the kind: two of its classes, the other three, and photos that it lacks.
_OTHERS = {
    "pets": "test=pets_test+pets_test_hard",
    "farm": "test=farm_test+farm_test_hard",
    "company": "test=company_test",
}
_SEVERAL = "voc,root={root},train=wsss_train,test=wsss_val"
_MOBILENET = ",backbone=mobilenet_v2,weights={weights}"
_PLACES = {"root": "ROOT", "weights": "FILE"}  # as the page has them
_SHRUNK = "--config.eval.tolerance=12"  # pixels: of photos whose long side is 320
_MEAN = "--config.eval.mean_classes=('cat','cow','dog','horse','sheep','person')"
_CUTS = "--config.eval.map_thresholds=(0.1,0.7)"
_VOTED_CUTS = "--config.eval.map_thresholds=(0.15,0.7)"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of docs/results.md.

    Attributes:
      section: where it stands there.
      runs: name -> a config's words and further flags; the seed comes behind the words.
      pairs: two sides that are compared, each a name or NAME:PART.
    """

    section: str
    runs: Mapping[str, Sequence[str]]
    pairs: Sequence[tuple[str, str]]

    @property
    def needs(self) -> list[str]:
        """The flags that it cannot do without."""
        text = " ".join(word for words in self.runs.values() for word in words)
        return [name for name in ("root", "weights") if f"{{{name}}}" in text]


TABLES = {
    "embedded": Table(
        "The embedded data",
        {name: (f"configs/{name}.py:embedded",) for name in ("cam", "spg")},
        [("cam", "spg")],
    ),
    "embedded_cams2i": Table(
        "CAMs2i and two-phase learning",
        {
            "cam": ("configs/cam.py:embedded",),
            "intra": ("configs/cams2i.py:embedded", "--config.cams2i.inter=false"),
            "cams2i": ("configs/cams2i.py:embedded",),
            "two_phase": ("configs/two_phase.py:embedded",),
        },
        [
            ("cam", "intra"),
            ("cam", "cams2i"),
            ("intra", "cams2i"),
            ("two_phase:first", "two_phase"),
        ],
    ),
    "embedded_parts": Table(
        "Two telling parts",
        {
            "cam": ("configs/cam.py:embedded,parts=2",),
            "two_phase": ("configs/two_phase.py:embedded,parts=2",),
        },
        [("two_phase:first", "two_phase"), ("cam", "two_phase")],
    ),
    "photos": Table(
        "Real photos, one label",
        {name: (f"configs/{name}.py:{_ONE}{_MOBILENET}",) for name in ("cam", "spg", "cams2i")},
        [("cam", "spg"), ("cam", "cams2i")],
    ),
    "photos_others": Table(
        "SPG on other data sets",
        {
            f"{method}_{name}": (
                f"configs/{method}.py:voc,root={{root}},train={name}_train,tune={name}_tune,{test}"
                f"{_MOBILENET}",
            )
            for name, test in _OTHERS.items()
            for method in ("cam", "spg")
        },
        [(f"cam_{name}", f"spg_{name}") for name in _OTHERS],
    ),
    "photos_inter": Table(
        "The inter-sample criterion",
        {
            "intra": (f"configs/cams2i.py:{_ONE}{_MOBILENET}",),
            "inter": (f"configs/cams2i.py:{_ONE}{_MOBILENET}", "--config.cams2i.inter=true"),
        },
        [("intra", "inter")],
    ),
    "photos_two_phase": Table(
        "Real photos, several labels",
        {"two_phase": (f"configs/two_phase.py:{_SEVERAL}{_MOBILENET}", _SHRUNK)},
        [("two_phase:first", "two_phase")],
    ),
    "photos_segmentation": Table(
        "Real photos, segmentation",
        {
            "sec": (f"configs/sec.py:{_SEVERAL}{_MOBILENET}", _CUTS, _MEAN),
            "two_phase": (
                f"configs/two_phase.py:{_SEVERAL}{_MOBILENET},segment=true",
                *(_VOTED_CUTS, _MEAN),
            ),
            "expand": (
                f"configs/two_phase.py:{_SEVERAL}{_MOBILENET},segment=true",
                *(_VOTED_CUTS, _MEAN, "--config.stage.segment.sec.expand=1.0"),
            ),
        },
        [
            ("sec:cam", "sec"),
            ("sec:before_crf", "sec"),
            ("sec", "two_phase"),
            ("sec", "expand"),
            ("sec:cam", "two_phase:cam"),
        ],
    ),
    "photos_ccnn": Table(
        "CCNN",
        {
            variant: (
                f"configs/ccnn.py:{_SEVERAL}{_MOBILENET},variant={variant}",
                _VOTED_CUTS,
                _MEAN,
            )
            for variant in ("plain", "two_phase")
        },
        [("plain", "two_phase"), ("plain:before_crf", "two_phase:before_crf")],
    ),
    "photos_hide_and_seek": Table(
        "Real photos, Hide-and-Seek segmentation",
        {
            variant: (f"configs/hide_and_seek.py:{_SEVERAL}{_MOBILENET},variant={variant}", _MEAN)
            for variant in ("one_cam", "full")
        },
        [("one_cam:before_crf", "full"), ("one_cam", "full")],
    ),
    "photos_mcof": Table(
        "Real photos, MCOF",
        {
            "sec": (f"configs/sec.py:{_SEVERAL}{_MOBILENET}", _CUTS, _MEAN),
            "mcof": (f"configs/mcof.py:{_SEVERAL}{_MOBILENET},rounds=3", _CUTS, _MEAN),
        },
        [("mcof/pixel_1", "mcof"), ("sec", "mcof")],
    ),
}


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """The command's flags; ``seeds`` as a list of texts.

    Raises:
      UserError: an unknown table, what is no seed, or a flag that the table needs.
    """
    parser = commands.Parser("reproduce", __doc__)
    parser.prog = "python benchmarks/reproduce.py"
    parser.add_argument("table", nargs="?", default="", help="a name of --list")
    parser.add_argument("--list", action="store_true", help="the tables, and end")
    parser.add_argument("--print-only", action="store_true", help="the commands, and end")
    parser.add_argument("--seeds", default="0,1,2", help="default %(default)s")
    parser.add_argument("--root", default="", help="a VOC2012 folder with the lists")
    parser.add_argument("--weights", default="", help="MobileNetV2's, a file")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/table"))
    flags = parser.parse_args(arguments)
    if flags.list:
        return flags
    if flags.table not in TABLES:
        wrong = f"no table {flags.table!r}" if flags.table else "name a table"
        raise UserError(f"{wrong}; there are {', '.join(TABLES)}.")
    seeds, flags.seeds = flags.seeds, flags.seeds.split(",")
    if not all(seed.isdecimal() for seed in flags.seeds):
        raise UserError(f"--seeds={seeds}: expected numbers, such as 0,1,2.")
    if len(set(flags.seeds)) < len(flags.seeds):
        raise UserError(f"--seeds={seeds}: one is there twice, and would count as two runs.")
    for name in TABLES[flags.table].needs:
        if not getattr(flags, name):
            if not flags.print_only:
                raise UserError(f"--{name}: table {flags.table!r} needs it.")
            setattr(flags, name, _PLACES[name])
    return flags


def trainings(flags: argparse.Namespace) -> dict[pathlib.Path, list[str]]:
    """Workdir -> the words that train and score it."""
    found = {}
    for name, words in TABLES[flags.table].runs.items():
        for seed in flags.seeds:
            config, *more = (w.format(root=flags.root, weights=flags.weights) for w in words)
            workdir = flags.out / f"{name}{seed}"
            own = [f"--config={config},seed={seed}", *more, f"--workdir={workdir}"]
            found[workdir] = ["-m", "wsol_jax.main", *own]
    return found


def comparisons(flags: argparse.Namespace) -> dict[str, list[str]]:
    """ "A against B" -> the words that compare them."""
    found = {}
    for pair in TABLES[flags.table].pairs:
        sides = []
        for side in pair:
            name, mark, part = side.partition(":")
            name, slash, stage = name.partition("/")
            each = (f"{flags.out / name}{s}{slash}{stage}{mark}{part}" for s in flags.seeds)
            sides.append(",".join(each))
        file = flags.out / f"compare{len(found)}.json"
        words = ["-m", "wsol_jax.compare", *sides, f"--out={file}"]
        found[f"{pair[1]} against {pair[0]}"] = words
    return found


def run(words: Sequence[str]) -> None:
    """Runs Python with these words; what it prints goes where ours does.

    Raises:
      UserError: it failed.
    """
    print(f"\npython {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, *words]).returncode
    if status:
        raise UserError(f"the command above ended with status {status}; the same table goes on.")


def _revision() -> dict[str, Any] | None:
    return machine.git(pathlib.Path(__file__).parent)


def reproduce(flags: argparse.Namespace) -> None:
    """Makes the runs and the comparisons of a table."""
    content: dict[str, Any] = {
        "table": flags.table,
        "date": common.now(),
        "git": _revision(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "runs": {},
        "comparisons": {},
    }
    # As on the page, without this machine's paths.
    places = _PLACES | {"out": pathlib.Path("runs")}
    shown = trainings(argparse.Namespace(**vars(flags) | places)).values()
    for (workdir, words), command in zip(trainings(flags).items(), shown, strict=True):
        stamp = flags.out / f"{workdir.name}.made.json"
        made = json.loads(stamp.read_text()) if stamp.is_file() else []
        if not (workdir / "metrics.json").is_file():
            # Now, and not when the table began: the code may have changed since.
            made.append({"git": _revision(), "date": common.now()})
            flags.out.mkdir(parents=True, exist_ok=True)
            write_whole(stamp, json.dumps(made) + "\n")
            run(words)
        content["runs"][workdir.name] = {"command": f"python {shlex.join(command)}", "made": made}
    for title, words in comparisons(flags).items():
        run(words)
        file = pathlib.Path(words[-1].partition("=")[2])
        content["comparisons"][title] = json.loads(file.read_text())
    path = flags.out / "table.json"
    write_whole(path, json.dumps(content, indent=1) + "\n")
    print(f"\n{path}")


def main(arguments: Sequence[str]) -> int:
    """The command; 0, or 2 after one sentence on what the user can mend."""

    def work() -> None:
        flags = read_flags(arguments)
        if flags.list:
            for name, table in TABLES.items():
                needs = "".join(f" --{flag}" for flag in table.needs)
                print(f"{name}: {table.section} ({', '.join(table.runs)}){needs}")
        elif flags.print_only:
            for words in (*trainings(flags).values(), *comparisons(flags).values()):
                print(f"python {shlex.join(words)}")
        else:
            reproduce(flags)

    return commands.run(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
