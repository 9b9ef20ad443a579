"""Image labels of PASCAL VOC as the weakly supervised field hands them on: ``cls_labels.npy``.

The file is a pickled dictionary of image id -> (20,) multi-hot. Pickles run what they are told to,
so this reader knows the five names that such a file needs and refuses every other.
"""

import os
import pathlib
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsol_jax.data.voc import VOC_CLASSES
from wsol_jax.errors import UserError


class _Arrays(pickle.Unpickler):
    """Arrays, numbers and dictionaries, and nothing that runs."""

    def find_class(self, module: str, name: str) -> Any:
        core = re.fullmatch(r"numpy\.(_?core)\.(multiarray|numeric)", module)
        if core and name in ("_reconstruct", "scalar", "_frombuffer"):
            return getattr(np._core.multiarray if name != "_frombuffer" else np._core.numeric, name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def read_image_labels(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Image id -> indices of VOC's classes, ascending.

    Args:
      path: ``cls_labels.npy``: a dictionary from image ids, as text or with the dash left out as a
        whole number (2007000032), to (20,) arrays of 0 and 1.

    Raises:
      UserError: the file is missing, or of another kind.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            read(file)
            content = _Arrays(file).load()
        content = content.item() if isinstance(content, np.ndarray) else content
    except OSError as error:
        raise UserError(f"data.labels={path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes ask for
        raise UserError(f"data.labels={path} is no file of image labels: {error}.") from None
    if not isinstance(content, Mapping):
        raise UserError(f"data.labels={path}: expected a dictionary of image ids.")
    found = {}
    for key, row in content.items():
        name = key if isinstance(key, str) else f"{int(key) // 10**6}_{int(key) % 10**6:06d}"
        row = np.asarray(row)
        if row.shape != (len(VOC_CLASSES),) or not np.isin(row, (0, 1)).all():
            raise UserError(
                f"data.labels={path}: image {name} has {row.shape} values, expected "
                f"{len(VOC_CLASSES)} of 0 or 1."
            )
        found[name] = tuple(int(c) for c in np.flatnonzero(row))
    return found
