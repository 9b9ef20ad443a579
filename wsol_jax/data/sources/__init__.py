"""The data sets, a row each: what opens them, their usual lists, what they have.

A new data set is its file and a row here. A row's module is imported when its lists are opened, and
holds ``opener(data, fetch) -> (list name -> Source)``. Nothing of JAX is loaded: configs read the
table.
"""

import dataclasses
import importlib
import os
from collections.abc import Callable

from wsol_jax.base import fetched, remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.records import Source


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set's row: its module, its usual lists, and what its images may have.

    Attributes:
      module: of its file, with ``opener``.
      train, tune, test: its usual lists; "" for none.
      classes: how many there are; where the data decide, what ``--mode=describe`` takes without.
      needs_root: whether ``data.root`` must name its folder.
      several: whether an image may have several labels (``data.multi_label``).
      label_file: whether a file of image labels may be given (``data.labels``).
      parts: how many telling parts its objects may be drawn with (``data.parts``); else 1.
      decides: whether the data say themselves how they are laid out; see ``choices``.
    """

    module: str
    train: str
    tune: str
    test: str
    classes: int
    needs_root: bool = True
    several: bool = False
    label_file: bool = False
    parts: int = 1
    decides: bool = False

    @property
    def lists(self) -> dict[str, str]:
        """Fields of a config's ``data`` section."""
        return {"train": self.train, "tune": self.tune, "test": self.test}


_HERE = "wsol_jax.data.sources"
DATASETS: dict[str, DataSet] = {
    "embedded": DataSet(
        "wsol_jax.data.embedded",
        "train",
        "tune",
        "test",
        8,
        needs_root=False,
        several=True,
        parts=2,
    ),
    "folder": DataSet(
        f"{_HERE}.folder",
        "train",
        "tune",
        "test",
        10,
        several=True,
        label_file=True,
        decides=True,
    ),
    # CUB has no validation list: a tenth of each training class is held out for the threshold.
    "cub": DataSet(f"{_HERE}.cub", "fit", "tune", "test", 200, needs_root=False),
    # ILSVRC's training boxes cover half of it: a tenth of val chooses, the rest of it is scored
    # (all of val in the papers' recipes).
    "ilsvrc": DataSet(f"{_HERE}.ilsvrc", "train", "val_tune", "val_rest", 1000),
    # No list of the VOC devkit is single-label: name lists of your own.
    "voc": DataSet(f"{_HERE}.voc", "train", "", "val", 20, several=True, label_file=True),
}


def opener(data: Config, fetch: bool = True) -> Callable[[str], Source]:
    """Makes the function that opens the lists of a config's ``data`` section by name.

    Args:
      fetch: whether what is not on this disk is drawn or downloaded.

    Raises:
      UserError: no such data set, its folder is not named, or (without ``fetch``) it is not here.
    """
    return importlib.import_module(_row(data).module).opener(_here(data, fetch), fetch)


def choices(data: Config) -> dict[str, str | bool]:
    """Values of fields of a ``data`` section that the data themselves decide; none as a rule.

    Raises:
      UserError: as ``opener``; what decides is malformed.
    """
    row = _row(data)
    return importlib.import_module(row.module).choices(_here(data)) if row.decides else {}


# Fields that name files or folders, and whether it is a folder (None: either).
_PLACES = {"root": True, "boxes": False, "labels": False, "coco": False, "masks": True}


def _here(data: Config, fetch: bool = True) -> Config:
    """A ``data`` section whose URLs are paths of copies on this machine.

    Raises:
      UserError: one cannot be read; without ``fetch``, it was not copied yet.
    """
    urls = {name: data[name] for name in _PLACES if remote.is_url(data.get(name))}
    if not urls:
        return data
    data = data.copy_and_resolve_references()
    with data.unlocked():
        for name, url in urls.items():
            root = urls.get("root", "").rstrip("/") + "/"
            if name != "root" and url.startswith(root):  # it came with the root
                data[name] = os.path.join(data.root, url.removeprefix(root))
                continue
            copy = fetched.local if fetch else fetched.present
            data[name] = str(copy(url, f"data.{name}={remote.shown(url)}", folder=_PLACES[name]))
    return data


def _row(data: Config) -> DataSet:
    if data.name not in DATASETS:
        raise UserError(f"data.name: {data.name!r} is not one of {', '.join(DATASETS)}.")
    row = DATASETS[data.name]
    if row.needs_root and not data.root:
        raise UserError(
            f"data.root is empty: name the folder of the {data.name} data, e.g. "
            f"--config=configs/spg.py:{data.name},root=/data/{data.name}"
        )
    return row
