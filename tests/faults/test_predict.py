"""``--mode=predict``: its photos, its place, the run that it takes."""

import pytest

from faults.damage import (
    both,
    closed,
    cut,
    edit,
    encoded,
    fifo,
    flip,
    folder,
    huge_png,
    link,
    remove,
    swap,
    write,
)
from faults.places import CONFIG, METRICS, STEP
from faults.rows import EITHER, Row, check, table

pytestmark = pytest.mark.slow


def words(images="photos", out="out", workdir="run"):
    return ["--mode=predict", f"--workdir={workdir}", f"--images={images}", f"--out={out}"]


def row(what, spoil, *expected, given=None, **more):
    return Row(what, words() if given is None else given, expected, spoil, **more)


def alone(what, spoil, *expected, **more):
    """A row whose only photo is none."""
    return row(
        f"one photo that {what}",
        spoil,
        *(expected or ("a.jpg",)),
        given=words("photos/a.jpg"),
        **more,
    )


def metrics(what, spoil, *expected, **more):
    return row(f"metrics.json {what}", spoil, *(expected or ("metrics.json",)), **more)


def config(what, spoil, *expected):
    return row(f"config.json {what}", spoil, *(expected or ("config.json",)))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\nshowpage\n%%EOF\n"
ROWS = [
    row("no workdir", None, "--workdir", given=words()[:1]),
    row("no images", None, "--images", given=words()[:2]),
    row("no out", None, "--out", given=words()[:3]),
    row("a workdir that is not there", None, "nowhere", given=words(workdir="nowhere")),
    row("a workdir that is a file", write("f"), "f", given=words(workdir="f")),
    row("a workdir that is the photos", None, "config.json", given=words(workdir="photos")),
    row("a threshold of 1", None, "threshold", given=[*words(), "--threshold=1"]),
    row("a threshold that is none", None, "threshold", given=[*words(), "--threshold=nan"]),
    row("boxes of another kind", None, "boxes", given=[*words(), "--boxes=some"]),
    row("a score above 1", None, "min_score", given=[*words(), "--min_score=3"]),
    row("a class that is none", None, "zebra", given=[*words(), "--classes=ball,zebra"]),
    row("a server that is none", None, "comp5 or comp6", given=[*words(), "--voc_server=VOC"]),
    row("a server of other classes", None, "aeroplane", given=[*words(), "--voc_server=comp6"]),
    row("images that are not there", None, "nowhere", given=words("nowhere")),
    row("images that are a pipe", fifo("pipe"), "pipe", given=words("pipe")),
    row("images that are a device", None, "/dev/zero", given=words("/dev/zero")),
    row("images that may not be read", closed("photos"), "photos"),
    row("an empty folder", both(remove("photos"), folder("photos")), "no photo"),
    row(
        "a folder that links to itself", both(remove("photos"), link("photos", "photos")), "photos"
    ),
    row(
        "photos that are all text",
        both(*(write(f"photos/{n}", "x") for n in ("a.jpg", "b.png", "c.jpg"))),
        "photos",
    ),
    row("a photo that is a pipe", fifo("photos/a.jpg"), "a.jpg", status=0),
    row("a photo that is a folder", folder("photos/a.jpg"), "predict", status=0),
    row("a photo that is a device", link("photos/a.jpg", "/dev/zero"), "a.jpg", status=0),
    row(
        "a photo with an escape code",
        lambda h: (h / "photos/a.jpg").rename(h / "photos/\x1b[2J.jpg"),
        "predict",
        status=0,
    ),
    row(
        "a broken photo with an escape code", write("photos/\x1b[2J.jpg", "x"), "skipped", status=0
    ),
    row(
        "a broken photo with a line end", write("photos/a\nerror: b.jpg", "x"), "skipped", status=0
    ),
    row("an EPS file among the photos", write("photos/a.jpg", EPS), "a.jpg", status=0),
    row(
        "a huge photo among the photos",
        lambda h: write("photos/b.png", huge_png())(h),
        "b.png",
        status=0,
    ),
    alone("is empty", write("photos/a.jpg")),
    alone("is cut", cut("photos/a.jpg")),
    alone("is an EPS file", write("photos/a.jpg", EPS)),
    alone("is huge", lambda h: write("photos/a.jpg", huge_png())(h)),
    alone("is an icon", encoded("photos/a.jpg", "ICNS"), doubt="README lists no ICNS"),
    row("out is a file", write("out"), "out"),
    row("out is the photos", None, "photos", given=words(out="photos"), status=EITHER),
    row("out may not be written", lambda h: (h / "out").mkdir(mode=0o500), "out"),
    row("out is below a file", write("f"), "f", given=words(out="f/out")),
    row("a place of heat maps that is a file", write("out/heatmaps"), "heatmaps"),
    row("a page that is a folder", folder("out/index.html"), "index.html"),
    row("predictions that are a folder", folder("out/predictions.json"), "predictions.json"),
    metrics("is empty", write(METRICS)),
    metrics("is a list", write(METRICS, "[]")),
    metrics("is a folder", folder(METRICS), status=EITHER),
    metrics("is a pipe", fifo(METRICS), status=EITHER),
    metrics("is no UTF-8", write(METRICS, b"\xff\xfe")),
    metrics("is 100000 deep", write(METRICS, "[" * 100_000)),
    metrics("has a threshold of words", edit(METRICS, "threshold", "high")),
    metrics("has no threshold", edit(METRICS, "threshold", None)),
    metrics("has a threshold of NaN", swap(METRICS, '"threshold": ', '"threshold": NaN, "x": ')),
    metrics("has a threshold of 7", edit(METRICS, "threshold", 7)),
    metrics("has a threshold that is a list", edit(METRICS, "threshold", [0.5])),
    config("is missing", remove(CONFIG)),
    config("is empty", write(CONFIG)),
    config("is a folder", folder(CONFIG)),
    config("is a pipe", fifo(CONFIG)),
    config("is a device without end", link(CONFIG, "/dev/zero")),
    config("is cut", cut(CONFIG)),
    config("may not be read", closed(CONFIG)),
    config("has no model", edit(CONFIG, "config/model")),
    config("has no method", edit(CONFIG, "config/method")),
    config("has a method that is none", edit(CONFIG, "config/method", "griffin"), "griffin"),
    config("has a method that leads out", edit(CONFIG, "config/method", "os.path"), "method"),
    config("has a method that is a number", edit(CONFIG, "config/method", 7)),
    config("has a width of words", edit(CONFIG, "config/model/width", "wide")),
    config("has a width of 1e9", edit(CONFIG, "config/model/width", 1e9), "run"),
    config("has a crop of 0", edit(CONFIG, "config/data/crop", 0), "crop"),
    config("has a crop of 0.5", edit(CONFIG, "config/data/crop", 0.5), "crop"),
    config("has another network", edit(CONFIG, "config/model/width", 0.5), "run"),
    config("has no class names", edit(CONFIG, "class_names")),
    config("has class names that are a number", edit(CONFIG, "class_names", 3)),
    config("has class names of numbers", edit(CONFIG, "class_names", [1, 2, 3])),
    config("has a class too many", edit(CONFIG, "class_names", list("abcd")), "run"),
    config("has no classes", edit(CONFIG, "class_names", []), "run"),
    config("has one class twice", edit(CONFIG, "class_names", ["ball", "ball", "bar"])),
    config("has a section that is a list", edit(CONFIG, "config/eval", [])),
    config("has stages that are a number", edit(CONFIG, "config/stages", 5)),
    config("has a stage that leads out", edit(CONFIG, "config/stages", ["../../x"])),
    config("has a batch of 1e20", edit(CONFIG, "config/eval/batch_size", 10**20), "batch_size"),
    row("no checkpoint", remove("run/checkpoints"), "checkpoint"),
    row(
        "checkpoints that are a file",
        both(remove("run/checkpoints"), write("run/checkpoints")),
        "checkpoint",
    ),
    row("checkpoints that may not be read", closed("run/checkpoints"), "checkpoint"),
    row("a checkpoint without a state", remove(f"{STEP}/state"), "checkpoints/5"),
    row("a checkpoint without its data", remove(f"{STEP}/data"), "checkpoints/5"),
    row("a checkpoint without its tree", remove(f"{STEP}/state/_METADATA"), "checkpoints/5"),
    row("a checkpoint whose tree is cut", cut(f"{STEP}/state/_METADATA"), "checkpoints/5"),
    row("a checkpoint without a shard", remove(f"{STEP}/state/**/d/*"), "checkpoints/5"),
    row(
        "a checkpoint whose shard is cut",
        cut(f"{STEP}/state/**/d/*"),
        "checkpoints/5",
        status=EITHER,
    ),
    row("a checkpoint whose shard is empty", cut(f"{STEP}/state/**/d/*", 0), "checkpoints/5"),
    row(
        "a checkpoint with a flipped byte",
        flip(f"{STEP}/state/**/d/*"),
        "checkpoints/5",
        status=EITHER,
    ),
    row(
        "a checkpoint with a byte flipped near its end",
        flip(f"{STEP}/state/**/d/*", 0.9),
        "checkpoints/5",
        status=EITHER,
    ),
    row(
        "a checkpoint whose manifest is empty",
        write(f"{STEP}/state/manifest.ocdbt"),
        "checkpoints/5",
    ),
    row(
        "a checkpoint whose manifest is flipped",
        flip(f"{STEP}/state/manifest.ocdbt"),
        "checkpoints/5",
    ),
    row("a checkpoint that may not be read", closed(STEP), "checkpoints/5"),
    row(
        "a newest checkpoint that is an empty folder", folder("run/checkpoints/9"), "checkpoints/9"
    ),
    row(
        "a newest checkpoint that is a file",
        write("run/checkpoints/9"),
        "checkpoints/9",
        status=EITHER,
    ),
    row(
        "a newest checkpoint of a number without end",
        folder(f"run/checkpoints/{'9' * 200}"),
        "checkpoints",
    ),
]


@table(ROWS)
def test_a_bad_prediction_is_refused(kit, here, row):
    check(kit, "main", row, here, ["run", "photos"])
