"""The layout of class folders: a sub-folder of photos each, of the root or of a list's folder."""

import difflib
import pathlib

from wsol_jax.base.errors import UserError
from wsol_jax.data.sources.folder_files import (
    EXTENSIONS,
    MASKS,
    files_beside,
    folders,
    photos_below,
)
from wsol_jax.data.sources.folder_table import Labelled
from wsol_jax.data.sources.left_out import PassedOver

Classes = tuple[tuple[str, ...], list[Labelled]]  # names in order, and the photos


def class_folders(
    root: pathlib.Path, train_list: str, *, deep: bool, passed: PassedOver, skip=()
) -> list[str]:
    """The classes where each list has a folder: those of the training list, sorted by name.

    ``skip``: paths below the root that are no classes.
    """
    names = [n for n in folders(root / train_list) if f"{train_list}/{n}" not in skip]
    if passed.strict:
        return names  # an empty one is an error when the list is read
    silent = PassedOver(strict=False)
    place = root / train_list
    return [name for name in names if photos_below(place / name, "", silent, deep=deep)]


def read_split(
    root: pathlib.Path,
    list_name: str,
    train_list: str,
    class_names: list[str],
    *,
    deep: bool,
    passed: PassedOver,
    skip=(),
) -> Classes:
    """A list that has a folder.

    Args:
      class_names: of the training list; where it has none, the list numbers the classes itself:
        a folder of test photos alone can be scored too.
      skip: paths below the root that hold no photos of the list.
    """
    own = [name for name in folders(root / list_name) if f"{list_name}/{name}" not in skip]
    if not own:
        there = [name for name in folders(root) if folders(root / name)]
        near = difflib.get_close_matches(list_name, there, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
        raise UserError(f"{root / list_name} is missing or has no class sub-folders; {hint}")
    class_names = class_names or own
    found: list[Labelled] = []
    for name in own:
        folder = f"{list_name}/{name}"
        if name not in class_names and list_name != train_list:
            near = difflib.get_close_matches(name, class_names, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            passed.refuse(
                f"folders of a class that {train_list} lacks",
                folder,
                f"{root / folder} is a class that {root / train_list} lacks{hint}",
            )
            continue
        photos = _photos(root, folder, deep, passed, skip)
        found += [Labelled(path, (name,), list_name) for path in photos]
    files_beside(root / list_name, f"{list_name}/", passed)
    return tuple(class_names), found


def read_classes(root: pathlib.Path, *, deep: bool, passed: PassedOver, skip=()) -> Classes:
    """The photos of a root that holds the classes themselves, in no list yet.

    ``skip``: paths below the root that are no classes, or hold no photos.
    """
    names = [name for name in folders(root) if name not in skip]
    if not names:
        raise UserError(
            f"folder {root} has no sub-folders: expected one for each class, or such folders below "
            "train, tune and test; or labels.csv, or a COCO annotations.json"
        )
    found: list[Labelled] = []
    kept = []
    for name in names:
        photos = _photos(root, name, deep, passed, skip)
        kept += [name] if photos else []
        found += [Labelled(path, (name,)) for path in photos]
    files_beside(root, "", passed, known=skip)
    return tuple(kept), found


def beside_lists(root: pathlib.Path, lists, known, passed: PassedOver) -> None:
    """Counts what lies in the root beside the lists' folders; ``known``: names that are read."""
    files_beside(root, "", passed, known=known)
    for name in folders(root):
        if name not in lists and name not in known:
            passed.add("folders of no list", name)


def _photos(root: pathlib.Path, folder: str, deep: bool, passed: PassedOver, skip=()) -> list[str]:
    """The photos of a class folder; its lack of them is a fault.

    What lies in a folder of masks within is none of them: the truth would be trained on.
    """
    below = [path.removeprefix(f"{folder}/") for path in skip if path.startswith(f"{folder}/")]
    inner = pathlib.Path(root / folder, MASKS)
    if deep and inner.is_dir():
        passed.add("folders of masks (no photos)", f"{folder}/{MASKS}")
        below.append(MASKS)
    found = photos_below(root / folder, f"{folder}/", passed, deep=deep, skip=below)
    if not found:
        searched = "nor do its sub-folders" if deep else "sub-folders are not searched"
        passed.refuse(
            "empty classes",
            folder,
            f"class folder {root / folder} holds no photo ({', '.join(EXTENSIONS)}; {searched}): "
            "fill it or remove it",
        )
    return found
