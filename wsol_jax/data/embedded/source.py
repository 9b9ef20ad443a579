"""The embedded data set: scenes.py's pictures as ArrayRecord files, written once and then reread.

Lists train (2,000), tune (200) and test (400), one creature a picture; the multi-label variant has
the same lists with 1 to 4. In the second variant of both a class is told by two parts of the body,
and the files hold these too. ``python -m wsol_jax.data.embedded --sheet=FILE`` draws a contact
sheet.
"""

import contextlib
import difflib
import hashlib
import os
import pathlib
import shutil
import sys
import time
import uuid
from collections.abc import Iterator

import cv2
import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from wsol_jax.base import errors
from wsol_jax.base.files import cache_folder
from wsol_jax.data import records
from wsol_jax.data.embedded import (
    clutter,
    creature_heads,
    creature_tails,
    creatures,
    render_pool,
    scenes,
)
from wsol_jax.data.embedded.builder import LIST_SIZES, EmbeddedConfig, EmbeddedScenes

try:
    import fcntl
except ImportError:  # not on Windows: two first starts at once then draw twice, harmlessly
    fcntl = None

CACHE_VARIABLE = "WSOL_JAX_CACHE"
MIN_SIZE = 48


class EmbeddedSource:
    """A list of the embedded data set (records.Source); open_embedded makes it.

    Attributes:
      name: the list's name.
      class_names: a name for each class index.
    """

    def __init__(self, name: str, config: EmbeddedConfig, folder: pathlib.Path):
        self.name = name
        self.class_names = scenes.CLASS_NAMES
        self._config = config
        self._folder = folder
        self._reader = None

    def __getstate__(self):
        # Open files stay behind: a worker process opens its own at the first record.
        return self.__dict__ | {"_reader": None}

    def __len__(self) -> int:
        return self._config.list_sizes[self.name]

    def __getitem__(self, index: int) -> records.Record:
        """Record of a picture, its image as PNG bytes; IndexError outside 0..len-1."""
        example = self._read(index)
        return records.Record(
            image_id=example["image_id"].decode(),
            image=example["image"],
            labels=tuple(int(i) for i in example["labels"]),
            size=(self._config.size, self._config.size),
            boxes=np.asarray(example["boxes"], np.float32).reshape(-1, 4),
            box_labels=np.asarray(example["box_labels"], np.int32),
        )

    def mask(self, index: int) -> np.ndarray:
        """Ground truth pixels, (size, size) uint8: 0 background, 1 + c class c; never 255."""
        return self._pixels(index, "mask")

    def part_mask(self, index: int) -> np.ndarray | None:
        """Telling parts, (size, size) uint8: 0 none, 1 heads, 2 tails' tips; None in variant 1."""
        return self._pixels(index, "parts") if self._config.parts > 1 else None

    def scene(self, index: int) -> scenes.Scene:
        """The picture drawn anew, with what is not stored: each object's pixels, and the parts'."""
        return render_pool.draw_scene(self.name, index, self._config.variant)

    def _pixels(self, index: int, name: str) -> np.ndarray:
        png = np.frombuffer(self._read(index)[name], np.uint8)
        return cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)

    def _read(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has records 0..{len(self) - 1}, not {index}")
        try:
            if self._reader is None:
                builder = _builder(self._config, self._folder)
                images = {"image", "mask", "parts"} & builder.info.features.keys()
                # tfds would decode with TensorFlow.
                skip = dict.fromkeys(images, tfds.decode.SkipDecoding())
                self._reader = builder.as_data_source(self.name, decoders=skip)
            return self._reader[int(index)]
        except (OSError, ValueError, RuntimeError) as e:
            raise errors.UserError(
                f"{self._folder}: the embedded data set cannot be read ({e}); delete this folder, "
                "and the next start draws it again"
            ) from e


def open_embedded(
    list_name: str,
    *,
    multi: bool = False,
    parts: int = 1,
    cache_dir: str | None = None,
    size: int = 96,
) -> EmbeddedSource:
    """Opens a list of the embedded data set, drawing and caching the set if that was never done.

    Safe when several processes start at once and when one is killed: the files appear whole or not
    at all.

    Args:
      list_name: "train", "tune" or "test".
      multi: 1 to 4 creatures a picture instead of one.
      parts: of a creature that tell its class: 1, its head; 2, its tail's tip too.
      cache_dir: where the files are kept; default $WSOL_JAX_CACHE or ~/.cache/wsol_jax.
      size: side of the pictures in pixels, at least 48.

    Raises:
      UserError: unknown list, size below 48, or a cache folder that cannot be written.
    """
    if list_name not in LIST_SIZES:
        near = difflib.get_close_matches(str(list_name), LIST_SIZES, 1, 0.3)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise errors.UserError(
            f"embedded data: no list {list_name!r}; {hint}expected one of {', '.join(LIST_SIZES)}"
        )
    if size < MIN_SIZE:
        raise errors.UserError(f"embedded data: size is {size}, expected at least {MIN_SIZE}")
    config = _config(multi, parts, size)
    return EmbeddedSource(list_name, config, prepare(config, cache_dir))


def is_drawn(
    *, multi: bool = False, parts: int = 1, cache_dir: str | None = None, size: int = 96
) -> bool:
    """Whether ``open_embedded`` would find the data set in the cache."""
    return _place(_config(multi, parts, size), cache_dir)[1].is_dir()


def _config(multi: bool, parts: int, size: int) -> EmbeddedConfig:
    name = ("multi" if multi else "single") + (f"_parts{parts}" if parts > 1 else "")
    config = next(c for c in EmbeddedScenes.BUILDER_CONFIGS if c.name == name)
    if size != config.size:
        config = EmbeddedConfig(name=f"{name}_{size}", size=size, multi=multi, parts=parts)
    return config


def _place(config: EmbeddedConfig, cache_dir: str | None) -> tuple[pathlib.Path, pathlib.Path]:
    """The tfds data_dir of a data set, and the folder in it that appears when it is whole."""
    cache = pathlib.Path(cache_dir).expanduser() if cache_dir else cache_folder()
    folder = cache / f"embedded-{_digest(config.parts)}"
    return folder, pathlib.Path(_builder(config, folder).data_path)


def prepare(config: EmbeddedConfig, cache_dir: str | None = None) -> pathlib.Path:
    """Draws and writes a data set unless it is in the cache; the tfds data_dir that holds it.

    Raises:
      UserError: the cache folder cannot be written.
    """
    folder, final = _place(config, cache_dir)
    if final.is_dir():
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{config.name}.lock") as alone:
            if final.is_dir():  # drawn by another process while this one waited
                return folder
            if alone:  # what killed processes left
                for stale in folder.glob(f".writing-{config.name}-*"):
                    shutil.rmtree(stale, ignore_errors=True)
            _write(config, folder, final)
    except OSError as e:
        raise errors.UserError(
            f"{folder}: cannot write the embedded data set here ({e.strerror or e}); set the "
            f"environment variable {CACHE_VARIABLE} to a folder with 100 MB to spare that can be "
            "written"
        ) from e
    return folder


def _write(config: EmbeddedConfig, folder: pathlib.Path, final: pathlib.Path) -> None:
    """Writes into a folder of its own, then moves the finished data set to its place at once."""
    total = sum(config.list_sizes.values())
    _say(f"embedded data: drawing {total:,} pictures ({config.name}) into {folder}, once ...")
    start = time.monotonic()
    own = folder / f".writing-{config.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        builder = _builder(config, own)
        tfds.disable_progress_bar()
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(builder.data_path, final)
        except OSError:
            if not final.is_dir():  # else another process was first, with the same bytes
                raise
    finally:
        shutil.rmtree(own, ignore_errors=True)
    _say(f"embedded data: done in {time.monotonic() - start:.0f} s")


def _builder(config: EmbeddedConfig, folder: pathlib.Path) -> EmbeddedScenes:
    return EmbeddedScenes(data_dir=os.fspath(folder), config=config, file_format="array_record")


def _digest(parts: int) -> str:
    """Names the code that draws, so that a changed renderer never meets pictures of the old one."""
    digest = hashlib.sha256()
    tails = [creature_tails] if parts > 1 else []
    for module in (scenes, clutter, creatures, creature_heads, render_pool, *tails):
        digest.update(pathlib.Path(module.__file__).read_bytes())
    return digest.hexdigest()[:10]


@contextlib.contextmanager
def _alone(path: pathlib.Path) -> Iterator[bool]:
    """Holds a lock that dies with the process; gives False where locks do not work."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except (AttributeError, OSError) as e:  # Windows, some network file systems
            logging.info("no lock on %s: %s", path, e)
            yield False
        else:
            yield True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
