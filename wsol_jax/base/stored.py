"""Files that a run wrote, read again: a damaged one is a sentence, with what makes it anew."""

import contextlib
import hashlib
import json
import pathlib
import time
from collections.abc import Iterator, Mapping

import numpy as np

from wsol_jax.base.arrays import read_npz
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.base.types import Json


@contextlib.contextmanager
def reading(path: pathlib.Path, again: str) -> Iterator[None]:
    """Turns what a damaged file makes its reader raise into a UserError.

    Any error counts: zipfile, zlib, json and NumPy have a dozen of them for a few wrong bytes, and
    what builds objects of the content others for a wrong type.

    Args:
      path: named in the sentence.
      again: what makes the file anew, as the end of the sentence.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {again}.") from None
    except KeyError as error:
        raise UserError(f"{path} is damaged, it has no {error}: {again}.") from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise UserError(f"{path} is damaged ({reason}): {again}.") from error


def read_json(path: pathlib.Path, again: str) -> Json:
    """What a JSON file holds; where ``write_sealed`` wrote it, what that wrote.

    Raises:
      UserError: it is missing, damaged, or was changed since it was written.
    """
    path = pathlib.Path(path)
    with reading(path, again):
        content = path.read_bytes()
        if not _is_sealed(path, content):  # or just being written: two files do not change at once
            time.sleep(0.2)
            content = path.read_bytes()
        if not _is_sealed(path, content):
            name = _seal_of(path).name
            raise UserError(
                f"{path} was changed since it was written ({name} tells): {again}, or remove "
                f"{name} to take it as it is."
            )
        return json.loads(content)


def read_arrays(path: pathlib.Path, again: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz, every byte of them against its checksum; pickles are refused.

    Raises:
      UserError: the file is missing or damaged.
    """
    with reading(path, again):
        return read_npz(path, records=True)


def write_sealed(path: pathlib.Path, content: Mapping[str, Json]) -> None:
    """Writes JSON, and beside it FILE.sha256, by which ``read_json`` knows another byte.

    ``sha256sum -c`` knows it too. Without that file nothing is compared. Raises OSError.
    """
    text = json.dumps(content, indent=1)
    seal = _seal_of(path)
    seal.unlink(missing_ok=True)  # killed in between, there is no wrong one
    write_whole(path, text)
    write_whole(seal, f"{hashlib.sha256(text.encode()).hexdigest()}  {path.name}\n")


def _seal_of(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.sha256")


def _is_sealed(path: pathlib.Path, content: bytes) -> bool:
    seal = _seal_of(path)
    digest = hashlib.sha256(content).hexdigest().encode()
    return not seal.is_file() or seal.read_bytes().split()[:1] == [digest]
