"""CSV files of own data: opened with limits, their mistakes told by file and line."""

import contextlib
import csv
import pathlib
from collections.abc import Iterator
from typing import Any

from wsol_jax.base.arrays import Unreadable, check_regular
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import shorten
from wsol_jax.base.limits import MAX_LINE


@contextlib.contextmanager
def reading(path: pathlib.Path, what: str) -> Iterator[Any]:
    """A ``csv.reader`` over a file in UTF-8, with or without Excel's byte order mark.

    Args:
      what: the file is called so in errors: "table".

    Raises:
      UserError: the file, or one that is opened in the block, cannot be read; it is no CSV, or no
        UTF-8 in a line.
    """
    try:
        check_regular(path)  # a pipe would let us wait for ever
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield csv.reader(iter(lambda: file.readline(MAX_LINE), ""))
    except OSError as e:  # of the file, or of a photo that it names
        photo = "" if e.filename in (None, str(path)) else f": {shorten(str(e.filename))}"
        raise UserError(f"{what} {path} cannot be read: {e.strerror}{photo}") from None
    except Unreadable as e:
        raise UserError(f"{what} {path} {e}") from None
    except UnicodeDecodeError as e:
        raise UserError(
            f"{what} {path}{_first_wrong(path)} is no UTF-8 ({e.reason}): save it as CSV in UTF-8"
        ) from None
    except csv.Error as e:
        raise UserError(f"{what} {path} is no CSV: {e}") from None


def _first_wrong(path: pathlib.Path) -> str:
    """The first line that is no UTF-8, as ", line 3"; the decoder reads ahead of the reader."""
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError:
                return f", line {number}"
    return ""
