"""The stage that writes pseudo-labels: what a labeller makes of each training image.

The files of each image (``data.pseudo_labels``), then STAGE/STAGE.json with what they were made of
and how much of the images they label. An image that has its files is left alone: a stage that was
killed goes on where it was. Of several processes each writes its share into the one folder.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from wsol_jax.base import sharding, threads
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.base.progress import Progress, compiling
from wsol_jax.base.types import Config, Json
from wsol_jax.data.decode import CorruptImage
from wsol_jax.data.pipeline import CorruptCounter, EvalExample, eval_size
from wsol_jax.data.pseudo_labels import (
    Arrays,
    BatchLabels,
    LabelFolder,
    Photo,
    read_summary,
    summary_path,
)
from wsol_jax.data.records import Chosen, Source
from wsol_jax.data.transforms import WHOLE
from wsol_jax.evaluate.localize import over_list
from wsol_jax.methods import Labeller
from wsol_jax.runs import mirror
from wsol_jax.runs.opened import OpenedRun
from wsol_jax.runs.state import fingerprint
from wsol_jax.stages import product
from wsol_jax.stages.make import compile_make
from wsol_jax.stages.tally import summarise


@dataclasses.dataclass(frozen=True)
class LabelStage:
    """A label stage with all that it reads.

    Attributes:
      config: the stage's.
      networks: of trainings, by the labeller's names for them.
      earlier: labels of label stages before it, likewise.
      hashes: of those labels, likewise.
      source: the list; of its records the photos and image labels are read, and nothing else.
      folder: WORKDIR/STAGE.
    """

    config: Config
    labeller: Labeller
    networks: Mapping[str, OpenedRun]
    earlier: Mapping[str, LabelFolder]
    hashes: Mapping[str, str]
    source: Source
    folder: pathlib.Path

    @property
    def place(self) -> LabelFolder:
        return LabelFolder(self.folder, self.labeller.products)

    @property
    def size(self) -> int:
        """Pixels a side of the warped photos that ``make`` sees."""
        return eval_size(self.config)

    def inputs(self) -> dict[str, str]:
        """Hashes of all that the labels depend on, for a folder to say what it holds."""
        labels = [
            (record.image_id, record.labels)
            for record in map(self.source.__getitem__, range(len(self.source)))
        ]
        digest = lambda value: hashlib.sha256(repr(value).encode()).hexdigest()
        networks = {name: fingerprint(run.variables) for name, run in self.networks.items()}
        found = {**networks, **self.hashes}
        found = {name: found[name] for name in self.labeller.reads}
        return {**found, "settings": digest(self.labeller.settings), "labels": digest(labels)}


def make_labels(stage: LabelStage, inputs: Mapping[str, str]) -> dict[str, Json]:
    """Writes the labels of a list that are not there yet.

    Args:
      inputs: ``stage.inputs()``.

    Returns:
      The content of STAGE.json.

    Raises:
      UserError: the folder holds labels made of something else, or cannot be written; no image can
        be read.
    """
    known = _begin(stage.folder, inputs)
    missing = _missing(stage, known)
    sharding.barrier("labels listed")  # before any process adds to them
    if missing:
        todo = Chosen(stage.source, tuple(missing))
        _write(dataclasses.replace(stage, source=todo))
    sharding.barrier("labels written")
    found = _summary(stage, inputs)
    if not found["images"] and len(stage.source):
        raise UserError(
            f"stage {stage.folder.name!r}: none of the {len(stage.source)} images of list "
            f"{stage.source.name!r} can be read: there are no labels."
        )
    if known is not None:
        _check_same(stage.folder, known, found)
    elif jax.process_index() == 0:
        write_whole(summary_path(stage.folder), json.dumps(found, indent=1))
    sharding.barrier("labels summed up")
    return found


def check_labels(stage: LabelStage, inputs: Mapping[str, str]) -> dict[str, Json]:
    """The content of STAGE.json, where the labels are those of these inputs, all of them.

    Raises:
      UserError: they are of other inputs, not all made, or were changed since.
    """
    folder = stage.folder
    known = read_summary(folder)
    if known is None:
        raise UserError(
            f"the labels in {folder} are not all made: run their stage first, "
            f"--stages={folder.name}"
        )
    if known.get("inputs") != dict(inputs):
        raise _others(folder)
    missing = _missing(stage, known)
    if missing:
        name = stage.source[missing[0]].image_id
        gone = (stage.place.path(name, product) for product in stage.place.products)
        path = next(path for path in gone if not path.is_file())
        raise UserError(
            f"labels {path} and {len(missing) - 1} more are missing: --stages={folder.name} makes "
            "them again."
        )
    _check_same(folder, known, _summary(stage, inputs))
    return known


def figures_of(summary: Mapping[str, Json]) -> dict[str, Json]:
    """What of STAGE.json stands among the stage's figures."""
    hidden = ("unreadable", "sha256", "products", "inputs")
    return {name: value for name, value in summary.items() if name not in hidden}


def _check_same(folder: pathlib.Path, known: Mapping[str, Json], found: Mapping[str, Json]) -> None:
    if known["sha256"] != found["sha256"]:
        raise UserError(f"labels in {folder} were changed since they were made: remove it.")


def _others(folder: pathlib.Path) -> UserError:
    return UserError(
        f"{folder} holds labels that were made of other networks, labels or settings than this "
        f"config's: remove it to make them again, or put those back."
    )


def _begin(folder: pathlib.Path, inputs: Mapping[str, str]) -> dict[str, Json] | None:
    """STAGE.json if all is done; the folder is ours, and of these inputs, if it returns."""
    begun = product.has_begun(folder)
    if begun and product.read_inputs(folder) != dict(inputs):
        raise _others(folder)
    sharding.barrier("labels begun")  # read by all before it is written by one
    if not begun and jax.process_index() == 0:
        product.write_inputs(folder, inputs)
    return read_summary(folder) if begun else None


def _missing(stage: LabelStage, known: Mapping[str, Json] | None) -> list[int]:
    """The records without labels, but for those whose photos nobody could read."""
    unreadable = set(known.get("unreadable", ()) if known else ())
    source, place = stage.source, stage.place
    ids = [source[index].image_id for index in range(len(source))]
    return [
        index for index, name in enumerate(ids) if name not in unreadable and not place.has(name)
    ]


def _summary(stage: LabelStage, inputs: Mapping[str, str]) -> dict[str, Json]:
    found = summarise(stage.place, stage.source)
    found["products"] = {name: dataclasses.asdict(x) for name, x in stage.place.products.items()}
    return {**found, "inputs": dict(inputs)}


def _write(stage: LabelStage) -> None:
    """Makes and writes the labels of all records that are this process's."""
    source = stage.source
    corrupt = CorruptCounter(source, stage.config.data.max_corrupt)
    asks = stage.labeller.make is not None
    made = _made if asks else _unmade
    # Where no network is asked, a photo is the host's work: the bar moves as that is done.
    bar = None if asks else Progress(stage.folder.name, len(source))
    with (
        contextlib.closing(bar) if bar else contextlib.nullcontext(),
        concurrent.futures.ThreadPoolExecutor(threads.usable_cores()) as pool,
        contextlib.closing(made(stage)) as items,
        contextlib.closing(
            threads.in_order(pool, lambda item: _finished(stage, *item), items)
        ) as finished,
    ):
        for index, files in finished:  # encoded in threads, written here in the list's order
            if files is None:
                corrupt.check({"index": np.array([index]), "valid": np.array([False])})
            for path, content in files or ():
                write_whole(path, content)
            mirror.tick(stage.folder)
            if bar:
                bar.update(jax.process_count())  # the others' shares go on beside this one


def _is_ours(index: int) -> bool:
    return index % jax.process_count() == jax.process_index()


def _made(stage: LabelStage) -> Iterator[tuple[int, tuple[int, int], Arrays]]:
    """(index, (width, height), what ``make`` gave) of each readable image of this process."""
    source, config = stage.source, stage.config
    step = compile_make(stage.labeller, {name: run.method for name, run in stage.networks.items()})
    variables = {name: run.variables for name, run in stage.networks.items()}
    meshes = [run.mesh for run in stage.networks.values()]
    mesh = meshes[0] if meshes else sharding.data_mesh(config.train.devices)
    classes = len(source.class_names)

    def labels(host):
        found = np.zeros((len(host["index"]), classes), np.float32)
        for row, index in enumerate(host["index"]):
            if index >= 0:
                found[row, list(source[int(index)].labels)] = 1
        more = {name: _rows_of(own, source, host) for name, own in wanted.items()}
        return {"labels": found, **more}

    example = EvalExample(source, stage.size)
    wanted = {
        name: BatchLabels(stage.earlier[name], stage.earlier[name].product(), spec)
        for name, spec in stage.labeller.wants.items()
    }
    batches = over_list(config, source, mesh, example, labels, stage.folder.name)
    said: contextlib.AbstractContextManager[None] = compiling(stage.folder.name)
    with contextlib.closing(batches):
        for host, batch in batches:
            with said:  # the first alone: all batches have one shape
                outputs = step(variables, batch)
            said = contextlib.nullcontext()
            found = jax.tree.map(sharding.to_host, outputs)
            for row in np.flatnonzero(host["valid"]):
                index, size = int(host["index"][row]), tuple(map(int, host["size"][row]))
                if _is_ours(index):
                    yield index, size, {name: values[row] for name, values in found.items()}


def _rows_of(labels: BatchLabels, source: Source, host: Mapping[str, np.ndarray]) -> np.ndarray:
    """Earlier labels of a batch's whole photos; of padding and unreadable ones, what is missing."""
    return np.stack(
        [
            labels.read(source[int(index)].image_id, WHOLE) if valid else labels.missing()
            for index, valid in zip(host["index"], host["valid"], strict=True)
        ]
    )


def _unmade(stage: LabelStage) -> Iterator[tuple[int, None, Arrays]]:
    """The same where no network is asked."""
    for index in range(len(stage.source)):
        if _is_ours(index):
            yield index, None, {}


def _finished(
    stage: LabelStage, index: int, size: tuple[int, int] | None, made: Arrays
) -> tuple[int, list[tuple[pathlib.Path, bytes]] | None]:
    """The files of one photo; None for one that cannot be read."""
    labeller, record = stage.labeller, stage.source[index]
    if size is None:  # nobody has looked at the photo yet
        try:
            photo = Photo(record, (0, 0))
            photo.size = photo.pixels.shape[1::-1]
        except CorruptImage:
            return index, None
    else:
        photo = Photo(record, size)
    found = made
    if labeller.finish is not None:
        earlier = {
            name: {each: folder.read(record.image_id, each) for each in folder.products}
            for name, folder in stage.earlier.items()
        }
        found = labeller.finish(photo, made, earlier)
    return index, stage.place.encode(record.image_id, _checked(stage, photo, found))


def _checked(stage: LabelStage, photo: Photo, found: Arrays) -> Arrays:
    """What a labeller left of one photo, by product.

    Raises:
      UserError: a product is missing, or is not what the labeller said that it is.
    """
    checked = {}
    for name, own in stage.labeller.products.items():
        where = f"labeller: stage {stage.folder.name!r}, product {name!r} of {photo.image_id!r}"
        if name not in found:
            raise UserError(f"{where} is missing: got {sorted(found)}.")
        try:
            checked[name] = own.check(found[name], photo.size)
        except ValueError as error:
            raise UserError(f"{where}: {error}.") from None
    return checked
