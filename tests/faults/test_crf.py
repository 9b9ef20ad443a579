"""``wsol_jax.crf``: its image, its probabilities, its settings."""

import numpy as np
import pytest

from faults.damage import (
    closed,
    copied,
    cut,
    fifo,
    folder,
    huge_png,
    link,
    npy_header,
    saved,
    write,
)
from faults.rows import Row, check, table

pytestmark = pytest.mark.slow
PHOTO, P = "crf/photo.png", "crf/p.npy"
WORDS = [PHOTO, P, "--out=o.npy"]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n%%EOF\n"
OK = np.full((24, 32, 3), 1 / 3, np.float32)


def photo(what, spoil, *expected):
    return Row(f"a photo that {what}", WORDS, expected or ("photo.png",), spoil)


def flag(text, *expected, **more):
    name = text.partition("=")[0]
    return Row(text[:60], [*WORDS, text], expected or (name,), **more)


def probs(what, spoil, *expected):
    return Row(f"probabilities: {what}", WORDS, expected or ("p.npy",), spoil)


def holding(what, value, *expected, pickled=False):
    return probs(what, saved(P, value, pickled=pickled), *expected)


ROWS = [
    Row("no flags", [], ["--help"]),
    Row("no out", WORDS[:2], ["--out"]),
    Row("no such photo", ["no.png", *WORDS[1:]], ["no.png"]),
    Row("no such probabilities", [PHOTO, "no.npy", "--out=o.npy"], ["no.npy"]),
    Row("a photo that is a device", ["/dev/zero", *WORDS[1:]], ["/dev/zero"]),
    Row("probabilities that are a device", [PHOTO, "/dev/zero", "--out=o.npy"], ["/dev/zero"]),
    photo("is empty", write(PHOTO)),
    photo("is text", write(PHOTO, "none")),
    photo("is cut", cut(PHOTO)),
    photo("is a folder", folder(PHOTO)),
    photo("is a pipe", fifo(PHOTO)),
    photo("may not be read", closed(PHOTO)),
    photo("is an EPS file", write(PHOTO, EPS)),
    photo("links to itself", link(PHOTO, "photo.png")),
    photo("is huge", lambda here: write(PHOTO, huge_png())(here)),
    photo("is the probabilities", copied(P, PHOTO)),
    probs("empty", write(P)),
    probs("text", write(P, "none")),
    probs("cut", cut(P)),
    probs("a folder", folder(P)),
    probs("a pipe", fifo(P)),
    probs("may not be read", closed(P)),
    probs("the photo", copied(PHOTO, P)),
    probs("claim terabytes", write(P, npy_header("(24, 32, 1099511627776)"))),
    probs("claim more than there can be", write(P, npy_header("(24, 32, 99999999999999999999)"))),
    probs("claim less than nothing", write(P, npy_header("(24, 32, -3)"))),
    probs("a header that nests", write(P, npy_header("(" * 3000 + ")" * 3000))),
    holding("a pickle", np.array([{}], object), pickled=True),
    holding("words", np.full((24, 32, 3), "a")),
    holding("whole numbers", np.ones((24, 32, 3), np.int64)),
    holding("NaN", OK * np.nan, "p.npy", "NaN"),
    holding("infinity", OK * np.inf),
    holding("negative", -OK),
    holding("not 1 in sum", OK * 0.5),
    holding("another size", OK[:9], "p.npy", "shape"),
    holding("the classes first", OK.transpose(2, 0, 1), "p.npy", "last"),
    holding("two axes", OK[..., 0]),
    holding("one axis", OK[:, 0, 0]),
    holding("no axis", np.float32(1)),
    holding("no classes", OK[..., :0]),
    holding("what float32 cannot hold", OK.astype(np.float64) * 1e300),
    flag("--bilateral=0,0,0"),
    flag("--bilateral=1,2"),
    flag("--bilateral=a,b,c"),
    flag("--bilateral=nan,1,1"),
    flag("--bilateral=1,1e-300,1"),
    flag("--bilateral=1e300,80,13"),
    flag("--bilateral=-1,80,13"),
    flag("--spatial=0,0"),
    flag("--spatial=1e39,3"),
    flag("--spatial=inf,3"),
    flag("--spatial=3,1e-38"),
    flag("--iterations=-1"),
    flag("--iterations=1e20", "iterations"),
    flag("--iterations=100000000000000000000"),
    flag("--iterations=2147483648"),
    flag("--method=latice", "lattice"),
    flag("--labels=crf", "--labels"),
    Row("out is a folder", [*WORDS[:2], "--out=crf"], ["--out"]),
    Row("out is below a file", [*WORDS[:2], "--out=crf/p.npy/o.npy"], ["--out"]),
    Row("out is in /proc", [*WORDS[:2], "--out=/proc/o.npy"], ["--out"]),
]


@table(ROWS)
def test_a_bad_crf_is_refused(kit, here, row):
    check(kit, "crf", row, here, ["crf"])
