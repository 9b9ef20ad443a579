"""``wsol_jax.evaluate`` of maps on disk: metadata, maps, masks, predictions of anyone."""

import numpy as np
import pytest
from helpers.stored import IDS

from faults.damage import (
    append,
    both,
    closed,
    copied,
    cut,
    fifo,
    flip,
    folder,
    huge_png,
    line,
    link,
    npy_header,
    packed,
    remove,
    saved,
    swap,
    write,
    zip_bomb,
    zipped,
)
from faults.damage import arrays as change
from faults.rows import Row, check, table

pytestmark = pytest.mark.slow
META, MAP = "stored/metadata", "stored/maps/plain.npy"
BOXES, MASKS = f"{META}/localization.txt", "stored/masks"
GIVEN = ["--scoremaps=stored/maps", f"--metadata={META}"]
SKIP = [*GIVEN, "--skip_bad"]
PIXELS = [*GIVEN, f"--masks={MASKS}", "--metrics=pxap"]
OPEN = [*GIVEN, "--masks=stored/open/masks", "--metrics=pxap"]
HUGE = npy_header("(224, 1099511627776)", "<f8")
OK = np.full((224, 224), 0.5, np.float32)
WIDE = np.where(np.eye(224), 1e308, -1e308)  # more than float32 holds


def row(what, spoil, *expected, words=GIVEN, more=(), **options):
    return Row(what, [*words, *more], expected, spoil, **options)


def flags(*more, expected):
    return Row(f"flags {' '.join(more)[:50]}", [*GIVEN, *more], expected.split())


def text(name, what, content, *expected, number=1, **options):
    """A line of a metadata file that is none."""
    return row(
        f"{name}: {what}",
        line(f"{META}/{name}.txt", content, number),
        f"{name}.txt",
        *expected,
        **options,
    )


def a_map(what, spoil, *expected, more=(), **options):
    return row(f"a map that {what}", spoil, *(expected or ("plain.npy",)), more=more, **options)


def mask(what, spoil, *expected, words=PIXELS):
    return row(f"a mask that {what}", spoil, *(expected or ("plain.png",)), words=words)


def predicted(file, what, spoil, *expected):
    words = [*GIVEN, f"--predictions=stored/{file}"]
    return row(f"{file} {what}", spoil, *(expected or (file,)), words=words)


P, T = "stored/p.npz", "stored/p.txt"
FILES = ("image_ids", "class_labels", "image_sizes", "localization")
ROWS = [
    Row("no flags", [], ["--scoremaps"]),
    Row("maps alone", GIVEN[:1], ["--metadata"]),
    flags("--workdir=w", expected="--workdir"),
    flags("--metrics=pxapp", expected="pxapp"),
    flags("--metrics=", expected="--metrics"),
    flags("--metrics=pxap", expected="--masks"),
    flags("--metrics=top1_acc", expected="--predictions"),
    flags("--threshold=1", expected="--threshold"),
    flags("--threshold=nan", expected="--threshold"),
    flags("--threshold=half", expected="threshold"),
    flags("--workers=0", expected="--workers"),
    flags("--out=stored", expected="--out"),
    flags("--out=stored/p.txt/f.json", expected="--out"),
    flags("--out=/proc/f.json", expected="--out"),
    flags("--scoremaps=nowhere", expected="nowhere"),
    flags("--metadata=nowhere", expected="nowhere"),
    flags("--metadata=stored/p.txt", expected="p.txt"),
    flags("--masks=nowhere", expected="nowhere"),
    flags("--predictions=nowhere", expected="nowhere"),
    flags("--predictions=stored", expected="predictions"),
    flags("--predictions=/dev/zero", expected="/dev/zero"),
    *(text(name, "no UTF-8", b"\xff\xfe,1,2") for name in FILES),
    *(text(name, "a MB in a line", "x" * 1_000_000) for name in FILES[1:]),
    *(
        row(f"{name} is a pipe", fifo(f"{META}/{name}.txt"), name)
        for name in ("image_ids", "image_sizes", "localization")
    ),
    *(
        row(f"{name} is a device without end", link(f"{META}/{name}.txt", "/dev/zero"), name)
        for name in FILES[::3]
    ),
    *(row(f"{name} may not be read", closed(f"{META}/{name}.txt"), name) for name in FILES[::2]),
    row("image_ids is a folder", folder(f"{META}/image_ids.txt"), "image_ids"),
    row("localization is a folder", folder(BOXES), "localization"),
    row("image_ids is empty", write(f"{META}/image_ids.txt"), "image_ids"),
    row("localization is empty", write(BOXES), "localization"),
    text("image_ids", "leads out", "../../../etc/passwd", "line 1"),
    text("image_ids", "an absolute path", "/etc/passwd", "line 1"),
    text("image_ids", "a NUL", "a\0b", "line 1"),
    text("image_ids", "twice", "plain", "already"),
    text("image_ids", "an escape code", "\x1b[31mred", "line 1"),
    text("image_ids", "an id of 5000 characters", "x" * 5000, "line 1"),
    text("class_labels", "a word", f"{IDS[0]},cat"),
    text("class_labels", "a negative class", f"{IDS[0]},-1"),
    text("class_labels", "a class of 400 digits", f"{IDS[0]},{'9' * 400}"),
    text("image_sizes", "0 pixels", f"{IDS[0]},0,10"),
    text("image_sizes", "400 digits", f"{IDS[0]},{'9' * 400},10"),
    text("localization", "NaN in its first row", f"{IDS[0]},nan,0,9,9", "numbers"),
    text("localization", "infinity in its first row", f"{IDS[0]},inf,0,9,9", "numbers"),
    text("localization", "a word in its first row", f"{IDS[0]},x,0,9,9"),
    text("localization", "NaN in its second row", f"{IDS[0]},nan,0,9,9", "line 2", number=2),
    text("localization", "1e300", f"{IDS[0]},0,0,1e300,1e300", "line 1"),
    text("localization", "400 digits", f"{IDS[0]},0,0,{'9' * 400},9", "line 1"),
    text("localization", "the wrong way", f"{IDS[0]},9,9,3,3", "line 1"),
    text("localization", "four fields", f"{IDS[0]},1,2,3"),
    row("no image sizes", remove(f"{META}/image_sizes.txt"), "image_sizes"),
    a_map("is missing", remove(MAP)),
    a_map("is empty", write(MAP)),
    a_map("is text", write(MAP, "no map")),
    a_map("is a folder", folder(MAP)),
    a_map("is a pipe", fifo(MAP)),
    a_map("is a device without end", link(MAP, "/dev/zero")),
    a_map("links out", link(MAP, "/etc/passwd")),
    a_map("links to itself", link(MAP, "plain.npy")),
    a_map("may not be read", closed(MAP)),
    a_map("is cut", cut(MAP)),
    a_map("is cut within its header", cut(MAP, 0.0003)),
    a_map("is a pickle", saved(MAP, np.array([{}], object), pickled=True)),
    a_map("is NaN", saved(MAP, OK * np.nan)),
    a_map("is words", saved(MAP, np.full((224, 224), "a"))),
    a_map("is complex", saved(MAP, OK * 1j)),
    a_map("is of another size", saved(MAP, OK[:9])),
    a_map("is out of range", saved(MAP, OK * 9)),
    a_map(
        "overflows float32",
        saved(MAP, WIDE),
        more=["--resize"],
    ),
    a_map(
        "overflows float32 and is normalised",
        saved(MAP, WIDE),
        more=["--normalise"],
    ),
    a_map("has no rows", saved(MAP, np.zeros((0, 5))), more=["--resize"]),
    a_map("has three axes", saved(MAP, np.zeros((5, 5, 5))), more=["--resize"]),
    a_map("has one axis", saved(MAP, np.zeros(5)), more=["--resize"]),
    a_map("claims terabytes", write(MAP, HUGE), more=["--resize"]),
    a_map(
        "claims more than there can be",
        write(MAP, npy_header("(99999999999999999999, 9)")),
        more=["--resize"],
    ),
    a_map("claims less than nothing", write(MAP, npy_header("(-5, -5)")), more=["--resize"]),
    a_map("claims words for a shape", write(MAP, npy_header("('a', 'b')"))),
    a_map("has a header that nests", write(MAP, npy_header("(" * 3000 + ")" * 3000))),
    a_map("has a header that calls", write(MAP, npy_header("(__import__('os').abort(),)"))),
    a_map("is of version 9", write(MAP, npy_header("(224, 224)", version=b"\x09\x00"))),
    a_map("is a zip", copied(P, MAP)),
    a_map(
        "serves two",
        both(remove("stored/maps/plain.npy"), line(f"{META}/image_ids.txt", "plain.png", 2)),
        "plain",
    ),
    row("no map at all", both(remove("stored/maps"), folder("stored/maps")), "none of"),
    row(
        "no map at all, forgiven",
        both(remove("stored/maps"), folder("stored/maps")),
        "none of",
        words=SKIP,
    ),
    row("a pipe among the maps, forgiven", fifo(MAP), "skipped", words=SKIP, status=0),
    mask("is missing, as all are", both(remove(MASKS), folder(MASKS)), "masks"),
    mask("is empty", write(f"{MASKS}/plain.png")),
    mask("is text", write(f"{MASKS}/plain.png", "no mask")),
    mask("is cut", cut(f"{MASKS}/plain.png")),
    mask("is flipped", flip(f"{MASKS}/plain.png", 0.6, 4)),
    row("a mask that is a pipe", fifo(f"{MASKS}/plain.png"), "no mask", words=PIXELS, status=0),
    mask("links out", link(f"{MASKS}/plain.png", "/etc/passwd")),
    mask("is a photo", copied("crf/photo.png", f"{MASKS}/plain.png")),
    mask("is huge", lambda h: write(f"{MASKS}/plain.png", huge_png())(h)),
    mask(
        "is an EPS file",
        write(
            f"{MASKS}/plain.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\nshowpage\n"
        ),
    ),
    mask("may not be read", closed(f"{MASKS}/plain.png")),
    mask("is listed and missing", remove("stored/open/masks/3a.png"), "3a.png", words=OPEN),
    mask("is listed and empty", write("stored/open/masks/3a.png"), "3a.png", words=OPEN),
    mask(
        "is listed and huge",
        lambda h: write("stored/open/masks/3a.png", huge_png())(h),
        "3a.png",
        words=OPEN,
    ),
    mask(
        "is listed and a device",
        link("stored/open/masks/3a.png", "/dev/zero"),
        "3a.png",
        words=OPEN,
    ),
    mask(
        "is listed and leads out",
        append("stored/open/masks/localization.txt", "\nplain,../../p.npz,"),
        "localization.txt",
        words=OPEN,
    ),
    predicted("p.npz", "is empty", write(P)),
    predicted("p.npz", "is cut", cut(P)),
    predicted("p.npz", "is flipped", flip(P, 0.5, 4)),
    predicted("p.npz", "is a pipe", fifo(P)),
    predicted("p.npz", "is text", write(P, "plain,1")),
    predicted("p.npz", "has no ids", change(P, image_ids=None), "p.npz", "image_ids"),
    predicted(
        "p.npz", "has no probabilities", change(P, probabilities=None), "p.npz", "probabilities"
    ),
    predicted("p.npz", "has NaN", change(P, probabilities=lambda p: p * np.nan), "p.npz", "finite"),
    predicted("p.npz", "has one axis", change(P, probabilities=lambda p: p[:, 0])),
    predicted("p.npz", "has ids on two axes", change(P, image_ids=lambda ids: ids[:, None])),
    predicted("p.npz", "has one id for all", change(P, image_ids=np.array("a"))),
    predicted("p.npz", "has no classes", change(P, probabilities=lambda p: p[:, :0])),
    predicted("p.npz", "has words", change(P, probabilities=lambda p: p.astype(str) + "a")),
    predicted("p.npz", "has complex numbers", change(P, probabilities=lambda p: p * 1j), "p.npz"),
    predicted(
        "p.npz",
        "has an id twice",
        change(P, image_ids=lambda ids: np.array([ids[0], *ids[:-1]])),
        "two rows",
    ),
    predicted("p.npz", "has a row too few", change(P, image_ids=lambda ids: ids[1:])),
    predicted("p.npz", "has too few classes", change(P, probabilities=lambda p: p[:, :2])),
    predicted(
        "p.npz",
        "claims terabytes",
        zipped(P, {"image_ids.npy": npy_header("(2,)", "<U5"), "probabilities.npy": HUGE}),
    ),
    predicted(
        "p.npz",
        "unpacks to gigabytes",
        lambda h: write(P, zip_bomb("probabilities.npy", npy_header("(36, 43690666)")))(h),
    ),
    predicted(
        "p.npz",
        "unpacks to gigabytes of ids",
        lambda h: write(P, zip_bomb("image_ids.npy", npy_header("(157286400,)", "<U10")))(h),
    ),
    predicted("p.npz", "has another method of packing", packed(P, method=99)),
    predicted("p.npz", "wants a password", packed(P, flags=1)),
    predicted("p.txt", "is empty", write(T)),
    predicted("p.txt", "is a pipe", fifo(T)),
    predicted("p.txt", "is no UTF-8", line(T, b"\xff,1", 1), "line 1"),
    predicted("p.txt", "has a word for a class", line(T, f"{IDS[0]},cat", 1), "line 1"),
    predicted("p.txt", "has a class of 400 digits", line(T, f"{IDS[0]},{'9' * 400}", 1), "line 1"),
    predicted(
        "p.txt", "has a line of 400 kB of digits", line(T, "1,2" * 133_000 + "x", 1), "line 1"
    ),
    predicted("p.txt", "has a line of 400 kB of commas", line(T, "," * 400_000, 1), "line 1"),
    predicted(
        "p.txt",
        "has a line of 400 kB of classes",
        line(T, f"{IDS[0]}" + ",1" * 200_000 + "x", 1),
        "line 1",
    ),
    predicted("p.txt", "has a class twice", line(T, f"{IDS[0]},1,1", 1), "line 1"),
    predicted("p.txt", "has a row too few", line(T, "", 1), "row"),
    predicted("p.txt", "has an image twice", swap(T, IDS[0], IDS[1]), "line 2"),
    predicted("p.txt", "links to itself", link(T, "p.txt")),
]


@table(ROWS)
def test_bad_maps_are_refused(kit, here, row):
    check(kit, "evaluate", row, here, ["stored", "crf"])
