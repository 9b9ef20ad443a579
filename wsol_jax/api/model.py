"""A trained run that looks at photos: what ``wsol_jax.load`` gives."""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import cv2
import numpy as np
from absl import logging

from wsol_jax import methods
from wsol_jax.api import answer, exported, photos
from wsol_jax.api.photos import Photo, Photos
from wsol_jax.api.result import Result
from wsol_jax.base import commands, fetched, remote, sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.threads import in_order, usable_cores
from wsol_jax.base.typed import as_typed
from wsol_jax.base.types import Config
from wsol_jax.data.pipeline import eval_size
from wsol_jax.data.transforms import view
from wsol_jax.data.views import eval_center
from wsol_jax.evaluate.boxes import DEFAULT_THRESHOLD
from wsol_jax.evaluate.localize import localize_list
from wsol_jax.explain import named
from wsol_jax.metrics.maps import prepare_map
from wsol_jax.runs import figures, mirror, workdirs
from wsol_jax.runs.opened import Network
from wsol_jax.runs.plan import restore_variables, without_weights

Out = TypeVar("Out")
_WARNING = 30  # logging's number of it


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network that looks at photos; made by ``load``. Several threads may share it.

    Attributes:
      network: the method with its variables.
      class_names: of the run.
      threshold: of the boxes, as the run's evaluation chose it.
      step: of the checkpoint.
      workdir: of the run.
    """

    network: Network
    class_names: tuple[str, ...]
    threshold: float
    step: int
    workdir: pathlib.Path

    def __call__(
        self,
        photo: Photo | Sequence[Photo],
        *,
        threshold: float | None = None,
        boxes: str = "largest",
        min_score: float | None = None,
        classes: Sequence[str] = (),
    ) -> Result | list[Result] | Iterator[Result]:
        """Says what is in a photo, in several, or in a folder of them.

        Args:
          photo: a path, an encoded file's bytes, an array (H, W, 3) uint8 RGB or a Pillow image,
            for a ``Result``; a list or tuple of these, for a list; a folder's path, for an iterator
            over its photos (sub-folders too), which reads ahead, keeps few in memory, and names and
            skips unreadable ones, up to the run's ``data.max_corrupt``.
          threshold: of the boxes, 0 to below 1; default: the run's.
          boxes: "largest" of each class, or "all".
          min_score: the least probability of a class that is in the photo; default 0.5 where an
            image may have several, else 0.
          classes: names of those that may be in it; default: all.

        Raises:
          UserError: a photo that cannot be read, no photo, or an option out of its range.
        """
        options = self.wanted(threshold, boxes=boxes, min_score=min_score, classes=classes)
        if isinstance(photo, list | tuple):
            return self._list(photos.given([*map(_here, photo)], self.class_names), options)
        photo = _here(photo)
        if isinstance(photo, str | os.PathLike) and os.path.isdir(photo):
            return self.each(photos.find(photo, self.class_names), options)
        return self._list(photos.given([photo], self.class_names), options)[0]

    def heatmap(
        self, photo: Photo, label: str = "", method: str = "", layer: str = ""
    ) -> np.ndarray:
        """(H, W) float32 in [0, 1]: where a class is, whether or not it is in the photo.

        Args:
          photo: one, as for a call.
          label: the class; "" is the likeliest.
          method: "" is what the run was scored by, its class map as a rule; "grad_cam",
            "layer_cam" and so on explain the class score at a layer (``explain.named``).
          layer: its name; "" is the one that the class maps come from.

        Raises:
          UserError: as a call; no such class, method or layer.
        """
        result = self(photo, classes=[label] if label else ())
        if not isinstance(result, Result):
            raise UserError("heatmap: expected one photo, got several or a folder.")
        found = result.heatmap if not method else self._explained(result, method, layer)
        if not found.any():
            name = self.class_names[result.best]
            logging.warning("%s: no place speaks for %r: its map is 0 all over.", result.name, name)
        return found

    def _explained(self, result: Result, method: str, layer: str) -> np.ndarray:
        """A heat map of a photo's likeliest class by an explanation."""
        image = view(result.image, eval_size(self.config), eval_center(self.config))[None]
        raw = named.maps(self.network, image, result.best, method, layer)
        return cv2.resize(
            prepare_map(np.asarray(raw)[0]), result.size, interpolation=cv2.INTER_LINEAR
        )

    def export(self, out: str | os.PathLike) -> pathlib.Path:
        """Writes the network as files that JAX alone runs: see ``wsol_jax.api.exported``.

        Args:
          out: the folder; made if absent, an earlier export in it is replaced.

        Raises:
          UserError: ``out`` is something else, or the method cannot be exported.
        """
        return exported.write(self, out)

    def wanted(self, threshold: float | None = None, **options) -> answer.Wanted:
        """Checks the options of a call."""
        threshold = self.threshold if threshold is None else threshold
        return answer.wanted(self.class_names, self.several, threshold, **options)

    @property
    def config(self) -> Config:
        """The run's config."""
        return self.network.config

    @property
    def several(self) -> bool:
        """Whether an image may have several classes."""
        return bool(self.config.data.multi_label)

    def each(
        self,
        source: Photos,
        wanted: answer.Wanted,
        then: Callable[[Result], Out] = lambda result: result,
        what: str = "",
    ) -> Iterator[Out]:
        """What ``then`` makes of each readable photo's result, in order, on threads.

        Args:
          what: stands before a progress bar; "" shows none.
        """
        crf, every = self.config.eval.crf, bool(wanted.several or wanted.classes)

        def work(image):
            record = source[image.index]
            return then(answer.answer(image, record, self.class_names, wanted, crf))

        cores = usable_cores()
        options = {"every_map": every, "parts": False, "exif": True, "what": what}
        looked = localize_list(self.network, source, **options)
        with concurrent.futures.ThreadPoolExecutor(cores) as pool:
            yield from in_order(pool, work, looked, ahead=2 * cores)

    def _list(self, source: Photos, wanted: answer.Wanted) -> list[Result]:
        """Every photo's result; none may be unreadable."""
        if not len(source):
            return []
        results = list(self._counting_none.each(source, wanted))
        if len(results) < len(source):
            seen = {result.name for result in results}
            for record in source.records:
                if record.image_id not in seen:
                    photos.pixels(record)  # it says why
            raise UserError("a photo could not be read.")
        return results

    @functools.cached_property
    def _counting_none(self) -> "Model":
        """The same, which names unreadable photos, however many, and goes on."""
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.data.max_corrupt = sys.maxsize
        network = dataclasses.replace(self.network, config=config)
        return dataclasses.replace(self, network=network)

    def __repr__(self) -> str:
        classes, place = f"{len(self.class_names)} classes", as_typed(str(self.workdir))
        return f"<{self.config.method} of {place} at step {self.step}, {classes}>"


def _here(photo: Photo) -> Photo:
    """A photo, or a folder, of a URL as a path on this machine."""
    return fetched.local(photo, str(photo), folder=None) if remote.is_url(photo) else photo


def load(
    workdir: str | os.PathLike, *, checkpoint: str = "", batch: int = 0, dtype: str = ""
) -> Model:
    """Opens a trained run to look at photos.

    Args:
      workdir: the folder that was trained in, or its URL; of a run in stages, its last network is
        taken.
      checkpoint: "best" or "latest"; "" is as the run was scored.
      batch: photos that are looked at together; 0 is as the run was scored.
      dtype: "float32" or "bfloat16"; "" is the run's.

    Raises:
      UserError: no run, a damaged one, or an argument that is none of these.
    """
    commands.no_flags()
    sharding.keep_compiled_programs()
    workdir = mirror.read(workdir, choose=mirror.network_alone)
    folder = workdirs.network_folder(workdir)
    config, class_names = workdirs.load_to_run(folder)
    if not isinstance(batch, int) or batch < 0:
        raise UserError(f"batch={batch}: expected 1 or more, or 0.")
    config = without_weights(config)  # the checkpoint has them
    with config.unlocked():
        config.eval = workdirs.load(workdir)[0].eval  # as the run was scored last
        config.eval.class_scores = ""
        config.eval.update(_explained(workdir))
        config.eval.checkpoint = checkpoint or config.eval.checkpoint
        config.eval.batch_size = batch or config.eval.batch_size
        config.data.workers = 0  # processes start too slowly for one photo
        config.data.threads = max(config.data.threads, usable_cores())
    mesh = sharding.data_mesh()
    method = methods.build(config, len(class_names))
    _quieten()
    variables, step = restore_variables(config, folder, method, mesh)
    if dtype:
        with config.unlocked():
            config.dtype = dtype
        method = methods.build(config, len(class_names))
    network = Network(config, method, variables, mesh)
    return Model(network, class_names, run_threshold(config, workdir), step, workdir)


def _explained(workdir: pathlib.Path) -> dict[str, str]:
    """What the run was scored by last, whose box threshold stands in metrics.json."""
    found = figures.read(workdir)
    if found is None:
        return {}
    name, layer = figures.explanation(found)
    return {"explain": name, "explain_layer": layer}


@functools.cache
def _quieten() -> None:
    """Keeps Orbax's warnings that a folder is only read out of notebooks."""
    orbax = f"{os.sep}orbax{os.sep}"
    ours = lambda record: record.levelno > _WARNING or orbax not in record.pathname
    logging.get_absl_logger().addFilter(ours)


def run_threshold(config: Config, workdir: pathlib.Path) -> float:
    """The box threshold that the run's evaluation chose; where it had none, the config's, or 0.2.

    Raises:
      UserError: metrics.json is damaged.
    """
    found = figures.read_finished(workdir)
    if found is not None:
        return float(found["threshold"])
    if config.eval.threshold >= 0:
        return float(config.eval.threshold)
    logging.warning("%s has no metrics.json: the box threshold is %.1f", workdir, DEFAULT_THRESHOLD)
    return DEFAULT_THRESHOLD
