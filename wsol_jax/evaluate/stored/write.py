"""A run's score maps on disk, in the layout that ``stored.layout`` reads."""

import io
import pathlib

import cv2
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, write_whole
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.records import Source
from wsol_jax.evaluate.localize import LocalizedImage


def check_free(folder: pathlib.Path) -> None:
    """Makes a folder; raises UserError where it holds something or cannot be made.

    Older maps would pass for part of the new ones, and deleting is left to whoever owns them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"--store_maps: {folder} is not empty: name another folder.")
    except OSError as error:
        raise _refused(folder, error) from None


class MapStore:
    """Writes one list: ``keep`` every image, from any thread, then ``finish``.

    FOLDER/scoremaps/ID.npy, FOLDER/metadata/*.txt, FOLDER/masks/ID.png where masks are known (0
    background, 1 the image's class, 255 ignore) and FOLDER/predictions.npz. The metadata comes
    last: a store without it is not whole.

    Args:
      dtype: float32 keeps the run's figures to the bit; float16 takes half the space.
    Raises:
      UserError: the folder holds something or cannot be written; ``keep``, too, for an id that
        would lead out of it.
    """

    def __init__(self, folder: pathlib.Path, source: Source, dtype: str = "float32"):
        self._folder, self._source, self._dtype = folder, source, np.dtype(dtype)
        self._kept: dict[int, tuple[tuple[int, int], np.ndarray]] = {}
        check_free(folder)

    def keep(self, image: LocalizedImage, score_map: np.ndarray) -> None:
        """Writes one image's map, (224, 224) in [0, 1], and its mask."""
        record = self._source[image.index]
        name = record.image_id
        if "\n" in name or "\r" in name:
            raise UserError(f"--store_maps: {name!r} holds a line end, which no list can name.")
        check_inside(name, "--store_maps")
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, score_map.astype(self._dtype), allow_pickle=False)
        self._write(f"scoremaps/{name}.npy", buffer.getvalue())
        mask = self._source.mask(image.index)
        if mask is not None:
            own = np.where(mask == UNLABELLED, UNLABELLED, mask == record.labels[0] + 1).astype(
                np.uint8
            )
            self._write(f"masks/{name}.png", cv2.imencode(".png", own)[1].tobytes())
        self._kept[image.index] = (image.size, image.probabilities)

    def finish(self) -> None:
        """Writes metadata and class scores."""
        texts: dict[str, list[str]] = {
            name: [] for name in ("class_labels", "image_sizes", "localization", "image_ids")
        }
        ids, scores = [], []
        for index in sorted(self._kept):
            record, (size, probabilities) = self._source[index], self._kept[index]
            name = record.image_id
            ids.append(name)
            scores.append(probabilities)
            texts["image_ids"].append(name)
            texts["class_labels"] += [f"{name},{label}" for label in record.labels]
            texts["image_sizes"].append(f"{name},{size[0]},{size[1]}")
            own = record.boxes[record.box_labels == record.labels[0]]
            texts["localization"] += [",".join([name, *map(_number, box)]) for box in own]
        buffer = io.BytesIO()
        np.savez(buffer, image_ids=np.array(ids, np.str_), probabilities=np.array(scores))
        self._write("predictions.npz", buffer.getvalue())
        for name, rows in texts.items():
            self._write(f"metadata/{name}.txt", "".join(f"{row}\n" for row in rows).encode())

    def _write(self, name: str, data: bytes) -> None:
        try:
            write_whole(self._folder / name, data)
        except OSError as error:
            raise _refused(self._folder / name, error) from None


def _refused(path: pathlib.Path, error: OSError) -> UserError:
    return UserError(f"--store_maps: {path} cannot be written: {error.strerror or error}.")


def _number(value: np.floating) -> str:
    """Whole numbers as such, which other readers of the layout insist on."""
    return str(int(value)) if value == int(value) else repr(float(value))
