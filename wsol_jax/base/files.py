"""Files that are written whole or not at all, names checked for leading out, the cache's place."""

import io
import os
import pathlib
import re
import secrets
from collections.abc import Mapping

import numpy as np

from wsol_jax.base.errors import UserError


def write_whole(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes a file whole or not at all: a killed process leaves the old one, or none.

    Folders on the way are made; text is UTF-8. Processes that write one path at once, also on
    several machines, each write a file of their own, and the last rename wins. The file's name on
    the way cannot be guessed and must be new: no link that waits there is followed. Raises OSError.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(16)}.tmp")
    # A file's name that is no UTF-8 comes as surrogates, which UTF-8 cannot write.
    content = data.encode(errors="backslashreplace") if isinstance(data, str) else data
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
    try:
        handle = os.open(temporary, flags, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:  # with the name that its reader knows
        raise type(error)(error.errno, error.strerror, str(path)) from None


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a compressed .npz, whole or not at all, without pickles. Raises OSError."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which only a pickle could store")
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    write_whole(path, stream.getvalue())


def check_writable(flag: str, out: str | os.PathLike) -> None:
    """Raises UserError where no file can be written; makes the folders on the way.

    Before the work, so that an hour of it is not lost.
    """
    out = pathlib.Path(out)
    try:
        if out.is_dir():
            raise UserError(f"{flag}={out}: it is a folder, expected a file.")
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag}={out}: {error.strerror or error}.") from None
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{flag}={out}: the folder cannot be written.")


def write_out(flag: str, out: str | os.PathLike, data: bytes | str) -> None:
    """Writes the file that a command's flag names. Raises UserError, with the flag."""
    try:
        write_whole(out, data)
    except OSError as error:
        raise UserError(f"{flag}={out}: {error.strerror or error}.") from None


def cache_folder() -> pathlib.Path:
    """The folder of what is fetched or drawn once: $WSOL_JAX_CACHE, or ~/.cache/wsol_jax."""
    return pathlib.Path(os.environ.get("WSOL_JAX_CACHE") or "~/.cache/wsol_jax").expanduser()


def check_inside(name: str, where: str) -> None:
    """Raises UserError for a file's name, taken from a file, that would lead out of its folder."""
    parts = re.split(r"[/\\]", name)
    if "\0" in name:
        wrong = "holds a NUL"
    elif parts[0] == "":
        wrong = "is an absolute path" if name else "is empty"
    elif re.match(r"[A-Za-z]:", name):
        wrong = "names a drive"
    elif ".." in parts:
        wrong = "leads out of its folder"
    elif parts[-1] in ("", "."):
        wrong = "names a folder"
    else:
        return
    raise UserError(f"{where}: {shorten(name)} {wrong}, which is refused.")


def find_inside(root: str, name: str, where: str) -> str | None:
    """Finds a regular file below root: its path, or None.

    Args:
      root: as ``os.path.realpath`` gives it. name: that passed ``check_inside``.
    Raises:
      UserError: a symbolic link leads out of root.
    """
    path = os.path.join(root, name)
    if not os.path.isfile(path):
        return None
    if not os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep):
        raise UserError(f"{where}: {path} is a link out of {root}, which is refused.")
    return path


def shorten(text: str) -> str:
    """Quotes a text for a sentence, cut to 80 characters."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
