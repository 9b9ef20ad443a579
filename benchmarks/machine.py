"""What the benchmarks run on: the machine, its load, its memory, the versions."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from wsol_jax.base.threads import usable_cores

PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "numba", "opencv-python-headless", "pillow"),
    *("torch", "pydensecrf2"),
)


def load() -> float | None:
    """The machine's load, of the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


# Before a script works itself, or pins itself to a core.
CORES, LOAD = usable_cores(), load()


def heading(what: str) -> str:
    """What is timed, and on what: a script's first line."""
    device = jax.devices()[0]
    text = f"{what}; {device.platform} ({device.device_kind}), {usable_cores()} core(s), "
    text += f"JAX {jax.__version__}"
    if LOAD is not None:
        text += f"; load of this machine {LOAD:.1f}: figures mean something on idle cores"
    return text


def peak_memory() -> dict[str, float]:
    """GiB at most so far: of this process, and of the first device where it says so."""
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    found = {"process_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}
    if memory := jax.devices()[0].memory_stats():
        found["device_gib"] = memory["peak_bytes_in_use"] / 2**30
    return found


def print_peak() -> None:
    """Prints ``peak_memory``."""
    words = {"process_gib": "the process", "device_gib": "the device"}
    found = (f"{words[name]} {value:.2f} GiB" for name, value in peak_memory().items())
    print(f"peak memory: {', '.join(found)}")


def describe() -> dict[str, Any]:
    """CPU, cores, memory, and GPUs with their driver, as far as the system says; no host's name."""
    memory = None
    with contextlib.suppress(ValueError, OSError, AttributeError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": CORES,
        "memory_gib": memory and round(memory, 1),
        "gpus": output_of(query).splitlines(),
    }


def _cpu_model() -> str:
    """As Linux names it; elsewhere what Python knows."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def output_of(command: Sequence[str]) -> str:
    """What a program prints; "" where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def git(folder: pathlib.Path) -> dict[str, Any]:
    """A clone's revision, and whether it has no changes; None where there is no clone."""
    command = ["git", "-C", str(folder)]
    revision = output_of([*command, "rev-parse", "HEAD"])
    changed = output_of([*command, "status", "--porcelain"]) if revision else ""
    return {"revision": revision or None, "clean": not changed if revision else None}


def versions() -> dict[str, str | None]:
    """The system's, Python's and the packages'; None of what is not installed."""
    found: dict[str, str | None] = {
        "os": platform.platform(),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        found[name] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def busy_share(seconds: float = 1.0) -> float | None:
    """The share of this machine's cores that work, over some seconds; None but on Linux."""
    path = pathlib.Path("/proc/stat")
    if not path.is_file():
        return None
    first = _cpu_ticks(path)
    time.sleep(seconds)
    spent = [b - a for a, b in zip(first, _cpu_ticks(path), strict=True)]
    return 1 - (spent[3] + spent[4]) / max(sum(spent), 1)  # idle, and waiting for a disk


def _cpu_ticks(path: pathlib.Path) -> list[int]:
    return [int(word) for word in path.read_text().splitlines()[0].split()[1:9]]
