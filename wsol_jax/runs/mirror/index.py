"""The index of a remote run: which objects it is made of, each by size and hash.

The index is written last, so that it never names what is not there: what comes down of a run is
what its index lists. An object whose content changes lies under ``STAGED`` first, by its hash; when
the index names the new content, it is copied to its own name. So at every moment, whichever upload
was killed, each file of the index is found whole in one of the two places.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping

from wsol_jax.base import remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside
from wsol_jax.base.stored import reading
from wsol_jax.runs import workdirs

NAME = ".wsol_jax_index.json"
LEASE = ".wsol_jax_writer.json"
STAGED = ".wsol_jax_new"
PENDING = ".wsol_jax_pending.json"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file: its bytes, and their SHA-256; "" where nobody has computed it yet."""

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Index:
    """What a remote run holds.

    Attributes:
      ident: tells this state of the run from every other one; "" where there is nothing.
      files: by their names below the run's folder, with "/".
    """

    ident: str
    files: Mapping[str, Entry]


EMPTY = Index("", {})


def staged(entry: Entry) -> str:
    """Where an object's new content waits for the index that names it."""
    return f"{STAGED}/{entry.sha256}"


def new_ident() -> str:
    """An ident that no other index has."""
    return secrets.token_hex(16)


def write(store: remote.Store, index: Index) -> None:
    """Writes a run's index: from here on this is what the run holds."""
    files = sorted(index.files.items())
    lines = [f"{json.dumps(n)}: {json.dumps([e.size, e.sha256])}" for n, e in files]
    head = f'{{"version": {_VERSION}, "ident": {json.dumps(index.ident)}, "files": {{\n'
    store.write(NAME, (head + ",\n".join(lines) + "\n}}\n").encode())


def mark(store: remote.Store) -> str:
    """What changes whenever somebody writes the index."""
    about = store.info(NAME)
    return remote.mark_of(about) if about else ""


def write_pending(store: remote.Store, names: Iterable[str]) -> None:
    """Notes names that are about to come or to go: those that no index has are to be removed."""
    store.write(PENDING, json.dumps(sorted(names)).encode())


def read_pending(store: remote.Store) -> set[str]:
    """What ``write_pending`` noted; nothing where it is damaged, as nothing hangs on it."""
    try:
        names = set(json.loads(store.read(PENDING) or b"[]"))
        for name in names:
            check_inside(name, PENDING)
    except (ValueError, TypeError, UserError):
        return set()
    return {name for name in names if not is_control(name)}


def read(store: remote.Store) -> Index:
    """A run's index; of a run that was copied there by other means, one made of its listing.

    ``EMPTY`` where the folder holds no run.

    Raises:
      UserError: the folder cannot be read, its config is no run's, or its index is damaged.
    """
    try:
        content = remote.retry(lambda: store.read(NAME), tries=2)
        if content is not None:
            return _parse(content, store)
        config = remote.retry(lambda: store.read(workdirs.CONFIG))
        if config is not None:
            _check_config(config, store)  # before a stranger's folder comes down whole
            return _of_listing(store)
    except UserError:
        raise
    except Exception as error:
        raise store.failed(error) from error
    return EMPTY


def check_ours(store: remote.Store) -> None:
    """Raises UserError where a folder holds what looks like a run's, but no run.

    What is there would be overwritten.
    """
    if read(store) == EMPTY:
        try:
            names = remote.retry(store.names)
        except Exception as error:
            raise store.failed(error) from error
        workdirs.check_names(names, store.where)


def _check_config(content: bytes, store: remote.Store) -> None:
    with tempfile.TemporaryDirectory() as name:
        (pathlib.Path(name) / workdirs.CONFIG).write_bytes(content)
        try:
            workdirs.load(pathlib.Path(name))
        except UserError as error:
            raise UserError(str(error).replace(name, remote.shown(store.url))) from error


def _parse(content: bytes, store: remote.Store) -> Index:
    where = f"{store.where}/{NAME}"
    with reading(where, "remove it there to take the folder as it is"):
        found = json.loads(content)
        if found["version"] != _VERSION:
            raise UserError(f"{where}: version {found['version']}, expected {_VERSION}.")
        files = {}
        for name, (size, sha256) in found["files"].items():
            check_inside(name, where)
            if not isinstance(size, int) or not re.fullmatch("[0-9a-f]{64}", sha256):
                raise ValueError(f"{name[:80]}: expected a size and a hash")
            if not is_control(name):
                files[name] = Entry(size, sha256)
        return Index(str(found["ident"]), files)


def _of_listing(store: remote.Store) -> Index:
    found = store.listing()
    for name in found:
        check_inside(name, store.where)
    own = {name: about for name, about in found.items() if not is_control(name)}
    files = {name: Entry(int(about.get("size") or 0), "") for name, about in own.items()}
    marks = sorted((name, remote.mark_of(about)) for name, about in own.items())
    return Index("listing:" + hashlib.sha256(json.dumps(marks).encode()).hexdigest(), files)


def is_control(name: str) -> bool:
    """Whether an object or a file is the mirror's own, a lock, or a file on its way."""
    first, _, _ = name.partition("/")
    parts = name.split("/")
    return (
        first in (NAME, LEASE, STAGED, PENDING, ".wsol_jax_probe")
        or parts[-1] == ".wsol_jax.lock"
        or bool(re.fullmatch(r"\.[0-9a-f]{16,32}\.(tmp|part)", parts[-1]))
        or any("orbax-checkpoint-tmp" in part for part in parts)
    )
