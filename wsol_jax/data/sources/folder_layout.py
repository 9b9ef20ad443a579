"""What all layouts of an own folder share, and the cut into lists where nobody made any."""

import dataclasses
import pathlib

from wsol_jax.base.errors import UserError
from wsol_jax.data.sources import folder_coco, folder_split, folder_table
from wsol_jax.data.sources.folder_files import MASKS
from wsol_jax.data.sources.folder_table import Labelled
from wsol_jax.data.sources.left_out import PassedOver

LAYOUTS = ("auto", "folders", "table", "coco", "flat")
"""``data.layout``: "auto" looks for labels.csv, then for a COCO file, then for class folders.
"flat" is how runs of earlier days read class folders: without their sub-folders, and cut by a hash
of the path alone."""

_CUT = "no train, tune and test: 80/10/10 of each class by a hash of the path, the same in each run"
_CUT_FLAT = "no train, tune and test: 80/10/10 by a hash of the path, the same in every run"


@dataclasses.dataclass(frozen=True)
class Options:
    """What a config says of its folder.

    Attributes:
      train: the list that says which classes there are.
      lists: all lists that the config names.
      layout: one of LAYOUTS.
      table, coco, boxes: files; "" for none, or those of the usual names.
      masks: a folder; "" for the usual one.
      multi_label: whether a photo may have several labels, or none.
      strict: whether rows without a photo, boxes outside and empty classes are errors.
    """

    train: str = "train"
    lists: tuple[str, ...] = ("train", "tune", "test")
    layout: str = "auto"
    table: str = ""
    coco: str = ""
    boxes: str = ""
    masks: str = ""
    multi_label: bool = False
    strict: bool = True


class Layout:
    """A folder's photos by list.

    Attributes:
      class_names: in the order of their numbers.
      masks: the folder of mask PNGs; None for none.
      about: what was found, for people.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, root: pathlib.Path, options: Options, passed: PassedOver):
        self.root, self.options, self.passed = root, options, passed
        self.deep = options.layout != "flat"
        self.masks = self._find_masks()

    def photos(self, list_name: str) -> list[Labelled]:
        """A list's photos. Raises UserError where there is no such list, or no photo in it."""
        raise NotImplementedError

    def known(self) -> list[Labelled]:
        """Photos that tell what the labels are like: all, or those to train on."""
        return self.photos(self.options.train)

    @property
    def about(self) -> str:
        """Where labels, boxes and masks come from, a sentence."""
        several = "any number of labels" if self.options.multi_label else "one label"
        parts = [f"{self._about()}, {several} an image"]
        if self.options.boxes:
            parts.append(f"boxes of {self.options.boxes}")
        if self.masks is not None:
            parts.append(f"masks of {self.masks}")
        return "; ".join(parts)

    def _about(self) -> str:
        raise NotImplementedError

    def _find_masks(self) -> pathlib.Path | None:
        named, usual = self.options.masks, self.root / MASKS
        if named and not pathlib.Path(named).is_dir():
            raise UserError(f"data.masks={named}: there is no such folder.")
        if named:
            return pathlib.Path(named)
        return usual if self.deep and usual.is_dir() and self._may_be_masks(usual) else None

    def _may_be_masks(self, folder: pathlib.Path) -> bool:
        return True

    def _skip(self) -> tuple[str, ...]:
        """Names in the root that are read as something else than photos."""
        files = (self.options.table, self.options.coco, self.options.boxes)
        names = [self._below(name) for name in (*files, self.masks) if name]
        return (folder_table.NAME, folder_coco.NAME, *filter(None, names))

    def _below(self, path: str | pathlib.Path) -> str:
        """A path below the root, with "/"; "" for another one."""
        try:
            below = pathlib.Path(path).resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return ""
        return "" if below == "." else below


class Cut(Layout):
    """Photos that are all read at once and then belong to lists."""

    def __init__(self, root: pathlib.Path, options: Options, passed: PassedOver):
        super().__init__(root, options, passed)
        self.order, self.all = self._read()
        self.cut = not any(photo.split for photo in self.all)
        if self.cut:
            ids = [photo.image_id for photo in self.all]
            labels = {photo.image_id: photo.labels for photo in self.all}
            places = folder_split.by_class(labels) if self.deep else folder_split.by_hash(ids)
            self.all = [
                dataclasses.replace(photo, split=places[photo.image_id]) for photo in self.all
            ]
            self.class_names = self.order
        else:
            own = {n for p in self.all if p.split == options.train for n in p.labels}
            # A list of test photos alone can be scored too: then it numbers the classes itself.
            self.class_names = tuple(n for n in self.order if n in own) or self.order

    def _read(self) -> tuple[tuple[str, ...], list[Labelled]]:
        """(class names in order, all photos; ``split`` where somebody said)."""
        raise NotImplementedError

    def photos(self, list_name: str) -> list[Labelled]:
        root = self.root
        if self.cut and list_name not in folder_split.SHARES:
            raise UserError(
                f"folder {root} has no list {list_name!r}: make {root / list_name} with class "
                f"sub-folders, or take {', '.join(folder_split.SHARES)}, which are cut from "
                f"{root} itself"
            )
        found = [photo for photo in self.all if photo.split == list_name]
        if not found:
            why = f"{len(self.all)} photos are too few to cut it from: add photos, or make the "
            why += "folders train, tune and test yourself"
            if not self.cut:
                why = f"no photo is in it; there are {', '.join(self._lists())}"
            raise UserError(f"list {list_name} of {root} is empty, {why}")
        return found

    def known(self) -> list[Labelled]:
        return self.all

    def _lists(self) -> list[str]:
        return sorted({photo.split for photo in self.all} - {""})

    @property
    def about(self) -> str:
        return f"{super().about}; {_CUT if self.deep else _CUT_FLAT}" if self.cut else super().about
