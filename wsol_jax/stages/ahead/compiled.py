"""Compiles a training's step for devices that are not here, and reads what it asks of them."""

import dataclasses
import re
from collections.abc import Mapping

import jax
from jax.sharding import Mesh

from wsol_jax import methods
from wsol_jax.base import target
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Json
from wsol_jax.runs.plan import Plan, abstract_state, trace_step, without_weights
from wsol_jax.stages.ahead import counted, hlo, kept, topology
from wsol_jax.stages.ahead.products import count_flops
from wsol_jax.stages.ahead.roofline import Floor, floor
from wsol_jax.stages.ahead.topology import Topology


class TooLarge(UserError):
    """A step that needs more memory than a chip has."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What one training step asks of each chip of a topology.

    Attributes:
      rows: images a chip.
      flops: products and sums of its convolutions and matrix products, as written.
      traffic: bytes between the chip and its memory.
      accessed: XLA's "bytes accessed" in place of that, which has the memory on a TPU's core too,
        and every loop once; None where it does not tell.
      arguments, temporaries, outputs: bytes of memory; what is given back in the place of an
        argument (the state) counts once.
      collectives: {operation: (how often, bytes that each chip puts in)}.
      host_calls: instructions that wait for the host.
      text: the program, optimised and scheduled (HLO).
    """

    topology: Topology
    rows: int
    flops: float
    traffic: float
    accessed: float | None
    arguments: int
    temporaries: int
    outputs: int
    collectives: Mapping[str, tuple[int, int]]
    host_calls: list[str]
    text: str = dataclasses.field(repr=False)

    @property
    def memory(self) -> int:
        """Bytes that a chip needs at the step's peak."""
        return self.arguments + self.temporaries + self.outputs

    @property
    def exchanged(self) -> int:
        """Bytes that a chip puts into collectives."""
        return sum(size for _, size in self.collectives.values())

    @property
    def floor(self) -> Floor:
        """The least time of the step."""
        return floor(self.flops, self.traffic, self.exchanged, self.topology)

    @property
    def images_per_second(self) -> float:
        """Of all chips together, at best."""
        return self.rows * self.topology.count / self.floor.seconds

    def to_json(self) -> dict[str, Json]:
        """As describe.json has it."""
        bound = self.floor
        return {
            "topology": self.topology.name,
            "chips": self.topology.count,
            "images_per_chip": self.rows,
            "flops": self.flops,
            "traffic_bytes": self.traffic,
            "accessed_bytes": self.accessed,
            "memory_bytes": self.memory,
            "memory_of_chip_bytes": self.topology.chip.memory,
            "fits": self.memory <= self.topology.chip.memory,
            "argument_bytes": self.arguments,
            "temporary_bytes": self.temporaries,
            "collectives": {
                name: {"count": count, "bytes": size}
                for name, (count, size) in sorted(self.collectives.items())
            },
            "host_calls": self.host_calls,
            "products_seconds": bound.products,
            "memory_seconds": bound.memory,
            "interconnect_seconds": bound.interconnect,
            "step_seconds": bound.seconds,
            "images_per_second": self.images_per_second,
            "binds": bound.binds,
            "source": self.topology.chip.source,
        }


def compile_step(config: Config, num_classes: int, name: str) -> Step:
    """The step that ``config`` (of one training) takes on a topology, compiled by XLA.

    Takes one to five minutes of one core, and no time where the same program was compiled before:
    what XLA made of it is kept in the cache's folder.

    Args:
      config: of a run without stages, or ``stage_config`` of one of its trainings.
      name: of the topology, such as "v5e:2x2".

    Raises:
      UserError: no such topology, nothing that compiles for it, or more memory than it has.
    """
    place = topology.parse(name)
    mesh = topology.mesh_of(place)
    traced, plan = traced_step(config, num_classes, mesh, place.platform)
    rows = plan.padded_size // mesh.size
    made = kept.compiled(traced, place)
    if "error" in made:
        raise TooLarge(_sentence(made["error"], place, rows))
    program = hlo.parse(made["text"])
    return Step(
        topology=place,
        rows=rows,
        flops=count_flops(traced.jaxpr.jaxpr) / mesh.size,
        traffic=counted.traffic(program),
        accessed=made["accessed"],
        arguments=made["arguments"],
        temporaries=made["temporaries"],
        outputs=made["outputs"],
        collectives=counted.collectives(program),
        host_calls=counted.host_calls(program),
        text=made["text"],
    )


def traced_step(
    config: Config, num_classes: int, mesh: Mesh, platform: str
) -> tuple[jax.stages.Traced, Plan]:
    """The step of a training as it is traced on a platform, over a mesh of its devices."""
    config = without_weights(config)
    with target.traced_for(platform):
        method = methods.build(config, num_classes)
        plan = Plan.of(config.train, 100 * config.train.batch_size, mesh)
        state, step = abstract_state(config, method, plan, mesh)
        return trace_step(step, state, plan, config, num_classes, mesh, method.wants), plan


def _sentence(error: str, place: Topology, rows: int) -> str:
    used = re.search(r"Used ([\d.]+[GM]) of", error)
    needs = f"{used[1]}iB" if used else "more memory than it has"
    return (
        f"--topology={place.name}: a step of {rows} images a chip needs {needs}, of "
        f"{place.chip.memory / 1e9:.3g} GB: expected a smaller batch=, or accumulate=."
    )
