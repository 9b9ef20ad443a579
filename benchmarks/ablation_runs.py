"""The runs of ``ablation.py``: which share a training, and some at a time as processes."""

import concurrent.futures
import contextlib
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from wsol_jax.runs import workdirs

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# What scoring makes in a workdir.
_RESULTS = ("metrics.json", "report.html", "report_data.npz", "scores", "maps")
_ORIGIN = "trained_as"  # in a workdir whose training was another variant's: which
_TELL = 60.0  # seconds between the lines of runs under way


class Run(NamedTuple):
    """A variant with a seed, the config that it has without further flags, and its workdir."""

    variant: str
    seed: int
    config: ml_collections.ConfigDict
    folder: pathlib.Path

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def log(self) -> pathlib.Path:
        """What its process said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def is_finished(self) -> bool:
        """Whether it is trained and scored."""
        return (self.folder / "metrics.json").is_file()

    def has_begun(self) -> bool:
        """Whether it has saved a network."""
        if not (self.folder / "config.json").is_file():
            return False
        return workdirs.has_checkpoint(workdirs.network_folder(self.folder))

    def last_line(self) -> str:
        """Of its log; "" where it said nothing."""
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        return text.rstrip().rpartition("\n")[2].strip()


def share_trainings(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups of runs that train the same network: their configs differ in free fields alone."""
    groups: list[list[Run]] = []
    for run in runs:
        same = [g for g in groups if not workdirs.difference(g[0].config, run.config)]
        if same:
            same[0].append(run)
        else:
            groups.append([run])
    return groups


def copy_training(source: Run, run: Run) -> None:
    """Gives a run that has not begun the networks of a finished one; it needs scoring alone."""
    part = run.folder.with_name(f"{run.folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    top = str(source.folder)  # a stage's figures stay
    shutil.copytree(top, part, ignore=lambda folder, _: _RESULTS if folder == top else ())
    for folder in (part, *(path for path in part.iterdir() if path.is_dir())):
        if (folder / "config.json").is_file():
            _rewrite_free(folder, run.config)
    (part / _ORIGIN).write_text(trained_as(source.folder) or source.variant)
    shutil.rmtree(run.folder, ignore_errors=True)  # it holds no network
    part.rename(run.folder)


def _rewrite_free(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Gives a workdir the free fields of a config: later modes read them there."""
    saved, class_names = workdirs.load(folder)
    with saved.unlocked():
        for field in config.free:
            *sections, name = field.split(".")
            own, others = saved, config
            for section in sections:
                own, others = own[section], others[section]
            own[name] = others[name]
    workdirs.write(folder, saved, class_names)


def trained_as(folder: pathlib.Path) -> str:
    """The variant that a workdir's training was copied from; "" where it is its own."""
    path = folder / _ORIGIN
    return path.read_text() if path.is_file() else ""


class Pool:
    """Runs as processes, some at a time, each on its share of the cores.

    Args:
      settings: "data", what stands after the config's path, and "flags" of every run.
      jobs: how many at a time.
    """

    def __init__(self, settings: Mapping[str, Any], jobs: int):
        self._settings, self._jobs = settings, jobs
        self._shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
        for share in _core_shares(jobs):
            self._shares.put(share)
        self._lock, self._stopped = threading.Lock(), False
        self._active: dict[str, tuple[Run, subprocess.Popen]] = {}
        self._failed: list[str] = []
        self._seconds: list[float] = []  # of the runs that have ended
        self._left = self._total = 0

    def run(self, groups: Sequence[Sequence[Run]]) -> list[str]:
        """Finishes every run; a sentence for each that failed.

        Args:
          groups: from ``share_trainings``; a group's runs go one after the other.
        """
        self._left = self._total = sum(not run.is_finished() for group in groups for run in group)
        pool = concurrent.futures.ThreadPoolExecutor(self._jobs)
        try:
            futures = [pool.submit(self._finish, group) for group in groups]
            while concurrent.futures.wait(futures, _TELL).not_done:
                self._tell()
            for future in futures:
                future.result()
        except BaseException:
            self._stop(subprocess.Popen.terminate)  # each saves first
            raise
        finally:
            try:
                pool.shutdown(cancel_futures=True)
            except KeyboardInterrupt:
                self._stop(subprocess.Popen.kill)
                raise
        return self._failed

    def _stop(self, how: Callable[[subprocess.Popen], None]) -> None:
        with self._lock:
            self._stopped = True
            for _, process in self._active.values():
                how(process)

    def _finish(self, group: Sequence[Run]) -> None:
        """One group's runs, in a thread."""
        failed = ""
        for run in group:
            if run.is_finished():
                continue
            why = (
                f"it shares its training with {failed}" if failed else self._finish_one(run, group)
            )
            if self._stopped:
                return
            with self._lock:
                self._left -= 1
            if why:
                failed = failed or str(run)
                self._failed.append(f"{run} failed: {why}")
                _say(f"error: {self._failed[-1]}")

    def _finish_one(self, run: Run, group: Sequence[Run]) -> str:
        """Trains or only scores a run; why it failed, or ""."""
        source = next((one for one in group if one.is_finished() and one.has_begun()), None)
        start, share = time.monotonic(), self._shares.get()
        try:
            if source and not run.has_begun():
                copy_training(source, run)
            status = self._call(run, share)
        except OSError as error:  # a full disk, say
            return str(error)
        finally:
            self._shares.put(share)
        if status or not run.is_finished():
            return f"{run.last_line().removeprefix('error: ')} (status {status}, {run.log})"
        seconds = time.monotonic() - start
        with self._lock:
            self._seconds.append(seconds)
        _say(f"{run}: done in {seconds:.0f} s")
        return ""

    def _call(self, run: Run, share: set[int]) -> int:
        """The exit status of a run's process."""
        run.log.parent.mkdir(parents=True, exist_ok=True)
        with run.log.open("a") as log, self._lock:
            if self._stopped:
                return 1
            process = subprocess.Popen(
                self._command(run), stdout=log, stderr=log, env=_environment()
            )
            self._active[str(run)] = run, process
        if share:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(process.pid, share)  # before it has threads
        origin = trained_as(run.folder)
        _say(f"{run}: begins{origin and f', trained as {origin}'}; log: {run.log}")
        status = process.wait()
        with self._lock:
            del self._active[str(run)]
        return status

    def _command(self, run: Run) -> list[str]:
        words = f"{self._settings['data']},variant={run.variant},seed={run.seed}"
        config = f"--config={_ROOT}/configs/hide_and_seek.py:{words}"
        command = [sys.executable, "-m", "wsol_jax.main", config, f"--workdir={run.folder}"]
        return [*command, *self._settings["flags"]]

    def _tell(self) -> None:
        """A line for each run under way, and one for all that are to come."""
        with self._lock:
            active, left = [run for run, _ in self._active.values()], self._left
            seconds = list(self._seconds)
        for run in active:
            _say(f"{run}: {run.last_line()[:100]}")
        text = f"{left} of {self._total} runs to finish"
        if seconds:
            rounds = left / min(self._jobs, max(left, 1))
            text += f", about {sum(seconds) / len(seconds) * rounds / 60:.0f} min"
        _say(text)


def _core_shares(jobs: int) -> list[set[int]]:
    """Each job's cores; empty where there is nothing to share, or no way to."""
    if jobs == 1 or not hasattr(os, "sched_setaffinity"):
        return [set()] * jobs
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[job::jobs]) for job in range(jobs)]


def _environment() -> dict[str, str]:
    """This process's, with the project where Python looks for it."""
    path = f"{_ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
