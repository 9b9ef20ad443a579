"""A process that has imported jax and all commands, and forks a child for each row of the tables.

The parent has no backend and no threads of its own, so that a child is as a fresh interpreter would
be some seconds later. Requests and answers are JSON, a line each, on stdin and stdout.
"""

import contextlib
import ctypes
import dataclasses
import importlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 20.0  # a command that takes longer is a hang
KILOBYTES = 2 << 20  # of memory that is really in use: jax reserves far more
COMMANDS = {  # the module of each command, and what its ``python -m`` calls
    "main": ("wsol_jax.main", "run"),
    "evaluate": ("wsol_jax.evaluate.__main__", "main"),
    "compare": ("wsol_jax.compare", "main"),
    "report": ("wsol_jax.report.__main__", "main"),
    "crf": ("wsol_jax.crf", "main"),
}
_PRELOADED = (
    *(module for module, _ in COMMANDS.values()),
    "wsol_jax.stages.recipe",
    "wsol_jax.stages.evaluate",
    "wsol_jax.stages.describe",
    "wsol_jax.api.predict",
    "wsol_jax.ops.crf",
    "wsol_jax.methods.cam",
)
_POLL = 0.02  # seconds
_STRONG = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: root reads and writes anything


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
      status: its exit status; a negative one is the signal that ended it.
      killed: "time" or "memory" where the server put an end to it, else "".
      seconds: that it ran, without those in which it waited for a free core.
      kilobytes: the most memory that it had in use.
    """

    status: int
    killed: str
    seconds: float
    kilobytes: int
    stdout: str = ""
    stderr: str = ""


class Server:
    """The parent process, from the outside."""

    def __init__(self):
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(pathlib.Path(__file__))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, command: str, words, folder: pathlib.Path, env=None, seconds: float = SECONDS
    ) -> Done:
        """Runs ``python -m wsol_jax.COMMAND WORDS`` in a folder to its end, or puts an end to it.

        The outputs go to files beside the folder: a command in a row that lists its folder should
        not find them there.
        """
        out = [folder.with_name(f"{folder.name}.{name}") for name in ("stdout", "stderr")]
        request = {
            "command": command,
            "words": [str(word) for word in words],
            "folder": str(folder),
            "out": [str(path) for path in out],
            "env": dict(env or {}),
            "seconds": seconds,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return Done(**answer, **{p.suffix[1:]: p.read_text(errors="replace") for p in out})

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)


def main() -> None:
    """The server's loop; in a child it returns a command's entry point instead of going on."""
    for name in _PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(request)
            return
        print(json.dumps(_watch(child, request["seconds"])), flush=True)


def _become(request: dict) -> None:
    """Makes this child what the command's process would be, and runs the command."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in request["out"]]
    for number, file in enumerate([nothing, *files]):
        os.dup2(file, number)
    # The server's stream object still has a buffer of requests.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.update(request["env"])
    # One device, and what is compiled here takes longer to compile than to run.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    os.chdir(request["folder"])
    sys.path[0] = str(ROOT)  # where ``python -m`` is called
    _drop_capabilities()
    module, name = COMMANDS[request["command"]]
    sys.argv = [f"{module}", *request["words"]]
    entry = getattr(importlib.import_module(module), name)
    sys.exit(entry() if name == "run" else entry(sys.argv[1:]))


def _drop_capabilities() -> None:
    """Lets root, too, meet files that it may not read or write: the tables have such rows."""
    if os.getuid():
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; 32 bits each, twice
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets):
        return
    for bit in _STRONG:
        sets[0] &= ~(1 << bit)
        sets[1] &= ~(1 << bit)
    libc.capset(header, sets)


def _watch(child: int, seconds: float) -> dict:
    """Waits for a child; kills its process group where it takes too long or too much memory."""
    begun, killed, peak, waited = time.monotonic(), "", 0, 0.0
    while True:
        peak, waited = max(peak, _peak(child)), max(waited, _waited(child))
        spent = time.monotonic() - begun - waited
        if not killed and peak > KILOBYTES:
            killed = "memory"
        elif not killed and spent > seconds:
            killed = "time"
        if killed:
            _kill(child)
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        time.sleep(_POLL)
    _kill(child)  # the workers that it left
    return {
        "status": os.waitstatus_to_exitcode(status),
        "killed": killed,
        "seconds": round(spent, 2),
        "kilobytes": max(peak, usage.ru_maxrss),
    }


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _peak(pid: int) -> int:
    """kB of memory that a process had in use at most so far; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def _waited(pid: int) -> float:
    """Seconds in which a process's first thread was ready and had no core."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


if __name__ == "__main__":
    main()
