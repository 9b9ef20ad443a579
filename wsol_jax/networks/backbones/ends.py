"""What all trunks do alike at their ends: check their fields, and classify from the last map."""

from collections.abc import Collection, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def check_stride(output_stride: int, known: Sequence[int] = (8, 16, 32)) -> None:
    """Raises ValueError for an output stride that is none of the trunk's."""
    if output_stride not in known:
        *first, last = map(str, known)
        raise ValueError(f"output_stride must be {', '.join(first)} or {last}, not {output_stride}")


def check_whole(num_classes: int | None, final_endpoint: str, last: str) -> None:
    """Raises ValueError for a classifier on a trunk that ends before its ``last`` layer."""
    if num_classes is not None and final_endpoint != last:
        raise ValueError(f"num_classes needs the whole trunk: final_endpoint {last!r}")


def check_endpoint(final_endpoint: str, names: Collection[str]) -> None:
    """Raises ValueError for a final endpoint that is none of the trunk's layers."""
    if final_endpoint not in names:
        raise ValueError(f"no endpoint {final_endpoint!r}; there are {list(names)}")


def pooled_logits(x: jax.Array, num_classes: int, name: str) -> jax.Array:
    """Classifies by a dense layer on the average: (B, h, w, D) -> (B, num_classes) float32.

    Call it in a module; ``name``: of the layer.
    """
    return nn.Dense(num_classes, name=name)(jnp.mean(x.astype(jnp.float32), axis=(1, 2)))
