"""What a step takes at least on a chip, from what it asks and what the chip can do at most."""

import dataclasses

from wsol_jax.stages.ahead.topology import Topology


@dataclasses.dataclass(frozen=True)
class Floor:
    """The least seconds of a step, by what they would be spent on.

    Attributes:
      products: all products and sums at the chip's peak in bfloat16.
      memory: all traffic at the bandwidth of the chip's memory.
      interconnect: all that chips say to each other, over all links that the slice gives them.
    """

    products: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """Of a step at best: the three at once, each in the shade of the longest."""
        return max(self.products, self.memory, self.interconnect)

    @property
    def binds(self) -> str:
        """What the step waits for at best: "products", "memory" or "interconnect"."""
        return max(dataclasses.asdict(self).items(), key=lambda pair: pair[1])[0]


def floor(flops: float, traffic: float, exchanged: float, topology: Topology) -> Floor:
    """The roofline of a step (Williams et al. 2009), with a third side for the interconnect.

    Args:
      flops, traffic: of one chip.
      exchanged: bytes that each chip puts into all-reduces.
    """
    chip = topology.chip
    return Floor(
        flops / chip.flops, traffic / chip.bandwidth, all_reduce_seconds(exchanged, topology)
    )


def all_reduce_seconds(bytes_each: float, topology: Topology) -> float:
    """The least seconds in which chips sum an array of ``bytes_each`` that each of them has.

    Every chip sends the array twice, less its own part: once to sum the parts, once to spread the
    sums (a ring; Patarasuk and Yuan 2009). On a TPU slice the chip with the fewest links sets the
    pace, a corner where the axes are not closed to rings. GPUs sum within a host, then across hosts
    the part that is theirs, then spread it within the host. Latency is left out: a microsecond for
    each neighbour on the way. So are sums that H100's switch does itself (SHARP), which may halve
    what a GPU sends within a host.
    """
    sent = lambda count: 2 * (count - 1) / count * bytes_each
    chip = topology.chip
    if chip.platform == "tpu":
        links = links_of(topology)
        return sent(topology.count) / (links * chip.link) if links else 0.0
    hosts, gpus = topology.sides
    return sent(gpus) / chip.link + sent(hosts) / gpus / (chip.network or 1)


def links_of(topology: Topology) -> int:
    """The links of the chip that has the fewest: one for each open axis, two for a closed one."""
    chip = topology.chip
    if chip.axes == 3:  # closed where the slice is made of whole cubes
        closed = [all(side % chip.wrap == 0 for side in topology.sides)] * 3
    else:
        closed = [side == chip.wrap for side in topology.sides]
    pairs = zip(topology.sides, closed, strict=True)
    return sum((2 if ring else 1) for side, ring in pairs if side > 1)
