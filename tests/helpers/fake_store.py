"""An object store for tests, fake://bucket/name, which several processes share and which may fail.

Objects are files below $FAKE_STORE. $FAKE_STORE/faults.json says what goes wrong, and is read again
at each call: {"slow": seconds before each write, "fail": how many uploads of files fail yet,
"torn": how many leave half of an object and fail, "down": whether every call fails, "denied":
whether every write is refused, "pace": seconds that each step of a run takes longer}.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import fsspec
import tiny
from fsspec.implementations.local import LocalFileSystem

PROTOCOL = "fake"


def root() -> pathlib.Path:
    """Where the objects lie."""
    return pathlib.Path(os.environ["FAKE_STORE"])


def set_faults(folder: pathlib.Path, **faults) -> None:
    """Says what goes wrong from now on in a store."""
    temporary = folder / "faults.new"
    temporary.write_text(json.dumps(faults))
    os.replace(temporary, folder / "faults.json")


def _faults() -> dict:
    with contextlib.suppress(FileNotFoundError):
        return json.loads((root() / "faults.json").read_text())
    return {}


class FakeStore(LocalFileSystem):
    """The store; a write is atomic, as an object store's."""

    protocol = (PROTOCOL,)

    def __init__(self, **options):
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path):
        path = str(path)
        if path.startswith(f"{PROTOCOL}://"):
            path = str(root() / path.removeprefix(f"{PROTOCOL}://"))
        return path.rstrip("/")

    def put_file(self, lpath, rpath, callback=None, **options):
        self._write(rpath, pathlib.Path(lpath).read_bytes())

    def pipe_file(self, path, value, mode="overwrite", **options):
        if mode == "create" and os.path.exists(path):
            raise FileExistsError(path)
        # Not counted: the lease's heartbeat would use the faults up while no file is uploaded.
        self._write(path, value, counted=False)

    def cp_file(self, path1, path2, **options):
        self._write(path2, pathlib.Path(path1).read_bytes())

    def cat_file(self, path, start=None, end=None, **options):
        self._check()
        return super().cat_file(path, start, end, **options)

    def get_file(self, rpath, lpath, callback=None, **options):
        self._check()
        pathlib.Path(lpath).write_bytes(pathlib.Path(rpath).read_bytes())

    def makedirs(self, path, exist_ok=False):
        raise FileNotFoundError("The specified bucket does not exist")

    def rm_file(self, path):
        self._check()
        os.remove(path)
        with contextlib.suppress(OSError):  # an object store has no folders to be empty
            for parent in list(pathlib.Path(path).relative_to(root()).parents)[:-2]:
                (root() / parent).rmdir()

    def find(self, path, **options):
        self._check()
        return super().find(path, **options)

    def _check(self) -> dict:
        faults = _faults()
        if faults.get("down"):
            raise OSError("503 service unavailable")
        return faults

    def _write(self, path, content: bytes, counted: bool = True) -> None:
        faults = self._check()
        if faults.get("denied"):
            raise PermissionError("403 forbidden")
        time.sleep(faults.get("slow", 0))
        torn = faults.get("torn", 0) if counted else 0
        if torn or (counted and faults.get("fail", 0)):
            name = "torn" if torn else "fail"
            set_faults(root(), **{**faults, name: faults[name] - 1})
            if not torn:
                raise OSError("503 slow down")
        if not os.path.isdir(root() / pathlib.Path(path).relative_to(root()).parts[0]):
            self.makedirs(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{root()}/{time.monotonic_ns()}.{os.getpid()}.{id(content)}"
        pathlib.Path(temporary).write_bytes(content[: len(content) // 2] if torn else content)
        os.replace(temporary, path)
        if torn:
            raise OSError("the connection was reset")


def register() -> None:
    """Makes fsspec know fake://."""
    fsspec.register_implementation(PROTOCOL, FakeStore, clobber=True)


def register_quick() -> None:
    """The same, for runs of seconds: uploads at every step, a killed holder is given up soon."""
    from wsol_jax.runs import mirror
    from wsol_jax.runs.mirror import lease

    register()
    mirror.EVERY, mirror._GLANCE = 0.2, 0.0
    lease.BEAT, lease.SILENCE = 0.3, 1.5
    tick = mirror.tick

    def paced(*arguments, **options):
        time.sleep(_faults().get("pace", 0))
        tick(*arguments, **options)

    mirror.tick = paced


class Machine:
    """A machine with a cache of its own, whose runs share a store with those of others."""

    def __init__(self, store: pathlib.Path, cache: pathlib.Path):
        self.cache = cache
        self._environment = {"FAKE_STORE": str(store), "WSOL_JAX_CACHE": str(cache)}
        xla = store.parent / "xla"  # what is compiled is no part of a cache that is lost
        self._environment["JAX_COMPILATION_CACHE_DIR"] = str(xla)

    def start(self, words, **options) -> tiny.Run:
        """Starts the main command."""
        patch = "helpers.fake_store:register_quick"
        return tiny.Run(words, patch=patch, environment=self._environment, **options)

    def run(self, words, **options) -> tiny.Done:
        """The main command to its end."""
        return self.start(words, **options).wait()

    def python(self, module, *words) -> subprocess.CompletedProcess:
        """``python -m MODULE`` to its end."""
        return self._fresh(f"runpy.run_module({module!r}, run_name='__main__')", words)

    def script(self, path) -> subprocess.CompletedProcess:
        """``python PATH`` to its end."""
        return self._fresh(f"runpy.run_path({str(path)!r})", ())

    def _fresh(self, work: str, words) -> subprocess.CompletedProcess:
        code = (
            "import runpy, sys; from helpers import fake_store; fake_store.register_quick(); "
            f"sys.argv = {['x', *map(str, words)]!r}; {work}"
        )
        path = os.pathsep.join([str(tiny.ROOT), str(tiny.ROOT / "tests")])
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tiny.ROOT,
            env={**os.environ, **self._environment, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
