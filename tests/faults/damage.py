"""Ways to spoil a file of a row's folder: each function gives one that does it there."""

import functools
import io
import json
import os
import pathlib
import shutil
import struct
import types
import zipfile
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

Spoil = Callable[[pathlib.Path], object]


def one(here: pathlib.Path, pattern: str) -> pathlib.Path:
    """The path of that name; of a pattern, the largest file that it finds."""
    if "*" not in pattern:
        return here / pattern
    found = [path for path in here.glob(pattern) if path.is_file()]
    assert found, f"nothing like {pattern} in {here}"
    return max(found, key=lambda path: (path.stat().st_size, path.name))


def write(name: str, content: bytes | str = b"") -> Spoil:
    """Puts a file there, whatever there was; empty as a rule."""

    def spoil(here):
        path = one(here, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def remove(name: str) -> Spoil:
    """Takes a file or folder away."""

    def spoil(here):
        path = one(here, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def folder(name: str) -> Spoil:
    """Puts a folder where a file was."""

    def spoil(here):
        path = one(here, name)
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)

    return spoil


def fifo(name: str) -> Spoil:
    """Puts a pipe there, into which nobody writes."""

    def spoil(here):
        path = one(here, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return spoil


def link(name: str, target: str) -> Spoil:
    """Puts a symbolic link there; the target is as seen from its folder."""

    def spoil(here):
        path = one(here, name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return spoil


def closed(name: str, mode: int = 0) -> Spoil:
    """Takes the permissions away."""
    return lambda here: one(here, name).chmod(mode)


def cut(name: str, share: float = 0.5) -> Spoil:
    """Keeps the first part of a file."""

    def spoil(here):
        path = one(here, name)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return spoil


def flip(name: str, at: float = 0.5, count: int = 1) -> Spoil:
    """Turns all bits of some bytes round."""

    def spoil(here):
        path = one(here, name)
        content = bytearray(path.read_bytes())
        start = int(at * len(content))
        for i in range(start, min(start + count, len(content))):
            content[i] ^= 0xFF
        path.write_bytes(content)

    return spoil


def swap(name: str, old: str | bytes, new: str | bytes, count: int = 1) -> Spoil:
    """Replaces a text that must be there."""
    old, new = (text.encode() if isinstance(text, str) else text for text in (old, new))

    def spoil(here):
        path = one(here, name)
        content = path.read_bytes()
        assert old in content, (path, old)
        path.write_bytes(content.replace(old, new, count))

    return spoil


def append(name: str, text: str | bytes) -> Spoil:
    """Adds to a file's end."""
    more = text.encode() if isinstance(text, str) else text
    return lambda here: one(here, name).write_bytes(one(here, name).read_bytes() + more)


def line(name: str, text: str | bytes, number: int = 1) -> Spoil:
    """Replaces a line of a file, counted from 1."""

    def spoil(here):
        path = one(here, name)
        rows = path.read_bytes().split(b"\n")
        rows[number - 1] = text.encode() if isinstance(text, str) else text
        path.write_bytes(b"\n".join(rows))

    return spoil


def both(*spoils: Spoil) -> Spoil:
    """One after the other."""
    return lambda here: [spoil(here) for spoil in spoils]


def copied(source: str, name: str) -> Spoil:
    """Puts a copy of one file in the place of another."""
    return lambda here: shutil.copyfile(one(here, source), here / name)


_GONE = object()


def edit(name: str, key: str, value: object = _GONE) -> Spoil:
    """Sets a value of a JSON file, or takes it away; the key's words are joined by "/"."""

    def spoil(here):
        path = one(here, name)
        content = json.loads(path.read_text())
        *sections, last = key.split("/")
        place = functools.reduce(lambda at, section: at[section], sections, content)
        if value is _GONE:
            del place[last]
        else:
            place[last] = value
        path.write_text(json.dumps(content))

    return spoil


def arrays(name: str, **changes: object) -> Spoil:
    """Sets arrays of an .npz file, or takes those away that are None; "__" stands for "/"."""

    def spoil(here):
        path = one(here, name)
        with np.load(path) as file:
            found = {key: file[key] for key in file.files}
        for key, value in changes.items():
            key = key.replace("__", "/")
            if value is None:
                del found[key]
            else:
                found[key] = value(found.get(key)) if callable(value) else np.asarray(value)
        np.savez(path, **found)

    return spoil


def saved(name: str, value: object, pickled: bool = False) -> Spoil:
    """Puts an .npy file there."""

    def spoil(here):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        with (here / name).open("wb") as file:
            np.save(file, value, allow_pickle=pickled)

    return spoil


def zipped(name: str, members: Mapping[str, bytes] = types.MappingProxyType({})) -> Spoil:
    """Puts a zip file there."""

    def spoil(here):
        with zipfile.ZipFile(here / name, "w") as file:
            for key, content in members.items():
                file.writestr(key, content)

    return spoil


def packed(name: str, flags: int = 0, method: int = 0) -> Spoil:
    """Says of each member of a zip that it is packed by another method, or has a password."""

    def spoil(here):
        content = (here / name).read_bytes()
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            parts = content.split(mark)
            fields = struct.pack("<HH", flags, method)
            start = at - 4
            parts[1:] = [part[:start] + fields + part[start + 4 :] for part in parts[1:]]
            content = mark.join(parts)
        (here / name).write_bytes(content)

    return spoil


def swollen(name: str, content: bytes) -> Spoil:
    """Puts something else in the place of a zip's largest member."""

    def spoil(here):
        with zipfile.ZipFile(here / name) as file:
            members = {key: file.read(key) for key in file.namelist()}
        members[max(members, key=lambda key: (len(members[key]), key))] = content
        zipped(name, members)(here)

    return spoil


def npy_header(shape: str, dtype: str = "<f4", version: bytes = b"\x01\x00") -> bytes:
    """The head of an .npy file that claims a shape, and no numbers behind it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


@functools.cache
def huge_png(side: int = 30000) -> bytes:
    """A picture of side x side pixels in a few hundred kB, whole and right: one bit each."""
    packer = zlib.compressobj(1)
    row = b"\0" * (1 + side // 8)
    data = b"".join([*(packer.compress(row * 1000) for _ in range(side // 1000)), packer.flush()])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", data)]
    found = b"\x89PNG\r\n\x1a\n"
    for kind, content in (*chunks, (b"IEND", b"")):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        found += struct.pack(">I", len(content)) + kind + content + crc
    return found


@functools.cache
def zip_bomb(member: str, head: bytes = b"", megabytes: int = 6000) -> bytes:
    """A zip of some MB with a member of that many MB of zeros behind its head, sums and all."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = bytes(1 << 20)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = start + packed * megabytes + packer.flush()
    crc = zlib.crc32(head)
    for _ in range(megabytes):
        crc = zlib.crc32(block, crc)
    size, name = len(head) + (megabytes << 20), member.encode()
    wide = struct.pack("<HHQQ", 1, 16, size, len(packed))
    full = 0xFFFFFFFF
    fields = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, crc, full, full, len(name), len(wide))
    local = b"PK\x03\x04" + fields + name + wide + packed
    central = b"PK\x01\x02" + struct.pack("<H", 45) + fields
    central += struct.pack("<HHHII", 0, 0, 0, 0, 0) + name + wide
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + b"PK\x05\x06" + end


def encoded(name: str, form: str, **options) -> Spoil:
    """Puts a small grey picture of one of Pillow's formats there, whatever the name says."""

    def spoil(here):
        stream = io.BytesIO()
        Image.new(options.pop("mode", "RGB"), (48, 48), 90).save(stream, form, **options)
        path = one(here, name)
        path.unlink(missing_ok=True)
        path.write_bytes(stream.getvalue())

    return spoil
