"""Weight files of anyone: one sentence, no other file is read, no memory beyond the limit."""

import io
import json
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.networks.backbones.table import BACKBONES
from wsol_jax.networks.weights import files, names

LIMIT = "the limit is 1073741824"


def refused(path):
    """What the reader says in one line; it takes less than 50 MB to say so."""
    tracemalloc.start()
    with pytest.raises(UserError) as error:
        files.read_arrays(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert str(error.value).startswith(str(path))
    return str(error.value)


def h5(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


@pytest.mark.parametrize("chunks", [None, (1024, 1024)])
def test_a_dataset_that_claims_terabytes(tmp_path, chunks):
    def fill(file):  # nothing is stored of it
        file.create_dataset("conv/kernel", (10**6, 10**6), "f4", chunks=chunks)

    assert LIMIT in refused(h5(tmp_path / "w.h5", fill))


def test_a_chunk_larger_than_its_dataset(tmp_path):
    def fill(file):
        data = file.create_dataset(
            "conv/kernel", (4,), "f8", maxshape=(None,), chunks=(1 << 28,), compression="gzip"
        )
        assert data.shape == (4,)

    assert LIMIT in refused(h5(tmp_path / "w.h5", fill))


def test_many_datasets_count_together(tmp_path):
    def fill(file):
        for number in range(3):
            file.create_dataset(f"conv{number}/kernel", (100, 10**6), "f4")

    assert "1200000000 bytes" in refused(h5(tmp_path / "w.h5", fill))


@pytest.mark.parametrize("kind", ["external link", "external storage", "virtual"])
def test_other_files_are_not_read(tmp_path, kind):
    h5(tmp_path / "secret.h5", lambda file: file.create_dataset("conv/kernel", data=[1.0, 2.0]))
    (tmp_path / "secret.bin").write_bytes(np.arange(2.0).tobytes())

    def fill(file):
        if kind == "external link":
            file["conv"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "conv")
        elif kind == "external storage":
            where = [(str(tmp_path / "secret.bin"), 0, 16)]
            file.create_dataset("conv/kernel", (2,), "f8", external=where)
        else:
            layout = h5py.VirtualLayout((2,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "conv/kernel", (2,))
            file.create_virtual_dataset("conv/kernel", layout)

    path = h5(tmp_path / "w.h5", fill)
    if kind == "external link":
        assert files.read_arrays(path) == {}
    else:
        assert "conv/kernel points to another file" in refused(path)


@pytest.mark.parametrize(
    "data, what",
    [
        (np.array(["a", "b"], "S1"), "|S1"),
        (np.zeros(2, [("a", "f4")]), "expected numbers"),
        (np.zeros(2, complex), "complex128"),
        (h5py.Empty("f4"), "expected numbers"),
    ],
)
def test_no_numbers_in_an_h5(tmp_path, data, what):
    def fill(file):
        file.create_dataset("conv/kernel", data=data)

    told = refused(h5(tmp_path / "w.h5", fill))
    assert "conv/kernel" in told and what in told


def test_keras_3_with_groups_and_names_of_other_kinds(tmp_path):
    def fill(file):
        group = file.create_group("layers/conv/vars")
        group.attrs["name"] = "conv"
        group.create_group("0")

    assert "groups where arrays are expected" in refused(h5(tmp_path / "w.h5", fill))
    path = h5(tmp_path / "w.h5", fill)
    with h5py.File(path, "a") as file:
        del file["layers/conv/vars/0"]
        file["layers/conv/vars/zero"] = [1.0]
    assert "not a readable HDF5 file" in refused(path)


def test_npz_of_texts_and_bombs(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, **{"conv/kernel": np.array(["text"])})
    assert "conv/kernel holds <U4, expected numbers" in refused(path)
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**3)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conv/kernel.npy", header.getvalue())
    assert f"claims 4000000000 bytes of numbers, {LIMIT}" in refused(path)


def test_a_keras_archive_that_unpacks_to_much(tmp_path):
    for name, claimed, told in (("a.keras", 2 << 30, LIMIT), ("b.keras", 8, "damaged")):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model.weights.h5", bytes(4096))
        data = bytearray(path.read_bytes())
        at = data.index(b"PK\x01\x02") + 24  # the size in the archive's own list
        data[at : at + 4] = struct.pack("<I", claimed)
        path.write_bytes(data)
        assert told in refused(path) or "not a .keras archive" in refused(path)
    with zipfile.ZipFile(tmp_path / "c.keras", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("model.weights.h5", bytes(4096))
    assert "neither stored nor deflated" in refused(tmp_path / "c.keras")


def safetensors(path, header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


@pytest.mark.parametrize("dtype, size", [("F8_E4M3", 1), ("F8_E5M2", 1), ("BF16", 2), ("F4", 1)])
def test_safetensors_of_numbers_that_numpy_lacks(tmp_path, dtype, size):
    about = {"conv.weight": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]}}
    told = refused(safetensors(tmp_path / "w.safetensors", about, bytes(2 * size)))
    assert any(words in told for words in ("NumPy cannot read", "not a readable", "bfloat16"))


def test_safetensors_headers_that_lie(tmp_path):
    path = tmp_path / "w.safetensors"
    about = {"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}
    assert "not a readable safetensors file" in refused(safetensors(path, about, bytes(8)))
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    assert "its header is cut off" in refused(path)
    path.write_bytes(b"abc")
    assert "its header is cut off" in refused(path)
    assert "not a readable safetensors file" in refused(safetensors(path, b"[" * 100_000))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 2) + b"{}")
        file.truncate(2 << 30)  # sparse
    assert LIMIT in refused(path)


def test_pth_archives_that_unpack_to_much(tmp_path):
    path = tmp_path / "w.pth"
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("archive/data/0", bytes(1 << 20))
        assert "archive/data/0 is compressed" in refused(path)
    with open(path, "wb") as file:
        file.write(b"\x80\x02")
        file.truncate(2 << 30)  # sparse, and no archive
    assert LIMIT in refused(path)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4), (3, 3, 0, 4)])
@pytest.mark.parametrize("layout", ["keras", "torchvision"])
def test_arrays_of_any_shape_find_a_place_or_none(shape, layout):
    published = BACKBONES["vgg16"].published()
    layers = published.torch if layout == "torchvision" else ("block5_conv3", "fc1", "fc2")
    mark, kinds = ("/", ("kernel", "bias")) if layout == "keras" else (".", ("weight", "bias"))
    arrays = {f"{name}{mark}{kind}": np.zeros(shape) for name in layers for kind in kinds}
    known, unknown, dropped = names.targets(arrays, published, layout)
    assert len(known) + len(unknown) + len(dropped) == len(arrays)
