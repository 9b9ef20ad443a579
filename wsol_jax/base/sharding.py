"""Devices, meshes and processes: the one file that knows of them.

One axis, "data": a batch is split along it, everything else is replicated. The same program runs on
one device, on eight, and on several processes; XLA inserts the sums.
"""

import os
import re
from collections.abc import Mapping
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import cache_folder

Arrays = TypeVar("Arrays")  # any tree of arrays


def keep_compiled_programs() -> None:
    """Keeps what XLA compiles on disk, so that a config's second run starts at once."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))


def start_distributed(address: str = "", processes: int = 0, index: int = -1) -> None:
    """Joins the other processes of a run, if there are any; call before any device is touched.

    Args:
      address: "host:port" of process 0; empty takes JAX_COORDINATOR_ADDRESS, and where that is
        empty too the run is one process.
      processes: how many; 0 takes JAX_NUM_PROCESSES.
      index: this process's, from 0; -1 takes JAX_PROCESS_ID. Where a launcher that JAX knows
        (Slurm, TPU VMs, Open MPI) started the run, ``address="auto"`` finds all three.

    Raises:
      UserError: an address without the number of processes or this one's index.
    """
    address = address or os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if not address:
        if processes or index >= 0:
            raise UserError(
                "--num_processes and --process_id go with --coordinator_address, host:port of "
                "process 0, which is missing."
            )
        return
    if address == "auto":
        try:
            jax.distributed.initialize(local_device_ids=_local_devices())
        except (RuntimeError, ValueError) as error:
            raise UserError(
                "--coordinator_address=auto: no launcher that JAX knows started this process "
                f"({str(error).strip().splitlines()[0][:200]}); name host:port of process 0."
            ) from error
        return
    if not re.fullmatch(r".*[^:]:\d{1,5}", address):
        raise UserError(f"--coordinator_address={address}: expected host:port of process 0.")
    processes = processes or _integer("JAX_NUM_PROCESSES", 0)
    index = index if index >= 0 else _integer("JAX_PROCESS_ID", -1)
    if processes < 1 or not 0 <= index < processes:
        raise UserError(
            f"--coordinator_address={address} needs --num_processes (1 or more) and --process_id "
            f"(0 to num_processes - 1); got {processes} and {index}."
        )
    try:
        jax.distributed.initialize(address, processes, index)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--coordinator_address={address}: process {index} of {processes} could not join "
            f"({str(error).strip().splitlines()[0][:200]}); expected host:port of process 0."
        ) from error


def _local_devices() -> list[int] | None:
    """What ``auto`` takes of a machine's GPUs: [] for all that are seen, None for JAX's choice.

    JAX gives each process of a launcher one GPU, the one of its index on the machine. That is
    right for a process a GPU; one that is alone on its machine, or sees but one GPU, has all.
    """
    environment = os.environ
    if environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None  # JAX reads it
    tasks, nodes = (environment.get(f"SLURM_{x}", "") for x in ("NTASKS", "STEP_NUM_NODES"))
    alone = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1" or (tasks and tasks == nodes)
    one_gpu = re.fullmatch(r"[^,]+", environment.get("CUDA_VISIBLE_DEVICES", ""))
    return [] if alone or one_gpu else None


def _integer(name: str, default: int) -> int:
    text = os.environ.get(name, "") or default
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name}={text} in the environment: expected a whole number.") from None


def data_mesh(devices: int = 0) -> Mesh:
    """A one-axis mesh over all devices of all processes, or over the first ``devices``.

    Raises:
      UserError: there are not so many.
    """
    if devices < 0:
        raise UserError(f"train.devices: expected 0 (all) or more, got {devices}.")
    chosen = jax.devices()[: devices or None]
    if devices > len(chosen):
        raise UserError(f"train.devices: {devices} asked for, but there are {len(chosen)}.")
    return Mesh(np.asarray(chosen), ("data",))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: split along the first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of everything else: the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def padded_size(examples: int, mesh: Mesh, multiple: int = 1) -> int:
    """The next batch size that divides over the devices (and ``multiple`` micro-batches)."""
    unit = mesh.size * multiple
    return -(-examples // unit) * unit


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows of a batch on the devices, as global arrays split over the mesh."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }


def replicate(tree: Arrays, mesh: Mesh) -> Arrays:
    """Replicates a tree of values, equal on every process, over the mesh."""
    whole = replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)

    def put(value):
        # device_put refuses devices of other processes; each one fills its own here.
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            data, kind = put(jax.random.key_data(value)), jax.random.key_impl(value)
            return jax.random.wrap_key_data(data, impl=kind)
        host = np.asarray(value)
        return jax.make_array_from_callback(host.shape, whole, lambda index: host[index])

    return jax.tree.map(put, tree)


def to_host(array: jax.Array) -> np.ndarray:
    """Fetches a global array to this host, whichever process holds its parts."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def barrier(name: str) -> None:
    """Waits for all processes of the run."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
