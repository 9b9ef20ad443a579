"""Brings down what a remote run holds: what of it is missing here, or is another content."""

import concurrent.futures
import os
import secrets
import time
from collections.abc import Callable, Iterable

from absl import logging

from wsol_jax.base import fetched, remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.progress import Progress
from wsol_jax.runs.mirror import index as indices
from wsol_jax.runs.mirror.index import Entry, Index
from wsol_jax.runs.mirror.local import Known, Mirror, Signature, entry_of, signature

Wanted = Callable[[str], bool]

_TRIES = 8  # of a run that changes while it is read
_WAIT = 0.5  # seconds before the second try; each is twice as long


class _Changed(Exception):
    """An object is not what the index says of it."""


def everything(names: Iterable[str]) -> Wanted:
    """All of a run."""
    del names
    return lambda name: True


def bring_down(
    mirror: Mirror,
    store: remote.Store,
    known: Known,
    choose: Callable[[Iterable[str]], Wanted] = everything,
) -> Index:
    """Makes a mirror hold what the remote run holds, and writes down what is in step.

    Where the remote run is still the one that the mirror comes from, files that this machine
    changed since are kept: they are to be uploaded. Where it went on elsewhere, it wins; a mirror
    with changes of its own is set aside first.

    Args:
      known: of the mirror; changed in place.
      choose: which of the run's files are brought down if they are missing.

    Returns:
      The remote run's index.

    Raises:
      UserError: the remote run cannot be read, is damaged, or is none.
    """
    wait = _WAIT
    for left in reversed(range(_TRIES)):
        index = indices.read(store)
        wanted = choose(index.files)
        try:
            if index.ident in known.idents:
                mirror.make()
                return _complete(mirror, store, known, index, wanted)
            return _replace(mirror, store, known, index, wanted)
        except _Changed as error:
            if not left:
                raise UserError(
                    f"{store.where}: {error} is not what {indices.NAME} there says of it: put it "
                    "back, or remove that index to take the folder as it is."
                ) from error.__cause__
            time.sleep(wait)  # a run that goes on is writing another index just now
            wait = min(2 * wait, 8.0)
    raise AssertionError("tries is 1 or more")


def _complete(
    mirror: Mirror, store: remote.Store, known: Known, index: Index, wanted: Wanted
) -> Index:
    """Brings what is missing to a mirror of this very run."""
    there = mirror.scan()
    gone = _taken_away(there, known)
    missing = {n: e for n, e in index.files.items() if n not in {*there, *gone} and wanted(n)}
    came: dict[str, Entry] = {}
    try:
        _fetch(mirror, store, missing, came)
    finally:  # what came before a failure, or Ctrl-C, is nothing that this machine has made
        index = _in_step(mirror, known, index, dict(known.files), came)
    return index


def _taken_away(there: dict[str, Signature], known: Known) -> set[str]:
    """Files that the run removed after its last upload: a file's seal, a checkpoint.

    Only where something else in their folder, or in the one that theirs lay in, was changed since:
    what is missing in a mirror that nobody worked on was removed by hand, and comes down again.
    """
    parent = lambda name: name.rpartition("/")[0]
    above = lambda name: {name[:i] for i, letter in enumerate(name) if letter == "/"}
    new = {name for name, now in there.items() if known.files.get(name, (None,))[0] != now}
    folders = set().union(*map(above, there))
    changed = set().union(*map(above, new))
    at_root = any("/" not in name for name in new)
    taken = set()
    for name in known.files.keys() - there.keys():
        folder = parent(name)
        while folder and folder not in folders:
            folder = parent(folder)
        if folder in changed or ("/" not in name and at_root):
            taken.add(name)
    return taken


def _replace(
    mirror: Mirror, store: remote.Store, known: Known, index: Index, wanted: Wanted
) -> Index:
    """Makes a mirror hold a run's files and no others."""
    if mirror.has_unsaved(known):
        told = "went on elsewhere: what this machine had made of it and not uploaded"
        mirror.set_aside(f"{store.where} {told}")
    elif index == indices.EMPTY and known.files and mirror.scan():  # it may be the last copy
        mirror.set_aside(f"{store.where} holds no run any more: what this machine had of it")
    before, known.idents, known.files = known.files, (), {}
    mirror.keep(known)  # a mixture until it is done: nobody's work
    mirror.make()
    same: dict[str, tuple[Signature, str]] = {}
    for name, now in mirror.scan().items():
        entry = index.files.get(name)
        was, sha256 = before.get(name, (None, ""))
        if entry and entry.sha256 and entry.size == now[0]:
            sha256 = sha256 if was == now else entry_of(mirror.folder / name).sha256
            if sha256 == entry.sha256:
                same[name] = now, sha256
                continue
        mirror.remove(name)
    missing = {n: e for n, e in index.files.items() if n not in same and wanted(n)}
    came: dict[str, Entry] = {}
    _fetch(mirror, store, missing, came)
    return _in_step(mirror, known, index, same, came)


def _in_step(
    mirror: Mirror,
    known: Known,
    index: Index,
    files: dict[str, tuple[Signature, str]],
    came: dict[str, Entry],
) -> Index:
    fresh = {name: (signature(mirror.folder / name), e.sha256) for name, e in came.items()}
    known.files, known.idents = {**files, **fresh}, (index.ident,)
    mirror.keep(known)
    return Index(index.ident, {**index.files, **came})


def _fetch(
    mirror: Mirror, store: remote.Store, files: dict[str, Entry], came: dict[str, Entry]
) -> None:
    """Downloads some files, each whole or not at all; ``came`` gets what they turned out to be."""
    if not files:
        return
    size = sum(entry.size for entry in files.values())
    fetched.check_space(mirror.room, size, store.where)
    logging.info("%s: %d files, %.0f MB, come down.", store.where, len(files), size / 1e6)
    with (
        Progress(f"fetch {remote.shown(store.url)}", len(files)) as bar,
        concurrent.futures.ThreadPoolExecutor(fetched.THREADS) as pool,
    ):

        def one(name: str) -> None:
            came[name] = _fetch_file(mirror, store, name, files[name])
            bar.update(1)

        fetched.each_of(pool, one, list(files))


def _fetch_file(mirror: Mirror, store: remote.Store, name: str, entry: Entry) -> Entry:
    part = mirror.room / f".{secrets.token_hex(8)}.part"
    places = [name] if not entry.sha256 else [name, indices.staged(entry)]
    cause: Exception | None = None
    try:
        for place in places:
            try:
                remote.retry(lambda place=place: store.download(place, part))
            except FileNotFoundError as error:
                cause = error
                continue
            except Exception as error:
                raise store.failed(error) from error
            came = entry_of(part)
            if came == entry or (not entry.sha256 and came.size == entry.size):
                path = mirror.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, path)
                return came
    finally:
        part.unlink(missing_ok=True)
    raise _Changed(name) from cause


def finish(store: remote.Store, index: Index) -> None:
    """Does what a killed upload left undone.

    What lies under ``STAGED`` is copied to its own name, if the index names it, and removed there;
    so are objects that were uploaded for an index that was never written.

    Raises:
      UserError: the store cannot be written.
    """
    names: dict[str, list[str]] = {}
    for name, entry in index.files.items():
        names.setdefault(entry.sha256, []).append(name)
    try:
        for place in remote.retry(lambda: store.listing(indices.STAGED)):
            publish(store, {name: place for name in names.get(place.rpartition("/")[2], ())})
            store.remove(place)
        for name in remote.retry(lambda: indices.read_pending(store)) - index.files.keys():
            store.remove(name)
        store.remove(indices.PENDING)
    except Exception as error:
        raise store.failed(error, "written") from error


def publish(store: remote.Store, places: dict[str, str]) -> None:
    """Copies new contents to their names, after the index that names them: name -> where it is."""
    for name, place in places.items():
        remote.retry(lambda name=name, place=place: store.copy(place, name))


def figures_alone(names: Iterable[str]) -> Wanted:
    """What a comparison of runs reads: no checkpoints, and no labels of single photos."""
    labels = _label_stages(names)
    return lambda name: "checkpoints" not in name.split("/") and not _is_label(name, labels)


def network_alone(names: Iterable[str]) -> Wanted:
    """What looking at photos needs: the checkpoints, and what lies beside them."""
    labels = _label_stages(names)
    heavy = {"tensorboard", "scores"}
    return lambda name: not heavy.intersection(name.split("/")) and not _is_label(name, labels)


def _label_stages(names: Iterable[str]) -> frozenset[str]:
    """Stages with labels: S, where S/S.json closes them."""
    parts = (name.split("/") for name in names)
    return frozenset(p[0] for p in parts if len(p) == 2 and p[1] == f"{p[0]}.json")


def _is_label(name: str, stages: frozenset[str]) -> bool:
    parts = name.split("/")
    return parts[0] in stages and len(parts) > 2
