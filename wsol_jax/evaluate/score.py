"""The one pass over a list: a network's products against the truth, whatever their kind."""

import concurrent.futures
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from wsol_jax.base.errors import LOWER_RATE, UserError
from wsol_jax.base.threads import in_order, usable_cores
from wsol_jax.data.records import Source
from wsol_jax.evaluate import figures
from wsol_jax.evaluate.kind import QUICK, Kind, Task, Truth
from wsol_jax.evaluate.localize import LocalizedImage, localize_list
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.stored.predictions import read_probabilities
from wsol_jax.metrics.maps import NotFinite
from wsol_jax.runs.opened import Network

_WHOLE_LIST = Task()


def score_list(
    network: Network,
    source: Source,
    kind: Kind,
    task: Task = _WHOLE_LIST,
    *,
    stop: Callable[[], object] = lambda: None,
    what: str = "",
    said: str = "",
) -> Results:
    """Scores a list in one pass: the devices look at photos, threads score what they say.

    Args:
      kind: from ``kinds.of``.
      stop: asked after each batch; anything true ends the list early.
      what: stands before the progress bar; "" shows none.
      said: as for ``localize_list``.

    Raises:
      UserError: more unreadable images than data.max_corrupt, or no other ones; another
        classifier's scores that are not of this list.
    """
    config = network.config
    given = read_class_scores(config.eval.class_scores, source) if kind.takes_class_scores else None
    results = kind.empty(source.class_names)
    options = dict(class_scores=given, every_map=kind.every_map, parts=task.parts, stop=stop)
    options |= dict(crops=task.full, what=what, said=said)
    images = localize_list(network, source, **options)

    def work(image: LocalizedImage):
        try:
            return rows_of(image)
        except NotFinite as error:
            raise UserError(
                f"image {source[image.index].image_id!r} of list {source.name!r}: {error}, so the "
                f"network has diverged. {LOWER_RATE}"
            ) from error

    def rows_of(image: LocalizedImage):
        truth = Truth(source, image.index, image.size)
        rows = kind.score(image, truth, task, "")
        found = [(kind, part, image, row) for part, row in rows.items()]
        for name, own in image.parts.items():
            its = kind.parts[name]
            found += [(its, n, own, row) for n, row in its.score(own, truth, task, name).items()]
        return found

    count, threads = 0, max(config.data.threads, usable_cores())
    # Every core has work; but of what runs on an accelerator no more than that has memory for.
    ahead = max(kind.ahead, threads + 1) if jax.default_backend() == "cpu" else kind.ahead
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for found in in_order(pool, work, images, ahead=ahead):
            count += 1
            for its, part, image, row in found:
                into = results
                if part:
                    into = results.parts.setdefault(part, its.empty(source.class_names))
                its.add(into, image, row)
    # Of several processes one may have no image of a short list.
    if not count and len(source) and jax.process_count() == 1 and not stop():
        raise UserError(
            f"none of the {len(source)} images of list {source.name!r} can be read: there is "
            "nothing to score."
        )
    return results


def watch(
    network: Network, source: Source, kind: Kind, stop: Callable[[], object]
) -> dict[str, float] | None:
    """The figures that the loop watches on the tune list; None if ``stop`` cut it short."""
    said = f"evaluate {source.name}"
    results = score_list(network, source, kind, QUICK, stop=stop, said=said)
    if stop():
        return None
    return figures.watched(results.figures(0.0, intervals=False))


def read_class_scores(path: str, source: Source) -> np.ndarray | None:
    """Another classifier's probabilities in the order of the list, if ``path`` names a file.

    Raises:
      UserError: the file is of other classes, or lacks some of the list's images.
    """
    if not path:
        return None
    ids, values = read_probabilities(path, "eval.class_scores")
    if values.shape[1] != len(source.class_names):
        raise UserError(
            f"eval.class_scores={path}: probabilities have shape {values.shape}, expected "
            f"({len(ids)}, {len(source.class_names)})."
        )
    rows = {name: row for row, name in enumerate(ids)}
    wanted = [source[i].image_id for i in range(len(source))]
    missing = [name for name in wanted if name not in rows]
    if missing and len(missing) < len(wanted):
        raise UserError(
            f"eval.class_scores={path}: no row for {missing[0]} and {len(missing) - 1} more of "
            f"list {source.name!r}."
        )
    if missing:  # a file of the test list need not know the tune list
        logging.warning(
            "eval.class_scores=%s: no row for list %r, which keeps the network's own classes",
            path,
            source.name,
        )
        return None
    return values[[rows[name] for name in wanted]]
