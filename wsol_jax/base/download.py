"""Fetches public data sets and weights once, verified, or says what to fetch by hand."""

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import http.client
import os
import pathlib
import shutil
import ssl
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib

from absl import logging
from tqdm import tqdm

from wsol_jax.base.errors import UserError

_BLOCK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_UNREACHABLE = (
    urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Remote:
    """A public file: where it lies and the checksum that its publisher (or users) state."""

    url: str
    sha256: str | None = None
    md5: str | None = None

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[1]


def fetch(
    url: str, path: str | os.PathLike, sha256: str | None = None, md5: str | None = None
) -> pathlib.Path:
    """Fetches url to path, unless path is there already; the checksum is verified either way.

    The bytes go to a temporary name beside path, which becomes path only once they are complete
    and right: a killed run leaves nothing that looks like the file.

    Args:
      url: http, https or file.
      sha256, md5: hexadecimal, or its first digits; verified where given.

    Returns path.

    Raises UserError: no network, not found, cut short, another checksum, no room on the disk. The
    sentence says what to fetch and where to put it.
    """
    path = pathlib.Path(path)
    if path.exists():
        _verify(path, path, url, sha256, md5)
        return path
    by_hand = f"fetch it by hand and put it at {path}"
    part = None
    logging.info("Fetching %s to %s.", url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = pathlib.Path(name)
        with os.fdopen(handle, "wb") as out:
            _stream(url, out, path.name)
        _verify(part, path, url, sha256, md5)
        part.chmod(0o644)  # mkstemp's 0600 would shut out the other users of a shared cache
        os.replace(part, path)
    except urllib.error.HTTPError as e:
        raise UserError(f"{url} answers {e.code} {e.reason}: {by_hand}") from None
    except _UNREACHABLE as e:
        raise UserError(
            f"{url} cannot be reached ({getattr(e, 'reason', None) or e}): {by_hand}"
        ) from None
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no room left at {path.parent} for {path.name} from {url}: free some space"
            ) from None
        raise UserError(f"{path} cannot be written: {e.strerror or e}") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path


def unpack(archive: pathlib.Path, member: str, root: pathlib.Path) -> pathlib.Path:
    """Unpacks the folder ``member`` of a .tgz to root/member, all of it or nothing.

    Returns root/member.

    Raises UserError for a damaged archive, one without that folder, or one whose entries are
    links, devices or point out of it.
    """
    target = root / member
    if target.exists():
        raise UserError(
            f"{target} is in the way of unpacking {archive} and not what is expected: remove it"
        )
    logging.info("Unpacking %s to %s.", archive, root)
    with contextlib.ExitStack() as stack:
        try:
            scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{member}.", dir=root))
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            tar = stack.enter_context(tarfile.open(archive, "r:gz"))
            for entry in tqdm(tar, desc=f"unpacking {archive.name}", unit="", disable=_quiet()):
                _unpack_entry(tar, entry, member, scratch)
            while tar.fileobj.read(_BLOCK):
                pass  # gzip checks its CRC at the very end, which tarfile does not reach
        except _Unsafe as e:
            raise UserError(
                f"archive {archive} is not safe to unpack: {e} is a link or points out of it"
            ) from None
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise UserError(f"archive {archive} is damaged ({e}): delete it, try again") from None
        except OSError as e:
            raise UserError(
                f"archive {archive} cannot be unpacked to {root}: {e.strerror or e}"
            ) from None
        if not (scratch / member).is_dir():
            raise UserError(f"archive {archive} holds no folder {member}")
        with contextlib.suppress(OSError):  # it is there if another process was faster
            os.rename(scratch / member, target)
    if not target.is_dir():
        raise UserError(f"archive {archive} cannot be unpacked to {target}")
    return target


class _Unsafe(Exception):
    """The name of an entry that must not be written."""


def _unpack_entry(
    tar: tarfile.TarFile, entry: tarfile.TarInfo, member: str, scratch: pathlib.Path
) -> None:
    """Writes one file or folder below scratch/member; mode, owner and times are left behind."""
    name = pathlib.PurePosixPath(entry.name)  # drops a leading "./"
    if ".." in name.parts or name.is_absolute():
        raise _Unsafe(entry.name)
    if name.parts[:1] != (member,):
        return
    if entry.isdir():
        (scratch / name).mkdir(parents=True, exist_ok=True)
    elif entry.isfile():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        with tar.extractfile(entry) as source, open(scratch / name, "xb") as out:
            shutil.copyfileobj(source, out, _BLOCK)
    else:
        raise _Unsafe(entry.name)


def _quiet() -> bool:
    return not sys.stderr.isatty()


def _stream(url: str, out, label: str) -> None:
    # Some servers refuse urllib's own name.
    request = urllib.request.Request(url, headers={"User-Agent": "wsol_jax"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        total = int(response.headers.get("Content-Length") or 0)
        done = 0
        with tqdm(
            total=total or None, desc=label, unit="B", unit_scale=True, disable=_quiet()
        ) as bar:
            while block := response.read(_BLOCK):
                out.write(block)
                done += len(block)
                bar.update(len(block))
    if total and done != total:  # urllib says nothing when the other side hangs up
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _verify(
    file: pathlib.Path, path: pathlib.Path, url: str, sha256: str | None, md5: str | None
) -> None:
    """Raises UserError unless file (to become path) has the checksums that are given."""
    for kind, expected in (("sha256", sha256), ("md5", md5)):
        if not expected:
            continue
        with open(file, "rb") as f:
            found = hashlib.file_digest(f, kind).hexdigest()
        if not found.startswith(expected.lower()):
            what = f"{path} is not" if file == path else f"{url} did not give"
            raise UserError(
                f"{what} the expected file: its {kind} is {found}, not {expected}; delete it, "
                f"fetch {url} again and put it at {path}"
            )
