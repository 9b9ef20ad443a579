"""The files of an own folder: its photos, and what else lies there."""

import os
import pathlib

from wsol_jax.data.sources.left_out import PassedOver, suffix_of

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
"""What counts as an image, in any case; other files and hidden ones are passed over."""

# Photos all the same, which nothing here decodes.
_UNREAD = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", ".tga", ".ico", ".dng"}
_UNREAD |= {".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"}
_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx"}

MASKS = "masks"  # the usual name of their folder
HIDDEN = "hidden"
IN_NO_CLASS = "in no class's folder"


def is_photo(name: str) -> bool:
    """Whether a file's name is a photo's."""
    return name.lower().endswith(EXTENSIONS)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is a hidden one, or one of what systems leave everywhere."""
    return name.startswith(".") or name.lower() in _SYSTEM


def folders(folder: pathlib.Path) -> list[str]:
    """Names of the sub-folders, sorted; hidden ones are left out. Empty where folder is absent."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if _is_folder(e) and not is_hidden(e.name))


def pass_over(name: str, passed: PassedOver, reason: str = "") -> None:
    """Counts a file that is no photo to read, by its suffix; a photo by the ``reason``."""
    suffix = suffix_of(name)
    if is_hidden(name.rpartition("/")[2]):
        passed.add(HIDDEN, name)
    elif reason and is_photo(name):
        passed.add(reason, name)
    else:
        passed.add(f"{suffix} (not read)" if suffix in _UNREAD else suffix, name)


def files_beside(folder: pathlib.Path, prefix: str, passed: PassedOver, known=()) -> None:
    """Counts the files that lie in a folder of folders; ``known``: names that are read."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in known or (_is_folder(entry) and not is_hidden(entry.name)):
                continue
            pass_over(f"{prefix}{entry.name}", passed, IN_NO_CLASS)


def photos_below(
    folder: pathlib.Path, prefix: str, passed: PassedOver, *, deep: bool = True, skip=()
) -> list[str]:
    """Paths of the photos of a folder and its sub-folders, sorted: ``prefix`` and a path with "/".

    Hidden files and folders are left out, and links to folders are not followed, as those of
    ``predict``. A folder by a photo's name is a folder.

    Args:
      deep: whether sub-folders are searched.
      skip: paths below ``folder`` that are no photos, such as a table or the folder of the masks.
    """
    found, left = [], [""]
    while left:
        below = left.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                path = f"{below}{entry.name}"
                if path in skip:
                    continue
                if is_hidden(entry.name):
                    passed.add(HIDDEN, prefix + path)
                elif deep and _is_folder(entry):
                    if entry.is_symlink():
                        passed.add("links to folders", prefix + path)
                    else:
                        left.append(f"{path}/")
                elif is_photo(entry.name):
                    found.append(prefix + path)
                elif _is_folder(entry):
                    passed.add("sub-folders (not searched)", prefix + path)
                else:
                    pass_over(prefix + path, passed)
    return sorted(found)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
