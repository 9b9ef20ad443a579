"""Training from a weight file that is none."""

import h5py
import numpy as np
import pytest

from faults.damage import arrays as change
from faults.damage import (
    closed,
    copied,
    cut,
    fifo,
    flip,
    folder,
    link,
    npy_header,
    packed,
    remove,
    write,
    zip_bomb,
    zipped,
)
from faults.kit import pretrained
from faults.rows import EITHER, Row, check, table

pytestmark = pytest.mark.slow
FILES = ("vgg.npz", "vgg.h5", "vgg.safetensors")
KERNEL = "block1_conv1__kernel"


def row(file, what, spoil, *expected, **more):
    path = f"weights/{file}"
    return Row(
        f"{file} {what}", pretrained(path), expected or (file,), spoil and spoil(path), **more
    )


def other(ending, content):
    """A row of a file of some ending and content."""
    name = f"other.{ending}"
    what = "text" if content == b"no weights" else f"{len(content)} bytes"
    return row(name, f"is {what}", lambda path: write(path, content))


def h5(edit):
    """Changes an .h5 file by a function of its root."""

    def spoil(path):
        def inner(here):
            with h5py.File(here / path, "a") as file:
                edit(file)

        return inner

    return spoil


def h5_array(value, **options):
    """Puts another array in the place of a kernel."""

    def edit(file):
        name = "block1_conv1/block1_conv1/kernel:0"
        del file[name]
        file.create_dataset(name, data=value, **options)

    return h5(edit)


def h5_claim(file):
    """An array of 16 TB, of which nothing is on the disk."""
    name = "block1_conv1/block1_conv1/kernel:0"
    del file[name]
    file.create_dataset(name, shape=(1 << 21, 1 << 21), dtype="f4", chunks=(1024, 1024))


def h5_outside(file):
    name = "block1_conv1/block1_conv1/kernel:0"
    del file[name]
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def h5_loop(file):
    file["block1_conv1/again"] = h5py.SoftLink("/block1_conv1/again")


def npz(**changes):
    return lambda path: change(path, **changes)


def head(text):
    """Puts another header before a .safetensors file's numbers."""
    return lambda path: write(path, len(text).to_bytes(8, "little") + text.encode() + bytes(64))


SAFE = '{"features.0.weight":{"dtype":"%s","shape":[%s],"data_offsets":[0,%s]}}'
HUGE = npy_header("(1099511627776, 4)")
ROWS = [
    *(row(name, "is missing", remove, name, "exist") for name in FILES),
    *(row(name, "is a folder", folder, name, "folder") for name in FILES),
    *(row(name, "is empty", write) for name in FILES),
    *(row(name, "is a pipe", fifo) for name in FILES),
    *(row(name, "may not be read", closed) for name in FILES),
    *(row(name, "is cut", cut) for name in FILES),
    *(row(name, "is cut to a tenth", lambda path: cut(path, 0.1)) for name in FILES),
    *(
        row(name, "links to itself", lambda path: link(path, path.rpartition("/")[2]))
        for name in FILES
    ),
    *(row(name, "is a device without end", lambda path: link(path, "/dev/zero")) for name in FILES),
    *(
        row(name, "is noise", lambda path: write(path, np.random.default_rng(0).bytes(20_000)))
        for name in FILES
    ),
    *(
        row("vgg.npz", f"is flipped at {at}", lambda path, at=at: flip(path, at, 8))
        for at in (0.2, 0.5, 0.99)
    ),
    *(
        # Its numbers have no checksum: another number is no fault of the reader's.
        row("vgg.h5", f"is flipped at {at}", lambda p, at=at: flip(p, at, 64), "", status=EITHER)
        for at in (0.001, 0.02, 0.06, 0.1)
    ),
    *(
        row(file, f"is flipped at {at}", lambda p, at=at: flip(p, at, 8), "", status=status)
        for file, at, status in (
            ("vgg.safetensors", 0.0001, None),
            ("vgg.safetensors", 0.01, None),
            ("vgg.safetensors", 0.05, EITHER),
        )
    ),
    *(
        other(ending, b"no weights")
        for ending in ("npz", "h5", "hdf5", "keras", "safetensors", "pth", "pt", "txt")
    ),
    other("bin", bytes(100)),
    other("keras", b"PK\x05\x06" + bytes(18)),
    other("safetensors", bytes(8)),
    row("vgg.npz", "holds words", npz(**{KERNEL: np.full((3, 3, 3, 8), "a")})),
    row("vgg.npz", "holds complex numbers", npz(**{KERNEL: np.ones((3, 3, 3, 8), complex)})),
    row("vgg.npz", "holds dates", npz(**{KERNEL: np.zeros((3, 3, 3, 8), "M8[s]")})),
    row("vgg.npz", "holds records", npz(**{KERNEL: np.zeros((3, 3, 3, 8), "f4,i4")})),
    row(
        "vgg.npz",
        "holds NaN",
        npz(**{KERNEL: np.full((3, 3, 3, 8), np.nan, np.float32)}),
        "vgg.npz",
        "finite",
    ),
    row("vgg.npz", "holds what float32 cannot", npz(**{KERNEL: np.full((3, 3, 3, 8), 1e300)})),
    row("vgg.npz", "has a name too many", npz(griffin__kernel=np.zeros(3)), "vgg.npz", "griffin"),
    row("vgg.npz", "has a name too few", npz(**{KERNEL: None}), "vgg.npz", "missing"),
    row("vgg.npz", "has another shape", npz(**{KERNEL: np.zeros((3, 3))}), "vgg.npz", "(3, 3)"),
    row("vgg.npz", "has a name with an escape code", npz(**{"\x1b[31m__kernel": np.zeros(3)})),
    row("vgg.npz", "claims terabytes", lambda p: zipped(p, {"block1_conv1/kernel.npy": HUGE})),
    row("vgg.npz", "has a member that is no array", lambda p: zipped(p, {"a.txt": b"hello"})),
    row(
        "vgg.npz",
        "unpacks to gigabytes",
        lambda p: lambda h: write(p, zip_bomb("a/kernel.npy", npy_header("(1572864000,)")))(h),
    ),
    row("vgg.npz", "has another method of packing", lambda p: packed(p, method=99)),
    row("vgg.npz", "wants a password", lambda p: packed(p, flags=1)),
    row("vgg.h5", "holds words", h5_array(np.full((3, 3, 3, 8), b"a"))),
    row("vgg.h5", "holds strings of any length", h5_array(["a", "b"], dtype=h5py.string_dtype())),
    row("vgg.h5", "holds no numbers", h5_array(h5py.Empty("f4"))),
    row("vgg.h5", "claims terabytes", h5(h5_claim)),
    row("vgg.h5", "links out", h5(h5_outside)),
    row("vgg.h5", "links in a loop", h5(h5_loop), status=EITHER),
    row("vgg.h5", "is a safetensors file", lambda p: copied("weights/vgg.safetensors", p)),
    row("vgg.safetensors", "is an h5 file", lambda p: copied("weights/vgg.h5", p)),
    row("vgg.npz", "is an h5 file", lambda p: copied("weights/vgg.h5", p)),
    row("vgg.safetensors", "has 8 bits", head(SAFE % ("F8_E4M3", "64", "64"))),
    row("vgg.safetensors", "has 16 bits of the brain", head(SAFE % ("BF16", "32", "64"))),
    row("vgg.safetensors", "has a type that is none", head(SAFE % ("F99", "64", "64"))),
    row(
        "vgg.safetensors",
        "claims terabytes",
        head(SAFE % ("F32", "1099511627776", "4398046511104")),
    ),
    row(
        "vgg.safetensors",
        "has a header of gigabytes",
        lambda p: write(p, (1 << 40).to_bytes(8, "little")),
    ),
    row("vgg.safetensors", "has a header that is no JSON", head("{")),
    row("vgg.safetensors", "has a header that is a list", head("[]")),
    row("net.keras", "is an npz file", lambda p: copied("weights/vgg.npz", p)),
    row(
        "net.keras", "holds an h5 that is none", lambda p: zipped(p, {"model.weights.h5": b"none"})
    ),
    row("net.keras", "is an empty zip", zipped),
]


@table(ROWS)
def test_a_training_from_bad_weights_is_refused(kit, here, row):
    check(kit, "main", row, here, ["data", "weights"])
