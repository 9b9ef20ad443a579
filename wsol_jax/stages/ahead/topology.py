"""Accelerators that are not here, by name: ``v5e:4x4`` or ``h100:8``, and meshes of them."""

import dataclasses
import importlib.metadata
import math
import os
import re

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from wsol_jax.base.errors import UserError
from wsol_jax.stages.ahead.cards import target_config
from wsol_jax.stages.ahead.chips import CHIPS, Chip

# libtpu looks for the TPU VM that it is on, and is told that there is nothing to look for. Its lock
# is for chips: compiling without any, several processes do not disturb each other.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

_COMPILERS = {"tpu": "libtpu", "cuda": "jax-cuda12-plugin"}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind, tied together.

    Attributes:
      name: as it was asked for.
      kind: the chip's name in ``CHIPS``.
      sides: of a TPU slice, in chips; of GPUs (hosts, GPUs of a host).
    """

    name: str
    kind: str
    sides: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def count(self) -> int:
        """Chips in all."""
        return math.prod(self.sides)

    @property
    def platform(self) -> str:
        """As ``jax.default_backend()`` calls it there: "tpu" or "gpu"."""
        return "tpu" if self.chip.platform == "tpu" else "gpu"


def parse(name: str) -> Topology:
    """The topology that a name means.

    Args:
      name: "KIND:SIDESxSIDES" of a TPU slice ("v5e:4x4", "v4:2x2x1"), "KIND:COUNT" of GPUs
        ("h100:8", "h100:16"), which stand 8 in a host.

    Raises:
      UserError: no such kind, or no such shape of it.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS:
        raise UserError(f"--topology={name}: no chip {kind!r}; known are {_known()}.")
    chip = CHIPS[kind]
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})*", shape):
        raise UserError(f"--topology={name}: expected {kind}:SHAPE, such as {_example(kind)}.")
    sides = tuple(map(int, shape.split("x")))
    if len(sides) != chip.axes:
        numbers = "one number" if chip.axes == 1 else f"{chip.axes} numbers"
        raise UserError(
            f"--topology={name}: a shape of {kind} has {numbers}, such as {_example(kind)}."
        )
    if chip.platform == "cuda":
        if sides[0] > chip.host and sides[0] % chip.host:
            raise UserError(
                f"--topology={name}: {kind} stand {chip.host} in a host: expected up to "
                f"{chip.host}, or a multiple of it."
            )
        hosts = max(sides[0] // chip.host, 1)
        sides = (hosts, sides[0] // hosts)
    return Topology(name, kind, sides)


def mesh_of(topology: Topology) -> Mesh:
    """A mesh with the one axis "data" over chips that XLA compiles for and that are not here.

    Raises:
      UserError: what compiles for them is not installed, or knows no such slice.
    """
    find = _tpu_devices if topology.chip.platform == "tpu" else _gpu_devices
    devices = find(topology)
    return Mesh(np.asarray(devices), ("data",))


def compiler_version(topology: Topology) -> str | None:
    """The version of what compiles for it; None where that is not installed."""
    try:
        return importlib.metadata.version(_COMPILERS[topology.chip.platform])
    except importlib.metadata.PackageNotFoundError:
        return None


def _tpu_devices(topology: Topology) -> list[jax.Device]:
    if compiler_version(topology) is None:
        raise UserError(
            f"--topology={topology.name}: TPU programs are compiled by libtpu, which is not "
            "installed: pip install 'wsol_jax[aot]'."
        )
    import libtpu

    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("TPU_LIBRARY_PATH", libtpu.get_library_path())
    sides = [side for side in (*topology.sides, 1, 1)][:3]
    host = [min(side, most) for side, most in zip(sides, (2, 2, 1), strict=True)]
    options = {"chips_per_host_bounds": host}
    if topology.kind in ("v4", "v5p"):
        options["chip_config_name"] = "megacore"  # a chip's two cores are one device, as on a VM
    shape = "x".join(map(str, topology.sides))
    try:
        found = topologies.get_topology_desc(f"{topology.kind}:{shape}", platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--topology={topology.name}: the TPU compiler knows no such slice "
            f"({str(error).splitlines()[0][:200]}); known are {_known()}."
        ) from None
    return found.devices


def _gpu_devices(topology: Topology) -> list[jax.Device]:
    hosts, gpus = topology.sides
    if compiler_version(topology) is None:
        raise UserError(
            f"--topology={topology.name}: programs for NVIDIA's GPUs are compiled by "
            "jax-cuda12-plugin, which is not installed: pip install 'wsol_jax[aot]'."
        )
    try:
        found = topologies.get_topology_desc(
            topology.kind,
            "cuda",
            topology=f"1x{hosts}x{gpus}",
            target_config=target_config(topology.kind),
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:  # another JAX's, say
        raise UserError(
            f"--topology={topology.name}: jax-cuda12-plugin cannot compile for it "
            f"({str(error).splitlines()[0][:200]}); expected that of jax {jax.__version__}."
        ) from None
    return found.devices


def _known() -> str:
    return ", ".join(map(_example, CHIPS))


def _example(kind: str) -> str:
    chip = CHIPS[kind]
    if chip.platform == "cuda":
        return f"{kind}:{chip.host}"
    return f"{kind}:" + "x".join(["2", "2", "1"][: chip.axes])
