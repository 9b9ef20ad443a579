"""Array files that claim more than they hold, or hold more than they may: no memory is taken."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from wsol_jax.base import arrays
from wsol_jax.base.arrays import Unreadable, read_npy, read_npz


def header(shape, descr="<f8"):
    buffer = io.BytesIO()
    about = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refused(read, *arguments):
    """What a reader says; it takes less than 20 MB to say so."""
    tracemalloc.start()
    with pytest.raises(Unreadable) as error:
        read(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    return str(error.value)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "?", "<U5"])
def test_reads_what_numpy_writes(tmp_path, dtype, order):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", values=values, scalar=np.float32(3), none=values[:0])
    found = [read_npy(tmp_path / "a.npy"), read_npz(tmp_path / "a.npz")["values"]]
    for array in found:
        np.testing.assert_array_equal(array, values)
        assert array.dtype == values.dtype
    rest = read_npz(tmp_path / "a.npz", ("none", "scalar"))
    assert list(rest) == ["none", "scalar"] and rest["scalar"] == 3 and rest["none"].size == 0


def test_npy_headers_that_lie(tmp_path):
    path = tmp_path / "a.npy"
    for shape, descr, told in (
        ((10**6, 10**6), "<f8", "claims 8000000000000 bytes of numbers, the limit is 1073741824"),
        ((5000, 5000), "<f8", "is truncated: 0 of 200000000 bytes"),
        ((-1, 4), "<f8", "of shape (-1, 4)"),
        ((2,), "|O", "pickled Python objects"),
        ((2,), [("a", "<f8")], "expected numbers"),
        ((10**9,), "<U0", "of shape (1000000000,)"),
    ):
        path.write_bytes(header(shape, descr))
        assert told in refused(read_npy, path)
    path.write_bytes(b"")
    assert refused(read_npy, path) == "is empty"
    path.write_bytes(b"\x93NUMPY\x09\x00" + bytes(99))
    assert "version 9.0" in refused(read_npy, path)


def test_the_check_comes_before_the_numbers(tmp_path):
    (tmp_path / "a.npy").write_bytes(header((10**6, 10**6)))

    def check(found):
        raise Unreadable(f"has shape {found.shape}")

    assert refused(read_npy, tmp_path / "a.npy", check) == "has shape (1000000, 1000000)"


def test_a_small_zip_that_unpacks_to_much(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 1 << 25)
    # Deflated zeros: 40 MB in 40 KB. Two of them pass the limit together alone.
    numbers = header((2_500_000,)) + bytes(20_000_000)
    path = zipped(tmp_path / "a.npz", {"a.npy": numbers, "b.npy": numbers})
    assert path.stat().st_size < 50_000
    assert read_npz(path, ("a",))["a"].size == 2_500_000
    assert "claims 40000000 bytes" in refused(read_npz, path)


def test_archives_that_numpy_would_not_write(tmp_path):
    path = tmp_path / "a.npz"
    values = header((3,)) + bytes(24)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "neither stored nor deflated" in refused(
            read_npz, zipped(path, {"a.npy": values}, method)
        )
    assert "more bytes" in refused(read_npz, zipped(path, {"a.npy": values + b"x"}))
    assert "is truncated" in refused(read_npz, zipped(path, {"a.npy": values[:-1]}))
    assert "has no b" in refused(read_npz, zipped(path, {"a.npy": values}), ("b",))
    assert "no .npy file" in refused(read_npz, zipped(path, {"a.npy": b"text"}))
    path.write_bytes(b"no zip")
    assert "no zip archive" in refused(read_npz, path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = zipped(tmp_path / "a.npz", {"a.npy": header((3,)) + bytes(24)}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(header((3,))) + len(header((3,))) + 5] ^= 1
    path.write_bytes(data)
    assert "CRC" in refused(read_npz, path)


def long_end(place, size):
    """zip64's record of a list of ``size`` bytes, and the locator that says where that is."""
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, 0)
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, place, 1)


def test_an_archive_whose_sizes_have_64_bits(tmp_path):
    """PyTorch writes every .pth so, however small it is."""
    path = zipped(tmp_path / "a.npz", {"a.npy": header((3,)) + bytes(24)})
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    count, size, start = struct.unpack_from("<HII", data, end + 10)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    path.write_bytes(data[:end] + record + locator + data[end:])
    assert zipfile.ZipFile(path).namelist() == ["a.npy"]
    assert read_npz(path)["a"].size == 3


def test_an_archive_of_a_million_members(tmp_path):
    # 46 bytes each, of which zipfile would make an object of 500.
    entry = b"PK\1\2" + bytes(42)
    path = tmp_path / "a.npz"
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 46 * 10**6, 0, 0)
    path.write_bytes(entry * 10**6 + end)
    assert "more members than such a file has" in refused(read_npz, path)
    short = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 46, 0, 0)
    path.write_bytes(entry + long_end(46, 46 * 10**6) + short)  # a list of a 64-bit size
    assert "more members than such a file has" in refused(read_npz, path)
    path.write_bytes(entry + long_end(45, 46) + short)  # said to be elsewhere: readers differ then
    assert "no zip archive" in refused(read_npz, path)
    path.write_bytes(zipped(path, {"a.npy": header((3,)) + bytes(24)}).read_bytes() + b"behind")
    assert read_npz(path)["a"].size == 3


def test_a_member_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 1 << 20)
    path = zipped(tmp_path / "a.zip", {"a": bytes(2 << 20), "b": b"b"})
    with zipfile.ZipFile(path) as archive:
        assert arrays.read_member(archive, "b") == b"b"
        assert "claims 2097152 bytes" in refused(arrays.read_member, archive, "a")
        assert "has no c" in refused(arrays.read_member, archive, "c")
