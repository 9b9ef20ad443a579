"""Files that appear whole or not at all."""

import os
import pathlib
import threading


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Writes beside and renames: a killed process leaves the file that was there, or none.

    Folders on the way are made. Raises OSError.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
