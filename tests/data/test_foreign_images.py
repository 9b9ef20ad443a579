"""Images of anyone: no foreign program is started, and headers come before pixels."""

import ast
import os
import pathlib
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.data import decode
from wsol_jax.data.index_png import read_grey_png, read_index_png
from wsol_jax.data.sources.cub import CubSource
from wsol_jax.evaluate.stored.layout import BadFile
from wsol_jax.evaluate.stored.masks import MaskFiles, load_masks

ROOT = pathlib.Path(__file__).parents[2]
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 10
%%EndComments
showpage
%%EOF
"""


def cub_mask(path):
    label, box = np.zeros(1, np.int32), np.zeros((1, 4), np.float32)
    return CubSource("test", ("a",), "", (path.name,), label, box, str(path.parent)).mask(0)


READERS = {
    "photo": lambda path: decode.decode_rgb(str(path), "photo"),
    "size": lambda path: decode.image_size(str(path)),
    "index png": read_index_png,
    "index png of known size": lambda path: read_index_png(path, (20, 10)),
    "grey png": read_grey_png,
    "cub mask": cub_mask,
    "plain mask": lambda path: load_masks(MaskFiles((str(path),), (), plain=True)),
    "object's mask": lambda path: load_masks(MaskFiles((str(path),), (), plain=False)),
}
REFUSED = (decode.CorruptImage, UserError, BadFile)


@pytest.fixture
def called(tmp_path, monkeypatch):
    """A Ghostscript on PATH that leaves a trace."""
    trace, program = tmp_path / "called", tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return trace


@pytest.mark.parametrize("reader", READERS)
def test_an_eps_by_another_name_starts_no_ghostscript(tmp_path, called, reader):
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).write_bytes(EPS)
    for name in ("a.jpg", "a.png"):
        with pytest.raises(REFUSED, match="no image that can be read"):
            READERS[reader](tmp_path / name)
    assert not called.exists()


def test_the_trap_would_spring(tmp_path, called):
    from PIL import EpsImagePlugin

    EpsImagePlugin.gs_binary = None  # it remembers the program that it found
    (tmp_path / "a.jpg").write_bytes(EPS)
    try:
        with Image.open(tmp_path / "a.jpg") as image, pytest.raises(OSError):
            image.load()  # this Ghostscript writes no picture
    finally:
        EpsImagePlugin.gs_binary = None
    assert called.exists()


def opens(path):
    """The lines that call Pillow's open; all names that it may go by."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
            yield node.lineno, None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            named = isinstance(of, ast.Name) and of.id in ("Image", "PIL")
            if node.func.attr == "open" and (named or isinstance(of, ast.Attribute)):
                yield node.lineno, [keyword.arg for keyword in node.keywords]


def test_nobody_opens_an_image_without_naming_its_formats():
    found = []
    for folder in ("wsol_jax", "benchmarks", "configs", "launch"):
        for path in (ROOT / folder).rglob("*.py"):
            if "PIL" in path.read_text():
                found += [(path, line, keywords) for line, keywords in opens(path)]
    assert found
    assert not [entry for entry in found if not entry[2] or "formats" not in entry[2]]
    package = {path for path, *_ in found if ROOT / "wsol_jax" in path.parents}
    # The second is copied beside an export, and has nothing of this package.
    opening = ("data/decode.py", "api/run_exported.py")
    assert package == {ROOT / "wsol_jax" / name for name in opening}


def test_the_formats_are_those_of_the_page():
    page = (ROOT / "README.md").read_text()
    assert "JPEG, PNG, WebP, BMP, GIF, TIFF and PPM / PGM" in page
    assert {name.upper() for name in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "ppm")} == set(
        decode.FORMATS
    )


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width, height, before=b""):
    """A whole PNG of grey zeros: 30,000 rows of them are 900 KB."""
    about = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + before
        + chunk(b"IHDR", about)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def huge():
    return png(30_000, 30_000)


@pytest.mark.parametrize("reader", [name for name in READERS if name != "size"])
def test_a_huge_image_is_refused_by_its_header(tmp_path, huge, reader):
    (tmp_path / "a.png").write_bytes(huge)
    start = time.process_time()
    with pytest.raises(REFUSED, match="30000x30000"):
        READERS[reader](tmp_path / "a.png")
    assert time.process_time() - start < 1


def test_a_header_behind_a_false_one_is_refused(tmp_path):
    false = chunk(b"tEXt", struct.pack(">II", 4, 4))
    (tmp_path / "a.png").write_bytes(png(40, 30, before=false))
    for name in ("photo", "index png", "plain mask"):
        with pytest.raises(REFUSED, match="does not begin with its header"):
            READERS[name](tmp_path / "a.png")


def test_a_chunk_that_claims_gigabytes_is_not_allocated(tmp_path):
    data = bytearray(png(16, 12))
    data[33:37] = b"\xff\xff\xff\xf0"  # the length of IDAT, for which OpenCV takes 4 GB
    (tmp_path / "a.png").write_bytes(data)
    for name in ("photo", "object's mask", "plain mask", "index png"):
        start = time.process_time()
        with pytest.raises(REFUSED, match="truncated"):
            READERS[name](tmp_path / "a.png")
        assert time.process_time() - start < 1


def test_pipes_and_names_with_a_nul_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for reader in READERS.values():
        with pytest.raises(REFUSED, match="pipe or device"):
            reader(tmp_path / "a.png")
    with pytest.raises(decode.CorruptImage, match="null"):
        decode.decode_rgb("a\0.jpg", "photo")


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(2 << 30)  # sparse
    with pytest.raises(decode.CorruptImage, match="2147483648 bytes, the limit is"):
        decode.decode_rgb(str(tmp_path / "a.jpg"), "photo")


@pytest.mark.parametrize("kind", decode.FORMATS)
def test_every_format_is_still_read(tmp_path, kind):
    Image.fromarray(np.full((10, 20), 7, np.uint8)).save(tmp_path / "a.png", kind, quality=100)
    np.testing.assert_allclose(READERS["photo"](tmp_path / "a.png"), 7, atol=1)
