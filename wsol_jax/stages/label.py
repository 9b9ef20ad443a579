"""The stage that writes cues: what earlier networks are sure of on each training image.

FOLDER/ID.png for each image (``data.cues``), then FOLDER/cues.json with what they were made of and
how much of the images they label. An image that has its picture is left alone: a stage that was
killed goes on where it was. Of several processes each writes its share into the one folder.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.data.pipeline import EvalExample
from wsol_jax.data.pseudo_labels import cue_path, read_cue, write_cue
from wsol_jax.data.records import Record, Source
from wsol_jax.evaluate.localize import over_list
from wsol_jax.ops import cues as ops
from wsol_jax.runs.opened import OpenedRun
from wsol_jax.runs.state import fingerprint

DONE = "cues.json"
_INPUTS = "inputs.json"


def check_options(options: Any, num_classes: int) -> None:
    """Raises UserError for a ``cues`` section that no cues can be made by."""
    if num_classes >= ops.UNLABELLED:
        raise UserError(f"cues hold {ops.UNLABELLED - 1} classes at most, not {num_classes}.")
    if not options.size > 0:
        raise UserError(f"cues.size: expected cells a side, got {options.size}.")
    if not options.layer:
        raise UserError("cues.layer is empty: name the layer whose gradients give the background.")
    for name in ("foreground", "background"):
        if not 0 <= options[name] < 1:
            raise UserError(f"cues.{name}: expected a share in [0, 1), got {options[name]}.")


def check_layer(config: Any, layer: str, num_classes: int) -> None:
    """Raises UserError where a stage's network has no such layer, before anything is trained."""
    method = methods.build(config, num_classes)
    if method.saliency is None:
        raise UserError("cues.saliency: that stage's method has no gradient saliency.")
    images = jax.ShapeDtypeStruct((1, config.data.crop, config.data.crop, 3), np.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    jax.eval_shape(functools.partial(method.saliency, layer=layer), variables, images)


def hashes(options: Any, maps: OpenedRun, saliency: OpenedRun, source: Source) -> dict[str, str]:
    """All that cues depend on, for a folder to say what it holds."""
    settings = [*options.items(), _size(maps.config)]
    labels = [(source[i].image_id, source[i].labels) for i in range(len(source))]
    return {
        "maps": fingerprint(maps.variables),
        "saliency": fingerprint(saliency.variables),
        "settings": hashlib.sha256(repr(settings).encode()).hexdigest(),
        "labels": hashlib.sha256(repr(labels).encode()).hexdigest(),
    }


def _size(config: Any) -> int:
    return config.eval.size or config.data.crop


def make_cues(
    maps: OpenedRun,
    saliency: OpenedRun,
    options: Any,
    source: Source,
    folder: pathlib.Path,
    inputs: Mapping[str, str],
) -> dict[str, Any]:
    """Writes the cues of a list that are not there yet.

    Args:
      maps: whose class maps give the foreground cues.
      saliency: whose gradients give the background cue.
      options: the config's ``cues`` section.
      source: the list; its image labels are read, nothing else of the truth.
      inputs: hashes of what the cues depend on.

    Returns:
      The content of cues.json.

    Raises:
      UserError: the folder holds cues made of something else, or cannot be written.
    """
    known = _begin(folder, inputs)
    missing = _missing(source, folder, known)
    sharding.barrier("cues listed")  # before any process adds to them
    if missing:
        todo = _Chosen(source, tuple(missing))
        for index, cue in _cues(maps, saliency, options, todo):
            if index % jax.process_count() == jax.process_index():
                write_cue(folder, todo[index].image_id, cue)
    sharding.barrier("cues written")
    found = _summary(source, folder, options)
    found["inputs"] = dict(inputs)
    if known is not None:
        _check_same(folder, known, found)
    elif jax.process_index() == 0:
        write_whole(folder / DONE, json.dumps(found, indent=1))
    sharding.barrier("cues summed up")
    return found


def check_cues(
    folder: pathlib.Path, options: Any, source: Source, inputs: Mapping[str, str]
) -> dict[str, Any]:
    """The content of cues.json, where the cues are those that these inputs make, all of them.

    Raises:
      UserError: they are of other inputs, not all made, or were changed since.
    """
    known = read_summary(folder)
    if known is None:
        raise UserError(
            f"the cues in {folder} are not all made: run their stage first, --stages=cues"
        )
    if known.get("inputs") != dict(inputs):
        raise _others(folder)
    missing = _missing(source, folder, known)
    if missing:
        path = cue_path(folder, source[missing[0]].image_id)
        raise UserError(
            f"cues {path} and {len(missing) - 1} more are missing: --stages=cues makes them again."
        )
    _check_same(folder, known, _summary(source, folder, options))
    return known


def _check_same(folder: pathlib.Path, known: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if known["sha256"] != found["sha256"]:
        raise UserError(f"cues in {folder} were changed since they were made: remove it.")


def _others(folder: pathlib.Path) -> UserError:
    return UserError(
        f"{folder} holds cues that were made of other networks, labels or settings than this "
        f"config's: remove it to make them again, or put those back."
    )


def _missing(source: Source, folder: pathlib.Path, known: Mapping[str, Any] | None) -> list[int]:
    """The records without cues, but for those whose photos nobody could read."""
    unreadable = set(known.get("unreadable", ()) if known else ())
    ids = [source[index].image_id for index in range(len(source))]
    return [
        index
        for index, name in enumerate(ids)
        if name not in unreadable and not cue_path(folder, name).is_file()
    ]


def read_summary(folder: pathlib.Path) -> dict[str, Any] | None:
    """The content of cues.json; None where the stage is not done, or the file is damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / DONE).read_text())
        if isinstance(found, dict) and "sha256" in found:
            return found
    return None


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Some records of a list, as a list."""

    source: Source
    indices: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def class_names(self) -> Sequence[str]:
        return self.source.class_names

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[self.indices[index]]

    def mask(self, index: int) -> None:
        """No cue looks at the truth."""
        return None


def _begin(folder: pathlib.Path, inputs: Mapping[str, str]) -> dict[str, Any] | None:
    """cues.json if all is done; the folder is ours, and of these inputs, if it returns."""
    path = folder / _INPUTS
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    # What a killed process had not renamed yet (files.write_whole) is nobody's.
    begun = any(not (name.startswith(".") and name.endswith(".tmp")) for name in names)
    if begun:
        try:
            same = json.loads(path.read_text()) == dict(inputs)
        except (OSError, ValueError):
            same = False
        if not same:
            raise _others(folder)
    sharding.barrier("cues begun")  # read by all before it is written by one
    if not begun and jax.process_index() == 0:
        write_whole(path, json.dumps(dict(inputs), indent=1))
    return read_summary(folder) if begun else None


def _cues(maps: OpenedRun, saliency: OpenedRun, options: Any, source: Source):
    """(index, (n, n) uint8) of each readable image of a list."""
    config = maps.config
    step = _cue_step(maps.method.localize, saliency.method.saliency, options)
    classes = len(source.class_names)

    def labels(host):
        found = np.zeros((len(host["index"]), classes), np.float32)
        for row, index in enumerate(host["index"]):
            if index >= 0:
                found[row, list(source[int(index)].labels)] = 1
        return {"labels": found}

    example = EvalExample(source, _size(config))
    batches = over_list(config, source, maps.mesh, example, labels, "cues")
    with contextlib.closing(batches):
        for host, batch in batches:
            found = sharding.to_host(step(maps.variables, saliency.variables, batch))
            for row in np.flatnonzero(host["valid"]):
                yield int(host["index"][row]), found[row]


def _cue_step(localize: Callable, saliency: Callable, options: Any) -> Callable:
    size = options.size

    @jax.jit
    def step(of_maps, of_saliency, batch):
        images = batch["image"]
        at_size = functools.partial(jax.image.resize, method="bilinear", antialias=False)
        maps = localize(of_maps, images).maps
        maps = at_size(maps, (len(maps), size, size, maps.shape[-1]))
        salient = saliency(of_saliency, images, options.layer)
        salient = at_size(salient, (len(salient), size, size))
        return ops.resolve_cues(
            ops.foreground_cues(maps, batch["labels"], options.foreground),
            ops.background_cue(salient.astype(jnp.float32), options.background),
        )

    return step


def _summary(source: Source, folder: pathlib.Path, options: Any) -> dict[str, Any]:
    """How much is labelled, and a hash of every pixel, in the order of the list."""
    digest = hashlib.sha256()
    counts = np.zeros(256, np.int64)
    images, unreadable = 0, []
    for index in range(len(source)):
        name = source[index].image_id
        if not cue_path(folder, name).is_file():
            unreadable.append(name)
            continue
        cue = read_cue(folder, name, options.size)
        digest.update(f"{name}\n".encode() + cue.tobytes())
        counts += np.bincount(cue.ravel(), minlength=256)
        images += 1
    total = max(int(counts.sum()), 1)
    of_class = zip(source.class_names, counts[1:255], strict=False)
    return {
        "images": images,
        "unreadable": unreadable,
        "size": options.size,
        "foreground": int(counts[1:255].sum()) / total,
        "background": int(counts[0]) / total,
        "unlabelled": int(counts[255]) / total,
        "by_class": {name: int(count) / total for name, count in of_class if count},
        "sha256": digest.hexdigest(),
    }
