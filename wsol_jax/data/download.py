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

from wsol_jax.errors import UserError

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


CUB = Remote(
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    md5="97eceeb196236b17998738112f37df78",
)
CUB_MASKS = Remote(
    "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz",
    md5="4d47ba1228eae64f2fa547c47bc65255",
)

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
WEIGHTS = {
    # MD5 as in keras.applications. Keras states none for MobileNetV2: this SHA-256 is the one
    # that several projects pin for the same file.
    "vgg16": Remote(
        f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="6d6bbae143d832006294945121d1f1fc",
    ),
    "inception_v3": Remote(
        f"{_KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="bcbd6486424b2319ff4ef7d526e38f63",
    ),
    "mobilenet_v2": Remote(
        f"{_KERAS}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
        sha256="3e195a2857356cfc092cbbb460beb2a5bce279015d7792598b8d3d9e451902e3",
    ),
    # torchvision states the first digits alone, in the file's name.
    "alexnet": Remote(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", sha256="7be5be79"
    ),
}
"""ImageNet weights in Keras' layout, vgg16 and inception_v3 without their classifier; AlexNet's, of
which Keras has none, in torchvision's (PyTorch reads it)."""


def cache_folder() -> pathlib.Path:
    """$WSOL_JAX_CACHE, or ~/.cache/wsol_jax."""
    return pathlib.Path(os.environ.get("WSOL_JAX_CACHE") or "~/.cache/wsol_jax").expanduser()


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


def find_cub(root: str | os.PathLike | None = None) -> pathlib.Path | None:
    """The CUB_200_2011 folder where ``ensure_cub`` looks for it, or None."""
    root = pathlib.Path(root) if root else cache_folder() / "cub"
    there = (p for p in (root, root / "CUB_200_2011") if (p / "images.txt").is_file())
    return next(there, None)


def ensure_cub(root: str | os.PathLike | None = None) -> pathlib.Path:
    """The CUB_200_2011 folder: below root if it is there, else fetched and unpacked there.

    Args:
      root: CUB_200_2011, or the folder that holds or shall hold it; default cache_folder()/cub.

    Raises UserError as fetch and unpack do.
    """
    if (place := find_cub(root)) is not None:
        return place
    root = pathlib.Path(root) if root else cache_folder() / "cub"
    if root.name == "CUB_200_2011":
        root = root.parent
    archive = fetch(CUB.url, root / CUB.file, CUB.sha256, CUB.md5)
    return unpack(archive, "CUB_200_2011", root)


def ensure_cub_masks(cub: str | os.PathLike) -> pathlib.Path:
    """The segmentations folder of a CUB_200_2011 folder; fetched into it if in neither place.

    Raises UserError as fetch and unpack do.
    """
    cub = pathlib.Path(cub)
    for place in (cub, cub.parent):
        if (place / "segmentations").is_dir():
            return place / "segmentations"
    archive = fetch(CUB_MASKS.url, cub / CUB_MASKS.file, CUB_MASKS.sha256, CUB_MASKS.md5)
    return unpack(archive, "segmentations", cub)


def ensure_weights(name: str) -> pathlib.Path:
    """The file of a backbone's ImageNet weights (WEIGHTS), in cache_folder()/weights.

    Raises UserError for a name without public weights, and as fetch does.
    """
    if name not in WEIGHTS:
        raise UserError(
            f"no ImageNet weights are known for {name!r}, only for {', '.join(WEIGHTS)}: give a "
            "file of your own as weights=PATH"
        )
    remote = WEIGHTS[name]
    return fetch(remote.url, cache_folder() / "weights" / remote.file, remote.sha256, remote.md5)


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
