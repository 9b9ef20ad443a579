"""A data set and a config so small that a run takes seconds, and ways to start runs of it."""

import atexit
import csv
import dataclasses
import functools
import importlib
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from multiprocessing import forkserver
from unittest import mock

import cv2
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
CLASSES = ("ball", "bar", "cross")


def write_folder(root: pathlib.Path, per_list: dict[str, int] | None = None) -> pathlib.Path:
    """root/LIST/CLASS/*.jpg of 48x48 photos of a plain shape, and root/boxes.csv."""
    rng = np.random.default_rng(0)
    rows = []
    for name, count in (per_list or {"train": 16, "tune": 4, "test": 4}).items():
        for i in range(count):
            kind = CLASSES[i % len(CLASSES)]
            image = rng.integers(60, 120, (48, 48, 3), dtype=np.uint8)
            x, y = map(int, rng.integers(12, 36, 2))
            colour = tuple(map(int, rng.integers(170, 255, 3)))
            if kind == "ball":
                cv2.circle(image, (x, y), 9, colour, -1)
            else:
                cv2.rectangle(image, (x - 9, y - 4), (x + 9, y + 4), colour, -1)
            if kind == "cross":
                cv2.rectangle(image, (x - 4, y - 9), (x + 4, y + 9), colour, -1)
            high = 4 if kind == "bar" else 9
            path = root / name / kind / f"{i:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
            image_id = f"{name}/{kind}/{i:02}.jpg"
            rows.append([image_id, x - 9, y - high, x + 9, y + high])
    with (root / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "x0", "y0", "x1", "y1"], *rows])
    return root


def flags(
    root: pathlib.Path,
    workdir: pathlib.Path | None,
    *more: str,
    method: str = "cam",
    keys: str = "",
    epochs: float = 4,
) -> list[str]:
    """Flags of a run: a thin MobileNetV2 with moving batch statistics, 32 pixels, batches of 6."""
    config = f"{ROOT}/configs/{method}.py:folder,root={root},boxes={root}/boxes.csv"
    config += (
        f",backbone=mobilenet_v2,weights=none,width=0.25,size=32,batch=6,epochs={epochs}{keys}"
    )
    given = {
        "data.resize": 40,
        "data.threads": 2,
        "model.head_channels": 16,
        "model.batch_norm": "batch",
        "model.final_endpoint": "block_3",
        "model.freeze_until": "",
        "model.output_stride": 8,
        "optimizer.backbone_lr": 0.01,
        "optimizer.head_lr": 0.02,
        "optimizer.schedule": "cosine",
        "train.eval_epochs": 1.0,
        "train.checkpoint_steps": 2,
        "train.log_every": 1,
        "eval.batch_size": 4,
        "eval.gallery": 2,
    }
    fields = [f"--config.{name}={value}" for name, value in given.items()]
    place = [] if workdir is None else [f"--workdir={workdir}"]
    return [f"--config={config}", *place, *fields, *more]


@dataclasses.dataclass
class Done:
    """How a run ended: a negative status is the signal that killed it."""

    returncode: int
    stdout: str
    stderr: str


class Run:
    """``python -m wsol_jax.main`` in a process of its own.

    It is forked from a server that has imported jax already but has no backend yet: the same as a
    fresh interpreter, some seconds earlier.

    Args:
      words: the command's flags.
      devices: fake CPU devices.
      patch: "module:function", of helpers.patches, called in the process before the command.
      terminal: a device that stderr goes to.
      environment: variables that it has beside the server's.
    """

    _server = None

    def __init__(
        self, words, devices: int = 1, patch="", terminal="", environment=types.MappingProxyType({})
    ):
        if Run._server is None:
            Run._server = _start_server()
        self._folder = tempfile.TemporaryDirectory()
        self._out = [pathlib.Path(self._folder.name) / name for name in ("stdout", "stderr")]
        args = (list(words), devices, patch, list(map(str, self._out)), terminal)
        args += (dict(environment),)
        self.process = Run._server.Process(target=_child, args=args)
        self.process.start()

    def wait(self, timeout: float = 300) -> Done:
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"no end within {timeout} s: {self._out[1].read_text()}")
        return Done(self.process.exitcode, *(path.read_text() for path in self._out))

    def send(self, signum: int) -> None:
        os.kill(self.process.pid, signum)

    def until(self, condition, timeout: float = 300) -> None:
        """Returns as soon as ``condition()`` is true; the run must not have ended before."""
        end = time.monotonic() + timeout
        while not condition():
            if self.process.exitcode is not None or time.monotonic() > end:
                raise AssertionError(f"ended too early: {self.wait()}")
            time.sleep(0.002)


def _start_server():
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["wsol_jax.main", "wsol_jax.stages.train", "tiny"])
    # The server looks for these modules on its own path, and imports jax but once.
    here = dict(PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", JAX_PLATFORMS="cpu")
    with mock.patch.dict(os.environ, here):
        forkserver.ensure_running()
    return server


def _xla_flags(devices: int = 1) -> str:
    # Level 0: these networks take longer to compile than to run.
    return f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"


def _child(words, devices, patch, out, terminal, environment):
    os.environ.update(environment)
    for number, path in enumerate(out, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    if terminal:
        os.dup2(os.open(terminal, os.O_WRONLY | os.O_NOCTTY), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["XLA_FLAGS"] = _xla_flags(devices)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    if patch:
        module, _, function = patch.partition(":")
        getattr(importlib.import_module(module), function)()
    from wsol_jax import main

    sys.argv = ["wsol_jax", *words]
    main.run()


def run(words, **options) -> Done:
    """A run to its end."""
    return Run(words, **options).wait()


def command(words) -> subprocess.Popen:
    """The real command in a fresh interpreter, in a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "wsol_jax.main", *words],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": _xla_flags()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_command(words, timeout: float = 300) -> Done:
    """The real command to its end."""
    process = command(words)
    out, err = process.communicate(timeout=timeout)
    return Done(process.returncode, out, err)


@functools.cache
def data() -> pathlib.Path:
    """The small data set, written once."""
    return write_folder(_kept() / "data")


@functools.cache
def finished() -> pathlib.Path:
    """The folder of a run that nothing disturbed, made once; read it, do not write there."""
    workdir = _kept() / "finished"
    done = run(flags(data(), workdir))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return workdir


@functools.cache
def _kept() -> pathlib.Path:
    folder = tempfile.TemporaryDirectory(prefix="wsol_jax_tests_")
    atexit.register(folder.cleanup)
    return pathlib.Path(folder.name)


def copy_finished(workdir: pathlib.Path) -> pathlib.Path:
    """A copy of ``finished`` to write in."""
    return pathlib.Path(shutil.copytree(finished(), workdir))


def error_sentence(done) -> str:
    """The one sentence of a refused command; fails the test on anything else."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == errors[0], done.stderr
    return errors[0]


def arrays(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint: parameters, statistics, momentum, step and key."""
    import jax
    import orbax.checkpoint as ocp

    path = workdir / "checkpoints" / str(step) / "state"
    here = ocp.ArrayRestoreArgs(sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    with ocp.PyTreeCheckpointer() as reader:
        shapes = reader.metadata(path).item_metadata.tree
        tree = reader.restore(path, restore_args=jax.tree.map(lambda _: here, shapes))
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)

    def plain(leaf):
        is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        )
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return {jax.tree_util.keystr(path): plain(leaf) for path, leaf in leaves}


def history(workdir: pathlib.Path) -> list[dict[str, float]]:
    """The rows of history.jsonl without what only the clock decides."""
    rows = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    clock = ("train/steps_per_second", "train/input_wait_share")
    return [{k: v for k, v in row.items() if k not in clock} for row in rows]


def metrics(workdir: pathlib.Path) -> dict:
    return json.loads((workdir / "metrics.json").read_text())
