"""Peak figures of accelerators, each from its maker's page: what a roofline is drawn with.

They are ceilings. A step never runs faster than they allow, and as a rule it runs slower.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do at most.

    Attributes:
      platform: "tpu" or "cuda", as XLA calls what compiles for it.
      flops: products and sums a second in bfloat16 (without sparsity).
      memory: bytes on the chip.
      bandwidth: bytes a second between it and its memory.
      links: from a chip to its neighbours; of a GPU 1, the switch that all of a host share.
      link: bytes a second that one link carries, one way.
      network: bytes a second, one way, that a GPU has to other hosts.
      axes: of a TPU, how many numbers name a slice: 2x2, or 2x2x1.
      wrap: of a TPU, the side from which an axis is closed to a ring.
      host: chips of one host.
      source: where the figures stand.
    """

    platform: str
    flops: float
    memory: float
    bandwidth: float
    links: int
    link: float
    source: str
    network: float = 0.0
    axes: int = 1
    wrap: int = 0
    host: int = 4


# Google's pages give the sum of a chip's links, of both ways by now: 400 GB/s of v5e are 4 of 50
# GB/s each way. v4's page gives none, but a pod's all-reduce, 1.1 PB/s over 4096 chips; v5p was
# announced as twice v4's 2400 Gbit/s, which are 6 of 50 GB/s.
CHIPS = {
    "v4": Chip(
        "tpu", 275e12, 32 * 2**30, 1200e9, 6, 50e9, "https://cloud.google.com/tpu/docs/v4",
        axes=3, wrap=4,
    ),
    "v5e": Chip(
        "tpu", 197e12, 16e9, 819e9, 4, 50e9, "https://cloud.google.com/tpu/docs/v5e",
        axes=2, wrap=16,
    ),
    "v5p": Chip(
        "tpu", 459e12, 95e9, 2765e9, 6, 100e9, "https://cloud.google.com/tpu/docs/v5p",
        axes=3, wrap=4,
    ),
    "v6e": Chip(
        "tpu", 918e12, 32e9, 1600e9, 4, 100e9, "https://cloud.google.com/tpu/docs/v6e",
        axes=2, wrap=16,
    ),
    # SXM; NVLink's 900 GB/s (600) are of both ways. Between hosts: a 400 (200) Gbit/s card a GPU,
    # as in NVIDIA's DGX H100 (A100), whose user guides list eight.
    "h100": Chip(
        "cuda", 989e12, 80e9, 3350e9, 1, 450e9, "https://www.nvidia.com/en-us/data-center/h100/",
        network=50e9, host=8,
    ),
    "a100": Chip(
        "cuda", 312e12, 80e9, 2039e9, 1, 300e9, "https://www.nvidia.com/en-us/data-center/a100/",
        network=25e9, host=8,
    ),
}  # fmt: skip
