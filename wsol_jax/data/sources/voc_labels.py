"""Image labels of PASCAL VOC as the weakly supervised field hands them on: ``cls_labels.npy``.

The file is a pickled dictionary of image id -> (20,) multi-hot. Pickles run what they are told to,
so this reader knows the few names that such a file needs and refuses all others. It has stand-ins
of its own for them: NumPy's trust the bytes they are given, and a damaged file ends the process.
"""

import io
import os
import pathlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from wsol_jax.base.arrays import check_regular
from wsol_jax.base.errors import UserError
from wsol_jax.base.limits import MAX_BYTES

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on


class _Dtype:
    """Stands for numpy.dtype: whole numbers, booleans and floats alone, but for "O" of a list."""

    def __init__(self, code: object = None, *_: object):
        self.code, self.order = code, "="

    def __setstate__(self, state: Sequence) -> None:
        self.order = state[1]

    def make(self) -> np.dtype:
        known = isinstance(self.code, str) and re.fullmatch("b1|[iu][1248]|f[248]", self.code)
        if not known or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"it holds values of the type {self.code!r}")
        return np.dtype(self.code).newbyteorder(self.order)


class _Array:
    """Stands for numpy.ndarray; ``value`` is the array, or the one object of an array of one."""

    def __init__(self, *_: object):
        self.value: object = None

    def __setstate__(self, state: Sequence) -> None:
        *_, shape, dtype, is_fortran, data = state
        if isinstance(data, list):
            (self.value,) = data
        else:
            self.value = _from_buffer(data, dtype, shape, "F" if is_fortran else "C")


def _from_buffer(
    data: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray:
    if isinstance(data, str):  # bytes, as Python 2 wrote them
        data = data.encode("latin1")
    return np.frombuffer(data, dtype.make()).reshape(shape, order=order)


def _scalar(dtype: _Dtype, data: bytes | str) -> np.generic:
    return _from_buffer(data, dtype, (), "C")[()]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


_KNOWN = {"_reconstruct": _Array, "scalar": _scalar, "_frombuffer": _from_buffer}


class _Arrays(pickle._Unpickler):
    """An unpickler of arrays, numbers and dictionaries that refuses whatever could run.

    It is Python's own in Python: that in C takes memory for whatever number of values a damaged
    file claims to have remembered.
    """

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if re.fullmatch(r"numpy\.(_?core)\.(multiarray|numeric)", module) and name in _KNOWN:
            return _KNOWN[name]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return {"ndarray": _Array, "dtype": _Dtype}[name]
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_image_labels(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Reads image id -> indices of VOC's classes, ascending.

    Args:
      path: ``cls_labels.npy``: a dictionary from image ids, as text or with the dash left out as a
        whole number (2007000032), to (20,) arrays of 0 and 1.

    Raises:
      UserError: the file is missing, or of another kind.
    """
    try:
        check_regular(path)
        with pathlib.Path(path).open("rb") as opened:
            if os.fstat(opened.fileno()).st_size > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            file = io.BytesIO(opened.read())  # which gives no more than there is
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        read(file)
        content = _plain(_Arrays(file, encoding="latin1").load())
        if not isinstance(content, Mapping):
            raise ValueError("it holds no dictionary of image ids")
        content = {_name(key): _plain(row) for key, row in content.items()}
    except OSError as error:
        raise UserError(f"data.labels={path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes ask for
        raise UserError(f"data.labels={path} is no file of image labels: {error}.") from None
    found = {}
    for name, row in content.items():
        try:
            row = np.asarray(row)
            known = row.shape == (len(VOC_CLASSES),) and row.dtype.kind in "biuf"
        except ValueError:  # rows within the row, of different lengths
            known = False
        if not known or not np.isin(row, (0, 1)).all():
            raise UserError(
                f"data.labels={path}: the values of image {name} are not {len(VOC_CLASSES)} of 0 "
                f"or 1."
            )
        found[name] = tuple(int(c) for c in np.flatnonzero(row))
    return found


def _plain(value: object) -> object:
    return value.value if isinstance(value, _Array) else value


def _name(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool) or not isinstance(key, int | np.integer):
        raise ValueError(f"an image's id is no text: {key!r}")
    return f"{int(key) // 10**6}_{int(key) % 10**6:06d}"
