"""Remote folders and files by URL (gs://, s3://, ...), on fsspec: read, written, refused in words.

fsspec is imported when the first URL is opened: a local path never needs it.
"""

import contextlib
import os
import pathlib
import re
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Json

Out = TypeVar("Out")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_LOCAL = ("file", "local")
# What pathlib leaves of a URL; on a disk nobody has such a folder.
_SLIPPED = re.compile(r"(gs|gcs|s3|s3a|abfs|abfss|az|hdfs|https?|memory):/(?!/)")

# What a store raises for who may not, by the names that its client gives: none is imported here.
_DENIED = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_DENIED += ("RefreshError", "TransportError", "NoAuthTokenError", "ClientAuthenticationError")
_DENIED += ("TokenRetrievalError", "PermissionError")
_HINT = "docs/remote.md says how a store learns who you are"


def is_url(place: object) -> bool:
    """Whether a place is another machine's: gs://bucket/run, but not file:///run.

    Raises:
      UserError: what ``pathlib.Path`` leaves of a URL.
    """
    text = os.fspath(place) if isinstance(place, str | os.PathLike) else ""
    if not isinstance(text, str) or ":/" not in text:
        return False
    if _SLIPPED.match(text):
        raise UserError(
            f"{text}: a URL has two slashes, as in {text.replace(':/', '://', 1)}; give it as a "
            "text, since pathlib.Path drops one."
        )
    found = _URL.match(text)
    return bool(found) and found[1].lower() not in _LOCAL


def local_path(place: str | os.PathLike) -> pathlib.Path:
    """A place on this machine; file:///run is /run."""
    text = os.fspath(place)
    found = _URL.match(text) if isinstance(text, str) else None
    if found and found[1].lower() in _LOCAL:
        return pathlib.Path(found[2])
    return pathlib.Path(place)


def refuse_url(place: object, what: str) -> None:
    """Raises UserError where a URL is named to what writes or reads this machine's disk alone."""
    if is_url(place):
        raise UserError(f"{what}={place}: expected a path on this machine, not a URL.")


def shown(url: str) -> str:
    """A URL as it may be shown: a password in it is left out."""
    return re.sub(r"^(\w[\w+.-]*://[^/@:]*):[^/@]*@", r"\1:***@", url)


def last_name(url: str) -> str:
    """The last name of a URL's path: of a folder or a file."""
    name = re.sub(r"[?#].*", "", url.rstrip("/")).rpartition("/")[2]
    return name if name not in ("", ".", "..") else "remote"


class Store:
    """A remote folder (or file), and its objects by their names below it.

    Args:
      url: such as gs://bucket/run.
      where: names it in a sentence: "--workdir=gs://bucket/run".

    Raises:
      UserError: fsspec does not know such URLs, or what reads them is not installed.
    """

    def __init__(self, url: str, where: str = ""):
        import fsspec.core

        self.url = url.rstrip("/")
        self.where = where or shown(self.url if self.url[-1] != ":" else url)
        found = _URL.match(url)
        if not found or not found[2].strip("/"):  # "gs:/" is the folder of gs://name
            raise UserError(f"{self.where}: expected a folder's name behind the slashes.")
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise UserError(f"{self.where}: {_missing(self.url, error)}.") from error
        except ValueError as error:
            if "not known" not in str(error):
                raise self.failed(error, "read") from error
            kind = _URL.match(url)[1]
            raise UserError(f"{self.where}: fsspec knows no URLs of the kind {kind}://.") from None
        except Exception as error:
            raise self.failed(error, "read") from error
        self._root = root.rstrip("/")

    def path(self, name: str = "") -> str:
        """An object's path as fsspec has it; without a name the folder's own."""
        return f"{self._root}/{name}" if name else self._root

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        try:
            return self._fs.cat_file(self.path(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a small object in place of one that was there."""
        self._put(lambda: self._fs.pipe_file(self.path(name), content), name)

    def create(self, name: str, content: bytes) -> bool:
        """Writes an object that is not there yet; False where there is one.

        Stores that can are asked to refuse: of two that create at once, one is told so.
        """
        try:
            make = lambda: self._fs.pipe_file(self.path(name), content, mode="create")
            self._put(make, name)
            return True
        except FileExistsError:
            return False
        except (TypeError, NotImplementedError):  # knows no such mode
            if self.info(name) is not None:
                return False
            self.write(name, content)
            return True

    def upload(self, file: pathlib.Path, name: str) -> None:
        """Uploads a file, and asks for the size of what arrived. OSError where it differs."""
        self._put(lambda: self._fs.put_file(str(file), self.path(name)), name)
        size, found = file.stat().st_size, self.info(name)
        if found is None or found.get("size") not in (size, None):
            arrived = "nothing" if found is None else f"{found.get('size')} bytes"
            raise OSError(f"{name}: {arrived} of {size} arrived")

    def download(self, name: str, file: pathlib.Path) -> None:
        """Downloads an object to a file. Raises FileNotFoundError, and what the store raises."""
        self._fs.get_file(self.path(name), str(file))

    def copy(self, name: str, to: str) -> None:
        """Copies an object within the store."""
        try:
            self._put(lambda: self._fs.cp_file(self.path(name), self.path(to)), to)
        except NotImplementedError:  # sftp:// and ftp:// have no copy of their own
            self.write(to, self._fs.cat_file(self.path(name)))

    def remove(self, name: str) -> None:
        """Removes an object; none there is as good."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.path(name))

    def info(self, name: str = "") -> dict[str, Json] | None:
        """What the store says of an object, or of the folder itself; None where there is none."""
        self._fs.invalidate_cache()
        try:
            return self._fs.info(self.path(name))
        except FileNotFoundError:
            return None

    def names(self) -> set[str]:
        """Names of objects and folders directly in the folder."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._root, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in found} - {""}

    def listing(self, below: str = "") -> dict[str, dict[str, Json]]:
        """Every object in the folder and its sub-folders, by name: what the store says of it."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self.path(below), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        start = self._root + "/"
        files = ((path, about) for path, about in found.items() if about.get("type") == "file")
        named = {p.removeprefix(start): about for p, about in files if p.startswith(start)}
        return {name: about for name, about in named.items() if name and name[-1] != "/"}

    def check_writable(self) -> None:
        """Writes a small object and removes it again. Raises UserError where it may not."""
        name = ".wsol_jax_probe"
        try:
            retry(lambda: self.write(name, b"can this be written?\n"))
            self.remove(name)
        except Exception as error:
            raise self.failed(error, "written") from error

    def failed(self, error: BaseException, done: str = "read") -> UserError:
        """The sentence for what a store raised; ``done``: what it cannot be, "read", "written"."""
        reason = one_line(error)
        if is_denied(error):
            return UserError(f"{self.where} cannot be {done}, you may not ({reason}): {_HINT}.")
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return UserError(f"{self.where} cannot be {done}: there is no such bucket or folder.")
        if isinstance(error, NotImplementedError):
            return UserError(f"{self.where} cannot be {done}: URLs of its kind are only read.")
        return UserError(f"{self.where} cannot be {done} ({reason}).")

    def _put(self, write: Callable[[], object], name: str) -> None:
        try:
            write()
        except FileNotFoundError:
            # Folders of their own, which object stores have not: there it is the bucket, which is
            # not made by the way.
            kinds = self._fs.protocol
            if _BUCKETS.intersection({kinds} if isinstance(kinds, str) else kinds):
                raise
            self._fs.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)
            write()


_BUCKETS = {"s3", "gs", "abfs", "az"}


def _missing(url: str, error: ImportError) -> str:
    kind = _URL.match(url)[1].lower()
    package = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs"}.get(kind)
    if package:
        return (
            f"URLs of the kind {kind}:// need {package}, which is not here: pip install {package}"
        )
    return one_line(error).rstrip(".")


def one_line(error: BaseException) -> str:
    """The first line of an error, or its type's name."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0].strip()[:300].rstrip(".")


def is_denied(error: BaseException) -> bool:
    """Whether a store refused who asked: no credentials, or none that may."""
    codes = (getattr(error, "code", None), getattr(error, "status", None))
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names.intersection(_DENIED)) or any(code in (401, 403) for code in codes)


def retry(work: Callable[[], Out], tries: int = 3, wait: float = 1.0) -> Out:
    """What ``work`` gives, tried again with longer and longer waits where a store fails for now.

    Raises:
      What it raised last; at once where trying again helps nothing.
    """
    for left in reversed(range(tries)):
        try:
            return work()
        except (FileNotFoundError, FileExistsError, NotImplementedError, UserError):
            raise
        except (ImportError, TypeError, ValueError):
            raise
        except Exception as error:
            if is_denied(error) or not left:
                raise
            time.sleep(wait)
            wait *= 2
    raise AssertionError("tries is 1 or more")


def mark_of(info: Mapping[str, Json]) -> str:
    """What tells an object from another content of it: its size and the store's hash or time."""
    keys = ("size", "ETag", "etag", "md5Hash", "generation", "content_md5")
    found = {key: str(info[key]) for key in keys if info.get(key) is not None}
    if len(found) < 2:
        times = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
        found |= {key: str(info[key]) for key in times if info.get(key) is not None}
    return ";".join(f"{key}={found[key]}" for key in sorted(found))
