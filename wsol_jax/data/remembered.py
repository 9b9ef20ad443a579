"""What a run remembers of its photos, so that it does not go on with others of the same names."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.base.stored import read_json, reading
from wsol_jax.data.decode import CorruptImage, read_file
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Source

NAME = ".photos.json"
LISTS = ".lists.json"
SIZES, CONTENTS = 4096, 64  # photos, spread over the list, whose size and content are remembered


def check_photos(workdir: pathlib.Path, source: Source, begun: bool) -> None:
    """Checks that a list's photos are those that the run began with, or remembers them.

    Of 4,096 photos the size in bytes, and of 64 a hash of what is in them: a list of a million is
    checked in a second, and a folder that was swapped for another one is noticed.

    Args:
      begun: whether the folder holds a run that may go on; a run of a time before this file did
        remembers what it finds now.

    Raises:
      UserError: a photo is not the one that it was; it is named.
    """
    if jax.process_index() != 0:
        return
    path, now = workdir / NAME, _look(source)
    before = _read(path) if begun else None
    if before is None:
        write_whole(path, json.dumps(now))
        return
    if any(before.get(name) != now[name] for name in ("list", "records", "classes")):
        write_whole(path, json.dumps(now))  # a checkpoint refuses another list in its own words
        return
    for what in ("bytes", "sha256"):
        for name, value in now[what].items():
            if before[what].get(name) != value:
                raise UserError(
                    f"photo {name!r} of list {source.name!r} is not the one that the run in "
                    f"{workdir} began with ({_changed(what, before, name, value)}): put the photos "
                    "back, or take another workdir."
                )


def _changed(what: str, before: dict, name: str, value: int | str) -> str:
    was = before[what].get(name)
    if was is None:
        return "the list has another order, or other photos"
    if what == "sha256":
        return "other content of the same size"
    amount = lambda count: "none" if count < 0 else f"{count} bytes"
    return f"{amount(was)} then, {amount(value)} now"


def _look(source: Source) -> dict:
    def each(most: int, look: Callable[[str | bytes], int | str]) -> dict[str, int | str]:
        places = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).astype(int))
        records = (source[int(index)] for index in places)
        return {record.image_id: look(record.image) for record in records}

    found = {"bytes": each(SIZES, _size), "sha256": each(CONTENTS, _digest)}
    classes = list(source.class_names)
    return {"list": source.name, "records": len(source), "classes": classes, **found}


def _size(image: str | bytes) -> int:
    if isinstance(image, bytes):
        return len(image)
    try:
        return os.stat(image).st_size
    except OSError:
        return -1  # a photo that cannot be read is counted elsewhere


def _digest(image: str | bytes) -> str:
    try:
        content = read_file(image, "")
    except CorruptImage:  # a pipe, which would keep its reader waiting, too
        content = b""
    return hashlib.sha256(content).hexdigest()


def _read(path: pathlib.Path) -> dict | None:
    if not path.is_file():
        return None
    again = "remove it to go on with the photos as they are now"
    found = read_json(path, again)
    with reading(path, again):
        if not all(isinstance(size, int) for size in found["bytes"].values()):
            raise ValueError("a size is no number")
        found["sha256"].items()
    return found


def check_lists(workdir: pathlib.Path, lists: Lists, begun: bool) -> None:
    """Remembers which images and labels the lists of a run hold, or tells where they are others.

    A list to score may grow, which a warning says; to train on others needs another workdir. Of
    lists whose records are not in memory nothing is remembered.

    Args:
      begun: whether the folder holds a run that may go on; a run of a time before this file did
        remembers what it finds now.

    Raises:
      UserError: the training list has as many images as then, and others or other labels. One of
        another length the checkpoint refuses.
    """
    if jax.process_index() != 0:
        return
    path, now = workdir / LISTS, _contents(lists)
    before = _read_lists(path) if begun else {}
    train = lists.train.name
    other = train in before and before[train] != now.get(train)
    if other and _same_length(before[train], now.get(train)):
        raise UserError(
            f"list {train!r} has other images, or other labels of them, than when the run in "
            f"{workdir} began: put them back, or take another workdir."
        )
    _warn(workdir, before, now)
    if {**now, **before} != before:
        write_whole(path, json.dumps({**now, **before}))


def warn_of_lists(workdir: pathlib.Path, lists: Lists) -> None:
    """Says which lists are others than those that a run began with; see ``check_lists``."""
    if jax.process_index() == 0:
        _warn(workdir, _read_lists(workdir / LISTS), _contents(lists))


def _warn(workdir: pathlib.Path, before: dict, now: dict) -> None:
    for name, was in before.items():
        if name in now and now[name] != was:
            logging.warning(
                "list %s is not what it was when the run in %s began: %d images then, %d now%s",
                name,
                workdir,
                was["records"],
                now[name]["records"],
                ", others or with other labels" if _same_length(was, now[name]) else "",
            )


def _same_length(one: dict, other: dict | None) -> bool:
    return other is not None and one["records"] == other["records"]


def _contents(lists: Lists) -> dict[str, dict]:
    """{list: how many images, and a hash of their ids and labels}."""
    found = {}
    for source in filter(None, (lists.train, lists.tune, *lists.tests.values())):
        records = getattr(source, "records", None)
        if records is None:  # each would be read from a file
            continue
        digest = hashlib.sha256()
        for record in records:
            line = f"{record.image_id}\0{record.labels}\n"
            digest.update(line.encode(errors="surrogateescape"))
        found[source.name] = {"records": len(records), "sha256": digest.hexdigest()}
    return found


def _read_lists(path: pathlib.Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    again = "remove it to go on with the lists as they are now"
    found = read_json(path, again)
    with reading(path, again):
        for content in found.values():
            if not isinstance(content["records"], int) or not isinstance(content["sha256"], str):
                raise ValueError("it holds no lists")
    return found
