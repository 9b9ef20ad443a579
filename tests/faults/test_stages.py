"""Runs in stages: their fields, their labels, and inputs that have changed since."""

import io

import numpy as np
import pytest
from PIL import Image

from faults.damage import (
    both,
    closed,
    copied,
    cut,
    edit,
    fifo,
    flip,
    folder,
    link,
    remove,
    swap,
    write,
)
from faults.kit import staged
from faults.rows import EITHER, Row, check, table

pytestmark = pytest.mark.slow
CUE, SUMMARY = "staged/cues/07.png", "staged/cues/cues.json"
NEW = both(remove("staged/segment"), remove("staged/metrics.json"))  # the segmenter is to come


def field(name, value, *expected, workdir="w"):
    words = staged(f"--config.{name}={value}", workdir=workdir)
    return Row(f"{name}={value}", words, expected or (name.rpartition(".")[2],))


def row(what, spoil, *expected, words=None, **more):
    return Row(what, words or staged(), expected, spoil, **more)


def cue(what, spoil, *expected, **more):
    """A label that is to be trained on."""
    words = staged("--stages=segment")
    return row(
        f"a label that {what}", both(NEW, spoil), *(expected or ("07.png",)), words=words, **more
    )


def picture(mode, size=(6, 6), value=0):
    stream = io.BytesIO()
    Image.new(mode, size, value).save(stream, "PNG")
    return write(CUE, stream.getvalue())


def summary(what, spoil, **more):
    words = staged("--stages=segment")
    return row(f"cues.json {what}", both(NEW, spoil), "cues", words=words, **more)


def inputs(stage, what, spoil, *expected):
    path = f"staged/{stage}/inputs.json"
    return row(f"{stage}/inputs.json {what}", spoil(path), *(expected or (stage,)))


ROWS = [
    field("cues.size", 0),
    field("cues.size", -6),
    field("cues.size", 10**9),
    field("cues.foreground", 7),
    field("cues.foreground", "nan"),
    field("cues.background", -1),
    field("cues.layer", "nowhere"),
    field("stage.segment.train.epochs", "inf"),
    field("stage.segment.train.epochs", -1),
    field("stage.segment.train.batch_size", 0),
    field("stage.segment.sec.channels", 0),
    field("stage.segment.sec.dilation", 0),
    field("stage.segment.sec.dilation", -3),
    field("stage.segment.sec.dropout", 2),
    field("stage.segment.sec.iterations", -1),
    field("stage.segment.sec.iterations", 10**20),
    field("stage.segment.sec.floor", "nan"),
    field("stage.segment.sec.seed", "nan"),
    field("stage.segment.sec.bilateral", "(10.0, 0.0, 13.0)"),
    field("stage.segment.data.crop", 0),
    field("stage.segment.model.output_stride", 5),
    field("stage.segment.labels", "cues"),
    field("stage.segment.labels", "cues=griffin"),
    field("stage.segment.labels", "cues=cues/griffin"),
    field("stage.segment.start", "griffin"),
    field("stage.griffin.train.epochs", 1, "griffin"),
    field("stages", "('segment','first','cues','evaluate')", "stage"),
    field("stages", "('first','first','evaluate')", "stage"),
    field("stages", "('../x','evaluate')", "stage"),
    field("eval.stages", "('cues',)", "stages"),
    field("eval.crf.clip", "nan"),
    field("seed", 5, "seed", workdir="staged"),
    field("cues.foreground", 0.6, "cues", workdir="staged"),
    row("a stage that is none", None, "griffin", words=staged("--stages=griffin")),
    row("a stage before its input", None, "first", words=staged("--stages=cues", workdir="w")),
    row(
        "a segmenter without cues", remove("staged/cues"), "cues", words=staged("--stages=segment")
    ),
    row(
        "an evaluation without a segmenter",
        remove("staged/segment"),
        "segment",
        words=staged("--stages=evaluate"),
    ),
    row("a stage in the folder of a file", write("w/first"), "first", words=staged(workdir="w")),
    row(
        "labels in the folder of a file",
        both(NEW, remove("staged/cues"), write("staged/cues")),
        "cues",
    ),
    row(
        "labels that may not be written",
        both(NEW, remove(CUE), remove(SUMMARY), closed("staged/cues", 0o500)),
        "cues",
    ),
    row(
        "foreign files in the place of labels",
        write("w/cues/07.png", "not ours"),
        "cues",
        words=staged(workdir="w"),
        doubt="after the first stage, or at the start",
    ),
    row(
        "a foreign config.json in a stage",
        write("w/first/config.json", '{"name": "x"}'),
        "first",
        words=staged(workdir="w"),
    ),
    cue("is missing", remove(CUE)),
    cue("is empty", write(CUE)),
    cue("is text", write(CUE, "none")),
    cue("is cut", cut(CUE)),
    cue("is flipped", flip(CUE, 0.9, 3)),
    cue("is a folder", folder(CUE)),
    cue("is a pipe", fifo(CUE)),
    cue("is a device without end", link(CUE, "/dev/zero")),
    cue("may not be read", closed(CUE)),
    cue("is another's", copied("staged/cues/03.png", CUE), "cues"),
    cue("is a photo", copied("voc/JPEGImages/03.jpg", CUE)),
    cue(
        "is an EPS file", write(CUE, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\nshowpage\n")
    ),
    cue("is of another size", picture("P", (9, 9))),
    cue("is in colours", picture("RGB", value=(9, 9, 9))),
    cue("has a class that is none", picture("P", value=99), "cues"),
    summary("is missing", remove(SUMMARY)),
    summary("is empty", write(SUMMARY)),
    summary("is a list", write(SUMMARY, "[]")),
    summary("is a folder", folder(SUMMARY)),
    summary("is a pipe", fifo(SUMMARY), status=EITHER),
    summary("has another hash", edit(SUMMARY, "sha256", "0" * 64)),
    summary("has a hash that is a number", edit(SUMMARY, "sha256", 5)),
    summary("has products of another shape", edit(SUMMARY, "products", []), status=EITHER),
    summary(
        "has a product that is none",
        edit(SUMMARY, "products", {"cues": {"kind": "griffin"}}),
        status=EITHER,
    ),
    summary("has images that are words", edit(SUMMARY, "images", "many"), status=EITHER),
    *(inputs(stage, "is empty", write) for stage in ("cues", "segment")),
    *(inputs(stage, "is a list", lambda path: write(path, "[]")) for stage in ("cues", "segment")),
    *(inputs(stage, "is a pipe", fifo) for stage in ("cues", "segment")),
    *(inputs(stage, "is a folder", folder) for stage in ("cues", "segment")),
    *(
        inputs(stage, "has a hash that is a number", lambda p, k=k: edit(p, k, 5), stage)
        for stage, k in (("cues", "maps"), ("segment", "cues"))
    ),
    inputs("cues", "is of other networks", lambda path: edit(path, "maps", "0" * 64), "cues"),
    inputs("segment", "is of other labels", lambda path: edit(path, "cues", "0" * 64), "segment"),
    row("another label in VOC", swap("voc/Annotations/03.xml", "bird", "cow"), "cues"),
    row(
        "a first network that is damaged",
        flip("staged/first/checkpoints/2/state/**/d/*"),
        "checkpoints/2",
        words=staged("--stages=evaluate"),
    ),
    row(
        "a segmenter that is damaged",
        flip("staged/segment/checkpoints/2/state/**/d/*"),
        "checkpoints/2",
        status=EITHER,  # the file may hold what a later node of its tree replaced
    ),
    row(
        "a segmenter that is cut",
        cut("staged/segment/checkpoints/2/state/**/d/*"),
        "checkpoints/2",
        status=EITHER,
    ),
    row(
        "a stage's metrics that are no JSON",
        write("staged/first/metrics.json", "none"),
        "metrics.json",
        status=EITHER,
    ),
    row(
        "a stage's metrics that are a list",
        write("staged/first/metrics.json", "[]"),
        "metrics.json",
        status=EITHER,
    ),
    row(
        "a stage's metrics of words",
        edit("staged/first/metrics.json", "train_seconds", "long"),
        "metrics.json",
    ),
    row(
        "a stage's metrics that are a pipe",
        fifo("staged/first/metrics.json"),
        "metrics.json",
        status=EITHER,
    ),
    row("a stage's config.json that is cut", cut("staged/first/config.json"), "config.json"),
    row(
        "a stage's config.json of another seed",
        edit("staged/first/config.json", "config/seed", 9),
        "seed",
    ),
    row("the run's config.json that is a list", write("staged/config.json", "[]"), "config.json"),
    row(
        "a mask that is none",
        write("voc/SegmentationClass/12.png", "none"),
        "12.png",
        words=["--mode=evaluate", "--workdir=staged"],
    ),
    row(
        "a mask that is a pipe",
        fifo("voc/SegmentationClass/12.png"),
        "12.png",
        words=["--mode=evaluate", "--workdir=staged"],
    ),
    row(
        "a mask of another size",
        lambda here: Image.fromarray(np.zeros((5, 5), np.uint8)).save(
            here / "voc/SegmentationClass/12.png"
        ),
        "12.png",
        words=["--mode=evaluate", "--workdir=staged"],
    ),
    row(
        "a mask of a class that is none",
        lambda here: Image.fromarray(np.full((40, 48), 77, np.uint8)).save(
            here / "voc/SegmentationClass/12.png"
        ),
        "12.png",
        words=["--mode=evaluate", "--workdir=staged"],
    ),
    row(
        "a mask that is an EPS file",
        write(
            "voc/SegmentationClass/12.png",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 40\nshowpage\n",
        ),
        "12.png",
        words=["--mode=evaluate", "--workdir=staged"],
    ),
]


@table(ROWS)
def test_a_bad_run_in_stages_is_refused(kit, here, row):
    check(kit, "main", row, here, ["voc", "staged"])
