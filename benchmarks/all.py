"""Every benchmark that this machine can run, one after another: a table, and one JSON file.

    python benchmarks/all.py --out=runs/benchmarks.json
    python benchmarks/all.py --only=crf,segments --segmenter=RUN
    python benchmarks/all.py --quick

What cannot run here (a peer's package, data or a run that is missing) is told and skipped. Each
script is a process of its own with a time limit; its log and its own figures lie in a folder beside
the JSON file, which is written anew after each. benchmarks/README.md says how to send figures.
"""

import argparse
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common, machine
from benchmarks.process import call, last_line
from benchmarks.suite import SUITE, Benchmark, Platform
from wsol_jax.base import commands
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_writable, write_out
from wsol_jax.base.progress import Progress

FOLDER = pathlib.Path(__file__).resolve().parent
DATA = ("run", "segmenter", "images", "root")
DONE, FAILED, SKIPPED = "done", "failed", "skipped"
COLUMNS = ("what", "setting", "ours", "peer", "ratio", "spread")
# In a process of its own: this one takes no memory of a GPU.
_PROBE = """
import json, jax
found = {"name": jax.default_backend(), "devices": [d.device_kind for d in jax.devices()]}
try:
    import torch
    found["torch_gpu"] = torch.cuda.is_available()
except ImportError:
    pass
print(json.dumps(found))
"""


def read_flags(arguments: Sequence[str], suite: Sequence[Benchmark]) -> argparse.Namespace:
    """The command's flags; ``only`` and ``skip`` as lists.

    Raises:
      UserError: an unknown benchmark, data that are not there, a file that cannot be written.
    """
    parser = commands.Parser("all", __doc__)
    parser.prog = "python benchmarks/all.py"
    parser.add_argument("--only", default="", help="benchmarks or scripts, e.g. crf,train_step")
    parser.add_argument("--skip", default="", help="the same, left out")
    parser.add_argument("--list", action="store_true", help="say what would run here, and end")
    parser.add_argument("--quick", action="store_true", help="small, one round: whether all run")
    parser.add_argument("--limit", type=float, default=30.0, help="minutes each; default 30")
    parser.add_argument("--run", help="a run's workdir, for from_python and explain")
    parser.add_argument("--segmenter", help="a run of SEC, for segments; none: one is made up")
    parser.add_argument("--images", help="a folder of photos, for from_python and input_pipeline")
    parser.add_argument("--root", help="a VOC2012 folder, for explain")
    parser.add_argument("--out", type=pathlib.Path, default="runs/benchmarks.json", help="JSON")
    flags = parser.parse_args(arguments)
    known = {name for benchmark in suite for name in (benchmark.name, benchmark.script)}
    for flag in ("only", "skip"):
        names = [name for name in getattr(flags, flag).split(",") if name]
        if unknown := [name for name in names if name not in known]:
            listed = ", ".join(benchmark.name for benchmark in suite)
            raise UserError(f"--{flag}: no benchmark {unknown[0]!r}; there are {listed}.")
        setattr(flags, flag, names)
    for name in DATA:
        path = getattr(flags, name)
        if path and not pathlib.Path(path).is_dir():
            raise UserError(f"--{name}={path}: no such folder.")
    if not flags.limit > 0:
        raise UserError(f"--limit={flags.limit}: expected minutes, more than 0.")
    if not flags.list:
        check_writable("--out", flags.out)
    return flags


def probe() -> Platform:
    """What JAX and PyTorch run on here. Raises UserError where JAX does not start."""
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"JAX does not start here: {last_line(done.stderr)}")
    return Platform(**json.loads(done.stdout.splitlines()[-1]))


def choose(
    flags: argparse.Namespace, suite: Sequence[Benchmark], platform: Platform
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What runs here, name to the script's flags; what is skipped, name to why."""
    given = {name: getattr(flags, name) for name in DATA}
    runs, skipped = {}, {}
    for benchmark in suite:
        named = bool({benchmark.name, benchmark.script} & set(flags.only))
        left_out = {benchmark.name, benchmark.script} & set(flags.skip)
        if left_out or (flags.only and not named):
            continue
        if why := benchmark.why_not(platform, given, named):
            skipped[benchmark.name] = why
        else:
            runs[benchmark.name] = benchmark.words(platform, flags.quick, given)
    return runs, skipped


def describe(arguments: Sequence[str], quick: bool, platform: Platform) -> dict[str, Any]:
    """What the figures are of: the machine, versions, the code."""
    return {
        "command": shlex.join(["python", "benchmarks/all.py", *arguments]),
        "date": common.now(),
        "quick": quick,
        "machine": machine.describe(),
        "platform": platform.name,
        "devices": list(platform.devices),
        "versions": machine.versions(),
        "git": machine.git(FOLDER.parent),
    }


def run_all(
    runs: Mapping[str, list[str]],
    suite: Sequence[Benchmark],
    flags: argparse.Namespace,
    folder: pathlib.Path,
    keep: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Runs the scripts one after another; an entry of the JSON file for each.

    Args:
      runs: from ``choose``. folder: of the scripts. keep: takes each entry as it is made.
    """
    by_name = {benchmark.name: benchmark for benchmark in suite}
    logs = flags.out.with_suffix("")
    logs.mkdir(parents=True, exist_ok=True)
    expected = {name: 20 if flags.quick else round(60 * by_name[name].minutes) for name in runs}
    entries = []
    with Progress("benchmarks, about so many seconds", sum(expected.values())) as bar:
        for name, words in runs.items():
            script, left = by_name[name].script, [expected[name]]

            def tick(left=left):
                if left[0] > 1:  # the last second is the end's
                    left[0] -= 1
                    bar.update(1)

            own, log = logs / f"{name}.json", logs / f"{name}.log"
            own.unlink(missing_ok=True)
            load, busy, start = machine.load(), machine.busy_share(), time.monotonic()
            print(f"\n{name}: begins; log: {log}", file=sys.stderr, flush=True)
            command = [sys.executable, str(folder / f"{script}.py"), *words, f"--out={own}"]
            why = call(command, log, 60 * flags.limit, tick)
            bar.update(left[0])
            entries.append(
                {
                    "name": name,
                    "command": shlex.join(["python", f"benchmarks/{script}.py", *words]),
                    "status": FAILED if why else DONE,
                    "why": why,
                    "log": str(log),
                    "seconds": time.monotonic() - start,
                    "load_before": load,
                    "busy_before": busy,
                    "figures": read_figures(own),
                }
            )
            keep(entries[-1])
    return entries


def read_figures(path: pathlib.Path) -> dict[str, Any] | None:
    """What a script wrote, without what all have in common; None where it wrote nothing."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    return {k: v for k, v in content.items() if k not in ("machine", "versions")}


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The rows of all scripts as a table in Markdown, its columns aligned."""
    lines = [COLUMNS]
    for entry in entries:
        for row in (entry["figures"] or {}).get("rows", ()):
            has_peer = row["ratio"] is not None
            peer = f"{common.shown(row['peer'], row['unit'])}, {row['against']}" if has_peer else ""
            compared = (common.ratio_text(row), common.spread_text(row)) if has_peer else ("", "")
            ours = common.shown(row["ours"], row["unit"])
            lines.append((row["name"], row["setting"], ours, peer, *compared))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = ([x.ljust(w) for x, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def red(text: str) -> str:
    """The text in red, on a terminal that has colours."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[31m{text}\033[0m" if coloured else text


def warn(about: Mapping[str, Any]) -> None:
    """Says what makes figures unfit to be sent."""
    busy = machine.busy_share()
    if busy is not None and busy > 0.1:
        print(f"warning: {100 * busy:.0f} % of this machine is busy: figures need idle cores.")
    if about["git"]["clean"] is False:
        print("warning: the tree has changes: figures that you send should be of a commit.")
    if about["quick"]:
        print("--quick: whether all run; these figures mean nothing.")


def main(
    arguments: Sequence[str],
    suite: Sequence[Benchmark] = SUITE,
    folder: pathlib.Path = FOLDER,
) -> int:
    """The command; 0, 1 where a script failed, or 2 after one sentence on what the user can mend.

    Args:
      suite: the benchmarks. folder: of their scripts.
    """
    failed: list[str] = []
    status = commands.run(lambda: failed.extend(_main(arguments, suite, folder)))
    return status or min(len(failed), 1)


def _main(arguments: Sequence[str], suite: Sequence[Benchmark], folder: pathlib.Path) -> list[str]:
    """The names of the benchmarks that failed."""
    flags = read_flags(arguments, suite)
    platform = probe()
    runs, skipped = choose(flags, suite, platform)
    scripts = {benchmark.name: f"{benchmark.script}.py" for benchmark in suite}
    if flags.list:
        for name, words in runs.items():
            print(f"{name}: {shlex.join(['python', f'benchmarks/{scripts[name]}', *words])}")
    for name, why in skipped.items():
        print(f"{name}: skipped: {why}")
    if flags.list:
        return []
    about = describe(arguments, flags.quick, platform)
    warn(about)
    kept: list[dict[str, Any]] = [
        {"name": name, "status": SKIPPED, "why": why} for name, why in skipped.items()
    ]

    def keep(entry: dict[str, Any]) -> None:
        kept.append(entry)
        write_out("--out", flags.out, json.dumps({**about, "benchmarks": kept}, indent=1) + "\n")

    entries = run_all(runs, suite, flags, folder, keep)
    print(f"\n{table(entries)}\n")
    failed = [entry for entry in entries if entry["status"] == FAILED]
    for entry in failed:
        print(f"{red('FAILED')} {entry['name']}: {entry['why']}; log: {entry['log']}")
    print(
        f"{len(entries) - len(failed)} ran, {len(failed)} failed, {len(skipped)} skipped; ", end=""
    )
    print(flags.out)
    return [entry["name"] for entry in failed]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the script that runs too
    sys.exit(main(sys.argv[1:]))
