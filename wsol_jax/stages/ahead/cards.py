"""NVIDIA's cards as XLA's compiler wants them described (its GpuTargetConfigProto, as text)."""

from typing import NamedTuple


class _Card(NamedTuple):
    """What sets one card apart.

    Attributes:
      name: as its driver gives it.
      capability: of CUDA, major.
      cores: streaming multiprocessors.
      lanes: float32 units of each.
      shared, block: KiB of shared memory of a multiprocessor, and that a block may ask for.
      cache: MiB of the second level.
      clock: GHz at most.
      memory: bytes.
      bandwidth: bytes a second.
    """

    name: str
    capability: int
    cores: int
    lanes: int
    shared: int
    block: int
    cache: int
    clock: float
    memory: int
    bandwidth: float


# https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities, and the white papers
# of the two architectures (Hopper's table 4, Ampere's table 4).
_CARDS = {
    "h100": _Card("NVIDIA H100 80GB HBM3", 9, 132, 128, 228, 227, 50, 1.98, 80 * 2**30, 3352e9),
    "a100": _Card("NVIDIA A100-SXM4-80GB", 8, 108, 64, 164, 163, 40, 1.41, 80 * 2**30, 2039e9),
}

_SAME = """
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536"""


def target_config(kind: str) -> str:
    """The description of a card, "h100" or "a100", with cuDNN 9."""
    card = _CARDS[kind]
    return f"""gpu_device_info {{{_SAME}
  core_count: {card.cores}
  fpus_per_core: {card.lanes}
  shared_memory_per_core: {card.shared * 1024}
  shared_memory_per_block_optin: {card.block * 1024}
  l2_cache_size: {card.cache * 2**20}
  clock_rate_ghz: {card.clock}
  memory_bandwidth: {int(card.bandwidth)}
  device_memory_size: {card.memory}
  cuda_compute_capability {{ major: {card.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{card.name}"
"""
