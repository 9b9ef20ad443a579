"""Files that appear whole or not at all."""

import io
import os
import pathlib
import socket
import threading
from collections.abc import Mapping

import numpy as np


def write_whole(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes beside and renames: a killed process leaves the file that was there, or none.

    Folders on the way are made; text is UTF-8. Processes that write one path at once, also on
    several machines, each write a file of their own, and the last rename wins. Raises OSError.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    temporary = path.with_name(f".{writer}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """``write_whole`` of a compressed .npz, without pickles. Raises OSError."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which only a pickle could store")
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    write_whole(path, stream.getvalue())
