"""The mirror of a remote run on this machine: where it lies, and what of it was in step when.

CACHE/remote/runs/READABLE-HASH/ holds the mirror, a folder by the run's own name, and beside it
``known.json``: of each file its signature and hash when remote and mirror were last the same.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Mapping

from absl import logging

from wsol_jax.base import cached, remote, typed
from wsol_jax.base.files import write_whole
from wsol_jax.runs.mirror.index import Entry, is_control

# Size, time of change in ns, inode: another one of them is another content.
Signature = tuple[int, int, int]


@dataclasses.dataclass
class Known:
    """What is known of a mirror against its remote run.

    Attributes:
      mirror: names this mirror among all machines'.
      idents: of the remote states that the mirror comes from; two while one replaces the other.
      files: signature and hash of each file as it was in step.
    """

    mirror: str
    idents: tuple[str, ...] = ()
    files: Mapping[str, tuple[Signature, str]] = dataclasses.field(default_factory=dict)


class Mirror:
    """A remote run's folder on this machine; ``folder`` is the workdir."""

    def __init__(self, url: str):
        self.room = cached.room(url, "runs")
        self.folder = self.room / remote.last_name(url)
        self._file = self.room / "known.json"
        typed.note(self.folder, remote.shown(url.rstrip("/")))

    def make(self) -> None:
        """Makes the folders."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def clean(self) -> None:
        """Removes what a killed process left beside the mirror."""
        for place in self.room.glob("snapshot-*"):
            shutil.rmtree(place, ignore_errors=True)
        for part in self.room.glob(".*.part"):
            part.unlink(missing_ok=True)

    def known(self) -> Known:
        """What is known; nothing where nobody was here, or the file is damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(self._file.read_text())
            files = {
                str(name): ((int(size), int(changed), int(inode)), str(sha256))
                for name, (size, changed, inode, sha256) in found["files"].items()
            }
            return Known(str(found["mirror"]), tuple(map(str, found["idents"])), files)
        return Known(secrets.token_hex(8))

    def keep(self, known: Known) -> None:
        """Writes down what is known."""
        files = {name: [*signature, sha] for name, (signature, sha) in known.files.items()}
        content = {"mirror": known.mirror, "idents": known.idents, "files": files}
        write_whole(self._file, json.dumps(content))

    def scan(self) -> dict[str, Signature]:
        """The signature of each of the run's files, by name.

        A folder's own files come before its sub-folders': what closes a stage stands above what it
        closes, and must not be seen without it.
        """
        found: dict[str, Signature] = {}
        left = [""]
        while left:
            below = left.pop()
            folders = []
            with contextlib.suppress(FileNotFoundError), os.scandir(self.folder / below) as entries:
                for entry in entries:
                    name = f"{below}{entry.name}"
                    if is_control(name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{name}/")
                    elif entry.is_file():
                        with contextlib.suppress(FileNotFoundError):
                            found[name] = signature(self.folder / name)
            left += folders
        return found

    def has_unsaved(self, known: Known) -> bool:
        """Whether the mirror holds what the remote run never got."""
        return bool(known.idents) and any(
            known.files.get(name, (None,))[0] != found for name, found in self.scan().items()
        )

    def set_aside(self, told: str) -> None:
        """Moves the mirror away; ``told``: why, for the line that says where it is."""
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        place = self.room / f"aside-{now}-{secrets.token_hex(2)}-{self.folder.name}"
        os.replace(self.folder, place)
        logging.warning("%s is in %s.", told, place)

    def remove(self, name: str) -> None:
        """Removes a file, and folders that are empty without it."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for parent in path.parents:
                if parent == self.folder:
                    break
                parent.rmdir()


def signature(path: pathlib.Path) -> Signature:
    """What changes when a file's content does."""
    about = os.stat(path)
    return about.st_size, about.st_mtime_ns, about.st_ino


def entry_of(path: pathlib.Path) -> Entry:
    """A file's size and hash."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry(file.tell(), digest)


# Files that grow in place; all others are written whole and renamed.
_GROWING = ("history.jsonl", "events.out.tfevents")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A run's files at one moment, whatever becomes of the mirror afterwards.

    Attributes:
      signatures: of all files.
      same: entries of those that are in step.
      files: copies, or links, of the others.
      room: the folder of these.
    """

    signatures: Mapping[str, Signature]
    same: Mapping[str, Entry]
    files: Mapping[str, pathlib.Path]
    room: pathlib.Path

    def drop(self) -> None:
        """Removes the copies."""
        shutil.rmtree(self.room, ignore_errors=True)


def snapshot(mirror: Mirror, known: Known) -> Snapshot:
    """Takes the files of a mirror as they are while nobody writes to it.

    Files that are written whole are linked, which takes no time and no room; a file that grows in
    place is copied.
    """
    room = mirror.room / f"snapshot-{secrets.token_hex(8)}"
    room.mkdir(parents=True)
    signatures, same, files = mirror.scan(), {}, {}
    for name, found in list(signatures.items()):
        before, sha256 = known.files.get(name, (None, ""))
        if before == found and sha256:
            same[name] = Entry(found[0], sha256)
            continue
        copy = room / str(len(files))
        try:
            _link(mirror.folder / name, copy)
        except FileNotFoundError:  # removed since it was seen
            del signatures[name]
            continue
        files[name] = copy
    return Snapshot(signatures, same, files, room)


def _link(path: pathlib.Path, copy: pathlib.Path) -> None:
    if not path.name.startswith(_GROWING):
        try:
            os.link(path, copy)
            return
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            pass
    shutil.copyfile(path, copy)
