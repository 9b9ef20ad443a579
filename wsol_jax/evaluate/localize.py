"""From a list of photos to logits and raw class maps, in padded batches over the mesh."""

import contextlib
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from wsol_jax.base import sharding
from wsol_jax.base.progress import Progress, compiling
from wsol_jax.data import pipeline, prefetch
from wsol_jax.data.records import Source
from wsol_jax.data.views import eval_center, eval_resize
from wsol_jax.explain import named
from wsol_jax.methods import Method, Segmentation, Variables, shared
from wsol_jax.runs.opened import Network


class LocalizedImage(NamedTuple):
    """What the network says of one image of a list.

    Attributes:
      index: of the record.
      probabilities: (C,) float32.
      ranked: (min(5, C),) classes, the likeliest first.
      class_maps: (min(5, C), h, w) float32, their raw maps.
      true_map: (h, w) float32, the raw map of the image's (first) label.
      size: (width, height) of the stored image.
      maps: (h, w, C) float32, the raw maps of all classes, where they were asked for; always of a
        segmentation.
      segmented: whether the maps are a segmentation's probabilities.
      parts: the same of what is scored beside the whole, by name.
    """

    index: int
    probabilities: np.ndarray
    ranked: np.ndarray
    class_maps: np.ndarray
    true_map: np.ndarray
    size: tuple[int, int]
    maps: np.ndarray | None = None
    segmented: bool = False
    parts: Mapping[str, "LocalizedImage"] = types.MappingProxyType({})


class Explained(NamedTuple):
    """Maps by an explanation of the class scores, where they are wanted: see ``explain.maps``."""

    method: Method
    name: str
    layer: str

    @classmethod
    def of(cls, network: Network) -> "Explained | None":
        """What the config asks for; None for the method's own class maps."""
        options = network.config.eval
        if options.explain in ("", named.CAM):
            return None
        return cls(network.method, options.explain, options.explain_layer)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _localize(
    localize: Callable,
    explained: Explained | None,
    scores: str,
    every_map: bool,
    with_parts: bool,
    variables: Variables,
    batch: Mapping[str, jax.Array],
    given: jax.Array | None,
):
    """One pass: class probabilities, the five best classes, and maps by part ("" is the whole).

    Of a segmentation, and with ``every_map``, a part's maps are (B, h, w, C); else (B, 6, h, w),
    those of the five and of the true class.
    Where they are explained there are no parts.
    """
    logits, maps, parts = localize(variables, batch["image"])
    if given is not None:
        probabilities = given
    elif "crops" in batch:
        # The mean of the ten crops' softmax scores (SPG, section 3.3); a crop at a time, so that
        # they need no more memory than the photos themselves.
        score = lambda crop: shared.probabilities(localize(variables, crop).logits, scores)
        each = jax.lax.map(score, jnp.moveaxis(batch["crops"], 1, 0))
        probabilities = jnp.mean(each, axis=0)
    else:
        probabilities = shared.probabilities(logits, scores)
    _, ranked = jax.lax.top_k(probabilities, min(5, probabilities.shape[-1]))
    chosen = jnp.concatenate([ranked, batch["label"][:, None]], axis=1)

    def pick(maps):
        if every_map or isinstance(maps, Segmentation):
            return maps
        picked = jnp.take_along_axis(maps, chosen[:, None, None, :], axis=-1)
        return jnp.moveaxis(picked, -1, 1)

    if explained is not None:
        if every_map:
            chosen = jnp.broadcast_to(jnp.arange(logits.shape[-1]), logits.shape)
        own = (explained.method, variables, batch["image"], chosen, explained.name, explained.layer)
        found = named.class_maps(*own)
        return probabilities, ranked, {"": jnp.moveaxis(found, 1, -1) if every_map else found}
    everything = {"": maps, **(parts if with_parts else {})}
    return probabilities, ranked, {name: pick(part) for name, part in everything.items()}


# What of ``_localize`` this process has compiled: what jit keeps its programs by.
_COMPILED: set[tuple[object, ...]] = set()


def _saying(
    what: str, settings: tuple[object, ...], batch: Mapping[str, jax.Array]
) -> contextlib.AbstractContextManager[None]:
    """Says that a call of ``_localize`` compiles, where it does; nothing under no name."""
    shapes = ((name, value.shape, str(value.dtype)) for name, value in batch.items())
    key = (*settings, *sorted(shapes))
    if key in _COMPILED:
        return contextlib.nullcontext()
    _COMPILED.add(key)
    return compiling(what) if what else contextlib.nullcontext()


def localize_list(
    network: Network,
    source: Source,
    *,
    class_scores: np.ndarray | None = None,
    every_map: bool = False,
    parts: bool = True,
    crops: bool = True,
    exif: bool = False,
    stop: Callable[[], object] = lambda: None,
    what: str = "",
    said: str = "",
) -> Iterator[LocalizedImage]:
    """Every readable image of a list, in order; unreadable ones are named and skipped.

    Args:
      class_scores: (N, C) probabilities from another classifier, or None for the network's own.
      every_map: the raw class maps of all classes too.
      parts: whether what is scored beside the whole is wanted.
      crops: whether class scores are those of ten crops, where the config asks for these.
      exif: turn photos as their camera says; the boxes of data sets refer to stored pixels.
      stop: asked after each batch; anything true ends the list early.
      what: stands before the progress bar; "" shows none.
      said: stands before the word that a program compiles, where no bar has a name for it.

    Raises:
      UserError: more unreadable images than data.max_corrupt.
    """
    config = network.config
    scores, explained = shared.score_kind(config), Explained.of(network)
    size = pipeline.eval_size(config)
    crops = crops and config.eval.ten_crop and class_scores is None
    large = eval_resize(config) if crops else 0
    example = pipeline.EvalExample(source, size, large, exif, eval_center(config))

    def extend(host):
        labels = [source[i].labels if i >= 0 else () for i in map(int, host["index"])]
        more = {"label": np.array([x[0] if x else 0 for x in labels], np.int32)}
        if class_scores is not None:
            given = class_scores[np.maximum(host["index"], 0)]
            more["given"] = given.astype(np.float32)
        return more

    def look(batch):
        given = batch.pop("given", None)
        settings = (network.method.localize, explained, scores, every_map, parts)
        with _saying(what or said, settings, batch):
            return _localize(*settings, network.variables, batch, given)

    # The devices have begun with a batch when whoever scores gets the one before it.
    before = None
    batches = over_list(config, source, network.mesh, example, extend, what)
    with contextlib.closing(batches):
        for host, batch in batches:
            outputs = look(batch)
            if before is not None:
                yield from _rows(*before, every_map)
            before = host, outputs
            if stop():
                return
        if before is not None:
            yield from _rows(*before, every_map)


def over_list(
    config: ml_collections.ConfigDict,
    source: Source,
    mesh: Mesh,
    example: pipeline.EvalExample,
    extend: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    what: str = "",
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, jax.Array]]]:
    """A list once, in padded batches over the mesh; unreadable images are named and skipped.

    Args:
      config: data and eval sections.
      example: makes a row of a record.
      extend: of this process's rows, given as ``host`` is: what goes to the devices beside the
        pixels, and stays on the host too.
      what: stands before the progress bar; "" shows none.

    Yields:
      host: "index", "valid", "size" (width, height) and what ``extend`` adds, of all processes'
      rows; batch: "image" and the rest on the devices.

    Raises:
      UserError: more unreadable images than data.max_corrupt.
    """
    # Of a list smaller than a batch no more rows than the next power of two: less padding, and few
    # sizes to compile for whoever shows photos one by one and several at a time.
    few = 1 << max(len(source) - 1, 0).bit_length()
    rows = sharding.padded_size(min(config.eval.batch_size, few), mesh)
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
        batch = dict(batch)
        host = {name: batch.pop(name) for name in ("index", "valid", "size")}
        more = extend(host)
        return {**host, **more}, sharding.to_devices({**batch, **more}, mesh)

    ahead = prefetch.DevicePrefetch(batches, put)
    bar = Progress(what, len(source)) if what else None
    try:
        for host, batch in ahead:
            if processes > 1:  # every host scores every image, so that all know every figure
                host = _gather(host)
            yield host, batch
            if bar:
                bar.update(int(np.sum(host["index"] != pipeline.PADDING)))
    finally:
        ahead.close()
        if bar:
            bar.close()


def _rows(
    host: Mapping[str, np.ndarray], outputs: tuple, every_map: bool
) -> Iterator[LocalizedImage]:
    """A batch's images, of ``_localize``'s outputs."""
    probabilities, ranked, maps = jax.tree.map(sharding.to_host, outputs)
    for row in range(len(host["index"])):
        if host["valid"][row]:
            one = {name: value[row] for name, value in host.items()}
            best = probabilities[row], ranked[row]
            found = {n: _image(one, *best, x, row, every_map) for n, x in maps.items()}
            yield found.pop("")._replace(parts=found)


def _image(
    host: Mapping[str, np.ndarray],
    probabilities: np.ndarray,
    ranked: np.ndarray,
    maps: np.ndarray | Segmentation,
    row: int,
    every_map: bool,
) -> LocalizedImage:
    """One image's row of ``_localize``'s outputs."""
    index, size = int(host["index"]), tuple(map(int, host["size"]))
    segmented = isinstance(maps, Segmentation)
    picked = whole = None
    if segmented or every_map:
        whole = (maps.probabilities if segmented else maps)[row]
        picked = np.moveaxis(whole[..., [*ranked, host["label"]]], -1, 0)
    else:
        picked = maps[row]
    said = (index, probabilities, ranked, picked[:-1], picked[-1], size)
    return LocalizedImage(*said, whole, segmented)


def _gather(host: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from jax.experimental import multihost_utils

    return {
        k: np.asarray(multihost_utils.process_allgather(v, tiled=True)) for k, v in host.items()
    }
