"""From a list of photos to logits and raw class maps, in padded batches over the mesh."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax import sharding
from wsol_jax.data import pipeline
from wsol_jax.data.records import Source
from wsol_jax.methods import Method
from wsol_jax.progress import Progress


class LocalizedImage(NamedTuple):
    """What the network says of one image of a list.

    Attributes:
      index: of the record.
      probabilities: (C,) float32.
      ranked: (min(5, C),) classes, the likeliest first.
      class_maps: (min(5, C), h, w) float32, their raw maps.
      true_map: (h, w) float32, the raw map of the image's (first) label.
      size: (width, height) of the stored image.
    """

    index: int
    probabilities: np.ndarray
    ranked: np.ndarray
    class_maps: np.ndarray
    true_map: np.ndarray
    size: tuple[int, int]


@functools.partial(jax.jit, static_argnums=0)
def _localize(localize: Callable, variables: Any, batch: Mapping[str, jax.Array], given: Any):
    """One pass: class probabilities, the five best classes, their maps and the true class's."""
    logits, maps = localize(variables, batch["image"])
    if given is not None:
        probabilities = given
    elif "crops" in batch:
        crops = batch["crops"]
        flat = crops.reshape(-1, *crops.shape[2:])
        # The mean of the ten crops' softmax scores (SPG, section 3.3).
        scores = jax.nn.softmax(localize(variables, flat).logits)
        probabilities = jnp.mean(scores.reshape(len(crops), 10, -1), axis=1)
    else:
        probabilities = jax.nn.softmax(logits)
    _, ranked = jax.lax.top_k(probabilities, min(5, probabilities.shape[-1]))
    chosen = jnp.concatenate([ranked, batch["label"][:, None]], axis=1)
    picked = jnp.take_along_axis(maps, chosen[:, None, None, :], axis=-1)
    return probabilities, ranked, jnp.moveaxis(picked, -1, 1)


def localize_list(
    config: Any,
    method: Method,
    variables: Any,
    source: Source,
    mesh: Any,
    *,
    class_scores: np.ndarray | None = None,
    exif: bool = False,
    stop: Callable[[], Any] = lambda: None,
    what: str = "",
) -> Iterator[LocalizedImage]:
    """Every readable image of a list, in order; unreadable ones are named and skipped.

    Args:
      config: data and eval sections.
      variables: replicated over the mesh.
      class_scores: (N, C) probabilities from another classifier, or None for the network's own.
      exif: turn photos as their camera says; the boxes of data sets refer to stored pixels.
      stop: asked after each batch; anything true ends the list early.
      what: stands before the progress bar; "" shows none.

    Raises:
      UserError: more unreadable images than data.max_corrupt.
    """
    size = config.eval.size or config.data.crop
    crops = config.eval.ten_crop and class_scores is None
    # The crops keep the training's proportion of the resized image.
    large = round(size * max(config.data.resize / config.data.crop, 1.0)) if crops else 0
    example = pipeline.EvalExample(source, size, large, exif)
    # No smaller list than a batch: fewer rows mean less padding.
    rows = sharding.padded_size(min(config.eval.batch_size, max(len(source), 1)), mesh)
    processes = jax.process_count()
    batches = pipeline.eval_batches(
        example,
        rows // processes,
        process_index=jax.process_index(),
        process_count=processes,
        workers=config.data.workers,
        threads=config.data.threads,
    )
    corrupt = pipeline.CorruptCounter(source, config.data.max_corrupt)

    def put(batch):
        corrupt.check(batch)
        indices = batch["index"]
        labels = [source[i].labels if i >= 0 else () for i in map(int, indices)]
        batch = dict(batch, label=np.array([x[0] if x else 0 for x in labels], np.int32))
        host = {name: batch.pop(name) for name in ("index", "valid", "size")}
        given = None if class_scores is None else class_scores[np.maximum(indices, 0)]
        return host, sharding.to_devices(
            batch if given is None else dict(batch, given=given.astype(np.float32)), mesh
        )

    ahead = pipeline.DevicePrefetch(batches, put)
    bar = Progress(what, len(source)) if what else None
    try:
        for host, batch in ahead:
            given = batch.pop("given", None)
            outputs = _localize(method.localize, variables, batch, given)
            probabilities, ranked, maps = map(sharding.to_host, outputs)
            if processes > 1:  # every host scores every image, so that all know every figure
                host = _gather(host)
            for row in range(len(host["index"])):
                if host["valid"][row]:
                    yield LocalizedImage(
                        int(host["index"][row]),
                        probabilities[row],
                        ranked[row],
                        maps[row, :-1],
                        maps[row, -1],
                        tuple(map(int, host["size"][row])),
                    )
            if bar:
                bar.update(int(np.sum(host["index"] != pipeline.PADDING)))
            if stop():
                return
    finally:
        ahead.close()
        if bar:
            bar.close()


def _gather(host: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from jax.experimental import multihost_utils

    return {
        k: np.asarray(multihost_utils.process_allgather(v, tiled=True)) for k, v in host.items()
    }
