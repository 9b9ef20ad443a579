"""The layouts of an own folder: which one it has is found out here."""

import dataclasses
import pathlib
from collections.abc import Sequence

from wsol_jax.base.errors import UserError
from wsol_jax.data.sources import folder_classes, folder_coco, folder_table
from wsol_jax.data.sources.folder_files import folders, is_photo, pass_over, photos_below
from wsol_jax.data.sources.folder_layout import LAYOUTS, Cut, Layout, Options
from wsol_jax.data.sources.folder_table import Labelled, Photos
from wsol_jax.data.sources.left_out import PassedOver


def find_layout(root: pathlib.Path, options: Options) -> str:
    """One of LAYOUTS, but "auto". Raises UserError for a config that names two."""
    if options.layout not in LAYOUTS:
        raise UserError(f"data.layout: {options.layout!r} is not one of {', '.join(LAYOUTS)}.")
    if options.table and options.coco:
        raise UserError("data.labels and data.coco: two files of image labels; name one.")
    if options.layout in ("folders", "flat") and (options.table or options.coco):
        raise UserError(f"data.layout={options.layout}: it reads no file of image labels.")
    if options.layout != "auto":
        return options.layout
    if options.table or options.coco:
        return "table" if options.table else "coco"
    if (root / folder_table.NAME).is_file():
        return "table"
    if (root / folder_coco.NAME).is_file() or folder_coco.find_file(root, options.train):
        return "coco"
    return "folders"


def open_layout(root: pathlib.Path, options: Options, passed: PassedOver) -> Layout:
    """The layout of a folder, read as far as its lists are not read one by one."""
    kind = find_layout(root, options)
    if kind == "table":
        return _Table(root, options, passed)
    if kind == "coco":
        single = options.coco or (root / folder_coco.NAME).is_file()
        return (_Coco if single else _CocoLists)(root, options, passed)
    split = any(folders(root / name) for name in options.lists)
    return (_ListFolders if split else _ClassFolders)(root, options, passed)


class _ListFolders(Layout):
    """root/LIST/CLASS/*.jpg."""

    def __init__(self, root: pathlib.Path, options: Options, passed: PassedOver):
        super().__init__(root, options, passed)
        self._names = folder_classes.class_folders(
            root, options.train, deep=self.deep, passed=passed, skip=self._skip()
        )
        self.class_names = tuple(self._names)
        folder_classes.beside_lists(root, options.lists, self._skip(), passed)

    def photos(self, list_name: str) -> list[Labelled]:
        names, found = folder_classes.read_split(
            self.root,
            list_name,
            self.options.train,
            self._names,
            deep=self.deep,
            passed=self.passed,
            skip=self._skip(),
        )
        self.class_names = self.class_names or names
        return found

    def _about(self) -> str:
        return f"class folders of {self.root} below {', '.join(self.options.lists)}"


class _ClassFolders(Cut):
    """root/CLASS/*.jpg."""

    def _read(self) -> tuple[tuple[str, ...], list[Labelled]]:
        skip = self._skip()
        return folder_classes.read_classes(self.root, deep=self.deep, passed=self.passed, skip=skip)

    def photos(self, list_name: str) -> list[Labelled]:
        found = super().photos(list_name)
        if list_name == self.options.train and not self.deep:
            there = {name for photo in found for name in photo.labels}
            for name in self.class_names:
                if name not in there:
                    raise UserError(
                        f"class folder {self.root / name} has too few photos to cut lists from: "
                        "add photos, or make the folders train, tune and test yourself"
                    )
        return found

    def _may_be_masks(self, folder: pathlib.Path) -> bool:
        """A class may be called so: masks lie in folders by class, as the photos do."""
        photos = any(is_photo(entry.name) for entry in folder.iterdir() if entry.is_file())
        return not photos and bool(folders(folder))

    def _about(self) -> str:
        return f"class folders of {self.root}"


class _File(Cut):
    """A file of image labels, and the photos that it names, wherever below the root they lie."""

    bases: Sequence[str] = ("", "images/")

    def _find(self) -> list[str]:
        """The photos below the root, whether or not the file names them."""
        return photos_below(self.root, "", self.passed, skip=self._skip())

    def _with_lists(self, found: list[Labelled], there: Sequence[str]) -> list[Labelled]:
        """The photos in the lists whose folders they lie in, where these are the lists' folders."""
        named = {photo.image_id for photo in found}
        for image_id in there:
            if image_id not in named:
                pass_over(image_id, self.passed, f"not in {self.file.name}")
        if any(photo.split for photo in found):
            return found
        lists = {photo.image_id: self._folder(photo.image_id) for photo in found}
        known = set(lists.values()) & set(self.options.lists)
        if self.options.train not in known or len(known) < min(2, len(self.options.lists)):
            return found
        kept = []
        for photo in found:
            if lists[photo.image_id] in known:
                kept.append(dataclasses.replace(photo, split=lists[photo.image_id]))
            else:
                self.passed.add("in no list's folder", photo.image_id)
        return kept

    def _folder(self, image_id: str) -> str:
        parts = image_id.split("/")
        return parts[1] if parts[0] == "images" and len(parts) > 2 else parts[0]

    @property
    def file(self) -> pathlib.Path:
        raise NotImplementedError

    def _about(self) -> str:
        return f"labels of {self.file}"


class _Table(_File):
    """labels.csv."""

    @property
    def file(self) -> pathlib.Path:
        return pathlib.Path(self.options.table or self.root / folder_table.NAME)

    def _read(self) -> tuple[tuple[str, ...], list[Labelled]]:
        there = self._find()
        photos = Photos(there, self.bases)
        found = folder_table.read_table(self.file, photos, self.options.lists, self.passed)
        found = self._with_lists(found, there)
        return tuple(sorted({name for photo in found for name in photo.labels})), found

    def _about(self) -> str:
        passed_by = (self.root / folder_coco.NAME).is_file()
        also = f" ({folder_coco.NAME} is not read; coco=FILE takes it)" if passed_by else ""
        return super()._about() + also


class _Coco(_File):
    """One COCO file."""

    @property
    def file(self) -> pathlib.Path:
        return pathlib.Path(self.options.coco or self.root / folder_coco.NAME)

    def _read(self) -> tuple[tuple[str, ...], list[Labelled]]:
        there = self._find()
        beside = self._below(self.file.parent)
        bases = [*self.bases, f"{beside}/"] if beside else self.bases
        names, found = folder_coco.read_coco(self.file, Photos(there, bases), self.passed)
        return names, self._with_lists(found, there)


class _CocoLists(Layout):
    """A COCO file a list."""

    def __init__(self, root: pathlib.Path, options: Options, passed: PassedOver):
        super().__init__(root, options, passed)
        self._there = photos_below(root, "", passed, skip=self._skip())
        self._read: dict[str, list[Labelled]] = {}
        self.class_names, self._read[options.train] = self._read_list(options.train)

    def photos(self, list_name: str) -> list[Labelled]:
        if list_name not in self._read:
            self._read[list_name] = self._read_list(list_name)[1]
        return self._read[list_name]

    def _read_list(self, name: str) -> tuple[tuple[str, ...], list[Labelled]]:
        path = folder_coco.find_file(self.root, name)
        if path is None:
            raise UserError(
                f"list {name} of {self.root} has no COCO file: expected {name}/{folder_coco.NAME}, "
                f"annotations/{name}.json or annotations/instances_{name}.json"
            )
        bases = (f"{name}/", f"images/{name}/", "images/", "")
        names, found = folder_coco.read_coco(path, Photos(self._there, bases), self.passed)
        named = {photo.image_id for photo in found}
        for image_id in self._there:
            if image_id.startswith(bases[:2]) and image_id not in named:
                pass_over(image_id, self.passed, f"not in {path.name}")
        return names, found

    def _about(self) -> str:
        files = [folder_coco.find_file(self.root, name) for name in self.options.lists]
        return f"labels of {', '.join(str(path) for path in files if path)}"
