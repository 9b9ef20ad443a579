"""Reads .npy and .npz files of anyone: headers before numbers, no pickles, bounded memory."""

import math
import os
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

import numpy as np

from wsol_jax.base.limits import MAX_BYTES

# NumPy parses a header as Python, and Python 3.11 fails at that in two threads at once ("AST
# constructor recursion depth mismatch").
_HEADERS = threading.Lock()
_BLOCK = 1 << 20
_END = 22  # bytes of a zip's last record
_LOCATOR, _LONG_END = 20, 56  # those of zip64, and the record that it points to
_MAX_LIST = 1 << 24  # bytes of a zip's list of members: 65,535 have 6 MB
# The methods that NumPy and Keras write. zipfile unpacks the others without a bound on memory.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Unreadable(ValueError):
    """An array file that cannot be used; the text says why, and the caller names the file."""


class Header(NamedTuple):
    """What an array's header claims. ``size``: bytes of its numbers."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: BinaryIO, records: bool = False) -> Header:
    """Reads the header of .npy data, from its first byte on; the numbers come next.

    Args:
      records: whether records of numbers (a structured dtype) will do too.

    Raises:
      Unreadable: another file, another version, Python objects, a damaged shape.
    """
    try:
        with _HEADERS:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                found = Header(*np.lib.format.read_array_header_1_0(stream))
            elif version == (2, 0):
                found = Header(*np.lib.format.read_array_header_2_0(stream))
            else:
                text = f"is an .npy file of version {version[0]}.{version[1]}, expected 1.0 or 2.0"
                raise Unreadable(text)
    except (Unreadable, zipfile.BadZipFile, zlib.error):  # of an archive around it
        raise
    except Exception:  # Python's parser raises whatever the damage led to
        raise Unreadable("is no .npy file, or is truncated within its header") from None
    if found.dtype.hasobject:
        raise Unreadable("holds pickled Python objects, which are never loaded")
    is_void = found.dtype.kind == "V" and not (records and found.dtype.names)
    if min(found.shape, default=0) < 0 or is_void:
        raise Unreadable(f"holds {found.dtype} of shape {found.shape}, expected numbers")
    return found


def check_size(size: int) -> None:
    """Raises Unreadable for more bytes of numbers than one file may have."""
    if size > MAX_BYTES:
        raise Unreadable(f"claims {size} bytes of numbers, the limit is {MAX_BYTES}")


def read_npy(
    path: str | os.PathLike, check: Callable[[Header], None] = lambda header: None
) -> np.ndarray:
    """Reads the array of an .npy file.

    Args:
      check: called with the header, before memory is taken; may raise.

    Raises:
      OSError: the file cannot be opened.
      Unreadable: no .npy file, a truncated one, one of Python objects or beyond ``MAX_BYTES``.
    """
    check_regular(path)
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise Unreadable("is empty")
        header = read_header(file)
        check(header)
        check_size(header.size)
        have = os.fstat(file.fileno()).st_size - file.tell()
        if have < header.size:
            raise Unreadable(f"is truncated: {have} of {header.size} bytes of numbers are there")
        return _numbers(file, header)


def read_npz(
    path: str | os.PathLike,
    names: Iterable[str] = (),
    check: Callable[[dict[str, Header]], None] = lambda headers: None,
    records: bool = False,
) -> dict[str, np.ndarray]:
    """Reads arrays of an .npz file; all headers come before the first number.

    Args:
      names: of the arrays that are wanted; () for all.
      check: called with the headers by name, before memory is taken; may raise.
      records: whether records of numbers will do too.

    Raises:
      OSError: the file cannot be opened.
      Unreadable: no .npz file, a damaged one, without one of the names, with Python objects or
        beyond ``MAX_BYTES`` in all.
    """
    check_regular(path)
    with open(path, "rb") as file:
        try:
            with open_archive(file) as archive:
                return _arrays(archive, tuple(names), check, records)
        except (Unreadable, OSError):
            raise
        except Exception as error:  # zipfile and zlib raise whatever the damage led to
            raise Unreadable(f"is no .npz file, or a damaged one ({error})") from None


def check_regular(path: str | os.PathLike) -> None:
    """Raises Unreadable for a pipe or a device, which would keep its reader waiting."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder the system says so
        raise Unreadable("is no regular file")


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Opens a zip whose list of members is no larger than it may be: zipfile reads all of it.

    Raises:
      Unreadable: no zip, or a larger list, such as only archives beyond ``MAX_BYTES`` need.
    """
    start = max(0, file.seek(0, os.SEEK_END) - _END - (1 << 16))
    file.seek(start)
    tail = file.read(_END + (1 << 16))  # the end, and the longest comment behind it
    at = len(tail) - _END
    if tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + _END:
        raise Unreadable("is no zip archive, or a truncated one")
    size = struct.unpack_from("<I", tail, at + 12)[0]
    if tail[max(at - _LOCATOR, 0) : at].startswith(b"PK\6\7"):  # PyTorch writes one each time
        place = start + at - _LOCATOR - _LONG_END
        size = _long_size(file, place, struct.unpack_from("<Q", tail, at - _LOCATOR + 8)[0])
    if size > _MAX_LIST:
        raise Unreadable("is a zip archive of more members than such a file has")
    return zipfile.ZipFile(file)


def _long_size(file: BinaryIO, place: int, said: int) -> int:
    """The size of the list as zip64's record has it, right before its locator, which says where.

    Raises:
      Unreadable: the two differ, so that readers would not agree on what the archive holds.
    """
    file.seek(max(place, 0))
    record = file.read(_LONG_END)
    if said != place or record[:4] != b"PK\6\6":
        raise Unreadable("is no zip archive, or a truncated one")
    return struct.unpack_from("<Q", record, 40)[0]


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Reads a file of an archive.

    Raises:
      Unreadable: it is not there, beyond ``MAX_BYTES``, or compressed by a method without bounds.
    """
    with _open(archive, name) as stream:
        check_size(archive.getinfo(name).file_size)
        return stream.read()


def _open(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise Unreadable(f"has no {name.removesuffix('.npy')}") from None
    if member.compress_type not in _METHODS:
        raise Unreadable(f"holds {name} neither stored nor deflated")
    return archive.open(member)


def _arrays(
    archive: zipfile.ZipFile,
    names: tuple[str, ...],
    check: Callable[[dict[str, Header]], None],
    records: bool,
) -> dict[str, np.ndarray]:
    there = dict.fromkeys(archive.namelist())
    # numpy.savez adds the suffix; others may not.
    members = {name.removesuffix(".npy"): name for name in there}
    members |= {name: name for name in names if name in there}
    headers = {}
    for name in names or members:
        with _open(archive, members.get(name, name)) as stream:
            headers[name] = read_header(stream, records)
    check(headers)
    check_size(sum(header.size for header in headers.values()))
    found = {}
    for name in headers:
        with _open(archive, members[name]) as stream:
            # Read again: a stream that stays open takes memory, and there may be many.
            found[name] = _numbers(stream, read_header(stream, records))
            if stream.read(1):  # the end, where zipfile compares the checksum
                raise Unreadable(f"holds {name} with more bytes than its header claims")
    return found


def _numbers(stream: BinaryIO, header: Header) -> np.ndarray:
    """The array behind a header, in memory once; the size was checked."""
    data, at = np.empty(header.size, np.uint8), 0
    while at < header.size and (block := stream.read(min(_BLOCK, header.size - at))):
        data[at : at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
    if at < header.size:
        raise Unreadable(f"is truncated: {at} of {header.size} bytes of numbers are there")
    order = "F" if header.by_columns else "C"
    try:
        return data.view(header.dtype).reshape(header.shape, order=order)
    except (ValueError, TypeError) as error:  # numbers of no bytes, or more axes than NumPy has
        raise Unreadable(f"holds {header.dtype} of shape {header.shape}: {error}") from None
