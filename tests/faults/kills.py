"""Kills runs at random moments and goes on with them, until they end: are they as if unbroken?

    PYTHONPATH=.:tests python tests/faults/kills.py --kills=100 --pairs=6

Runs of SEC, tiny: a training, a label stage, a second training, evaluation. After each run's end
every parameter, label and figure is compared with an unbroken run's, bit for bit. Then pairs: a
second run is started into the folder of one that goes on.
"""

import argparse
import collections
import pathlib
import random
import signal
import tempfile
import time

import numpy as np
import tiny
from helpers.runs import CLOCK, saved
from helpers.sec_runs import words
from helpers.voc import write_voc

from wsol_jax.runs import lock

TRAININGS, LABELS = ("first", "segment"), "cues"


def phase_of(workdir: pathlib.Path) -> str:
    """What a run was at, as its folder tells."""
    if not (workdir / "config.json").is_file():
        return "setting up"
    for folder in (workdir / name / "checkpoints" for name in TRAININGS):
        if folder.is_dir() and any("tmp" in path.name for path in folder.iterdir()):
            return "saving"
    if (workdir / "segment/metrics.json").is_file():
        return "evaluating"
    if (workdir / "segment").is_dir():
        return "training segment"
    if (workdir / LABELS).is_dir() and not (workdir / LABELS / f"{LABELS}.json").is_file():
        return "labelling"
    return "training first"


def break_to_its_end(flags, workdir, rng, most: int) -> collections.Counter:
    """Kills a run, and starts it again, at most ``most`` times; how often in which phase."""
    phases: collections.Counter[str] = collections.Counter()
    while True:
        run = tiny.Run(flags)
        if phases.total() >= most:
            done = run.wait()
            assert done.returncode == 0, done.stderr
            return phases
        run.process.join(rng.uniform(0.5, 9.0))
        if run.process.exitcode is not None:
            done = run.wait()
            assert done.returncode == 0, done.stderr
            return phases
        run.send(signal.SIGKILL)
        run.process.join()
        phases[phase_of(workdir)] += 1


def assert_same(workdir: pathlib.Path, whole: pathlib.Path) -> None:
    """Parameters, momentum, labels and figures are those of an unbroken run, to the bit."""
    for name in TRAININGS:
        last = max(saved(whole / name))
        expected, found = tiny.arrays(whole / name, last), tiny.arrays(workdir / name, last)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name} {key}")
        assert tiny.history(workdir / name) == tiny.history(whole / name)
    pictures = sorted(path.name for path in (whole / LABELS).rglob("*.png"))
    assert pictures == sorted(path.name for path in (workdir / LABELS).rglob("*.png"))
    for path in (whole / LABELS).rglob("*.png"):
        other = workdir / LABELS / path.relative_to(whole / LABELS)
        assert path.read_bytes() == other.read_bytes(), path
    figures = [
        {name: value for name, value in tiny.metrics(folder).items() if name not in CLOCK}
        for folder in (whole, workdir)
    ]
    assert figures[0] == figures[1]


def assert_second_is_refused(flags, other_flags, workdir, whole, wait: float) -> float:
    """A second run, of another seed, is refused and leaves the first as it was; its seconds."""
    first = tiny.Run(flags)
    first.until(lambda: (workdir / lock.NAME).is_file())
    time.sleep(wait)
    start = time.monotonic()
    sentence = tiny.error_sentence(tiny.run(other_flags))
    seconds = time.monotonic() - start
    in_use = f"--workdir={workdir} is in use: process {first.process.pid}"
    assert in_use in sentence or "holds a run with seed=0" in sentence, sentence  # once it saved
    done = first.wait()
    assert done.returncode == 0, done.stderr
    assert_same(workdir, whole)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, phases, runs = random.Random(given.seed), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        photos, whole = write_voc(root / "voc"), root / "whole"
        done = tiny.run(words(photos, whole))
        assert done.returncode == 0, done.stderr
        while phases.total() < given.kills:
            workdir, left = root / f"broken{runs}", given.kills - phases.total()
            phases += break_to_its_end(words(photos, workdir), workdir, rng, left)
            assert_same(workdir, whole)
            runs += 1
            print(f"{phases.total()} kills, {runs} runs as if unbroken: {dict(phases)}", flush=True)
        for number in range(given.pairs):
            workdir = root / f"pair{number}"
            flags = words(photos, workdir)
            other = [*flags, "--config.seed=1"]
            seconds = assert_second_is_refused(flags, other, workdir, whole, rng.uniform(0, 6))
            print(f"pair {number + 1}: the second refused in {seconds:.1f} s, the first unbroken")


if __name__ == "__main__":
    main()
