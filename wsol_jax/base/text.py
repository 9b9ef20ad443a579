"""Text from files, folders and classes of anyone, on its way to a terminal or a log."""

import numbers


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
    """As ``printable``, of a text whose own line ends and columns stay."""
    shown = (letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    return "".join(shown)


def printable_argument(value: object) -> object:
    """What a log line is filled with: numbers as they are, all else as one printable line."""
    return value if isinstance(value, numbers.Number) else printable(str(value))
