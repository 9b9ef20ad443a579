"""Single images of finished runs: their kept maps, and the cards made of them."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from wsol_jax.base.files import write_arrays
from wsol_jax.base.stored import read_arrays, reading
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.results import Results
from wsol_jax.metrics.boxes import boxes_from_score_map
from wsol_jax.metrics.maps import MAP_SIZE, min_max, prepare_map
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.report.example import Example, Run
from wsol_jax.runs.figures import AGAIN

FOLDER = "maps"  # of a work directory: one file a list

# (list, image ids) -> the photos that can be found, (H, W, 3) uint8 RGB
Photos = Callable[[str, Collection[str]], Mapping[str, np.ndarray]]


def save_maps(path: pathlib.Path, image_ids: Sequence[str], maps: Iterable[np.ndarray]) -> None:
    """Writes each image's raw class map, scaled to [0, 1], in half precision at its own size.

    Args:
      maps: (h, w) floats of one shape, in the order of ``image_ids``.
    """
    rows = [min_max(m).astype(np.float16) for m in maps]
    kept = PerImage(rows[0].shape if rows else (1, 1), np.float16)
    kept.update(image_ids, np.reshape(rows, (len(rows), *kept.shape)))
    write_arrays(path, kept.to_arrays())


def load_maps(workdir: str | os.PathLike, name: str) -> dict[str, np.ndarray]:
    """A list's maps by image id, (h, w) float16; empty where the run kept none.

    Raises: UserError for a damaged file.
    """
    path = pathlib.Path(workdir) / FOLDER / f"{name}.npz"
    if not path.is_file():
        return {}
    with reading(path, AGAIN):
        arrays = read_arrays(path, AGAIN)
        found = dict(zip(map(str, arrays["ids"]), arrays["rows"], strict=True))
        for row in found.values():
            prepare_map(row)  # of two dimensions, finite
    return found


def load_scores(workdir: str | os.PathLike, names: Iterable[str]) -> dict[str, Results]:
    """The per-image results of a run's lists, those without a file left out.

    Raises: UserError for a damaged file.
    """
    folder = pathlib.Path(workdir) / "scores"
    paths = {name: folder / f"{name}.npz" for name in names}
    return {name: kinds.load(path) for name, path in paths.items() if path.is_file()}


def pictured(run: Run, name: str) -> set[str]:
    """Ids of the images of a list that ``examples`` can make a card of."""
    return {e.image_id for e in run.examples if e.split == name} | run.maps.get(name, {}).keys()


def examples(
    run: Run, name: str, image_ids: Sequence[str], photos: Mapping[str, np.ndarray]
) -> list[Example]:
    """Cards of some images of a list, each ``pictured``, from the gallery or from the kept maps.

    Args:
      photos: by image id; an image of neither photos nor gallery has its map on black.
    """
    stored = {e.image_id: e for e in run.examples if e.split == name}
    scores = run.scores[name]
    classes, ious, truth = (dict(p.items()) for p in (scores.classes, scores.ious, scores.truth))
    found = []
    for image_id in image_ids:
        if image_id in stored:
            found.append(dataclasses.replace(stored[image_id], pictures={}))
            continue
        score_map = prepare_map(run.maps[name][image_id])
        label, predicted = (scores.class_names[c] for c in classes[image_id])
        found.append(
            Example(
                image_id=image_id,
                image=photos.get(image_id, np.zeros((MAP_SIZE, MAP_SIZE, 3), np.uint8)),
                score_map=score_map,
                true_boxes=truth[image_id] / MAP_SIZE,
                box=boxes_from_score_map(score_map, [run.threshold])[0, 0] / MAP_SIZE,
                iou=float(ious[image_id]) if image_id in ious else None,
                label=label,
                labels=(label,),
                predicted=predicted,
                split=name,
            )
        )
    return found
