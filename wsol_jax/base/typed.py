"""What the user called a place whose copy lies in the cache: sentences say that, and not the copy.

A run at gs://bucket/run is worked on in a folder of the cache (``runs.mirror``), and what goes
wrong there names files of that folder. Whatever reaches a person goes through ``as_typed``.
"""

import os
import re

_typed: dict[str, str] = {}


def note(place: str | os.PathLike, typed: str) -> None:
    """Remembers that the user calls a folder or file of the cache ``typed``."""
    _typed[os.fspath(place)] = typed


def as_typed(text: str) -> str:
    """A sentence with the user's names for the places in it."""
    for place, typed in list(_typed.items()):  # threads log while others note
        if place in text:
            text = re.sub(rf"{re.escape(place)}(?!\.?[\w-])", lambda _, typed=typed: typed, text)
    return text
