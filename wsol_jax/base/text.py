"""Text of anyone's files: read line by line, and made fit for a terminal or a log."""

import logging
import numbers
import pathlib
from collections.abc import Iterator

from wsol_jax.base.errors import UserError
from wsol_jax.base.limits import MAX_LINE
from wsol_jax.base.typed import as_typed


def lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of a UTF-8 file's lines that are not blank.

    Raises UserError with file and line: it cannot be read, is not UTF-8 or beyond ``MAX_LINE``.
    """
    try:
        # Not str.splitlines: an id may hold the rarer characters that it takes for line ends.
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
                if len(line) > MAX_LINE:
                    raise UserError(f"{path}, line {number}: it has more than {MAX_LINE} bytes.")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
                if text.strip():
                    yield number, text
    except UnicodeDecodeError:
        raise UserError(f"{path}, line {number}: it is not UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def printable(text: str) -> str:
    """One line of what can be printed: spaces for line ends and tabs, "?" for what has no shape.

    A name may hold escape codes, which move a terminal's cursor or rename its window, line ends,
    which forge a line of a log, marks that turn the direction of what follows, and bytes that are
    no UTF-8 (as surrogates), which cannot be printed at all.
    """
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def printable_lines(text: str) -> str:
    """As ``printable``, of a text whose line ends and columns are ours."""
    shown = (letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    return "".join(shown)


def clean_record(record: logging.LogRecord) -> bool:
    """A log's filter: what fills a line becomes printable, the line's own line ends stay."""
    if isinstance(record.args, tuple):
        record.args = tuple(map(_argument, record.args))
    if isinstance(record.msg, str):
        record.msg = printable_lines(record.msg)
    return True


def _argument(value: object) -> object:
    return value if isinstance(value, numbers.Number) else printable(as_typed(str(value)))
