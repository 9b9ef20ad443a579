"""Folders of runs: foreign files, damage, and what has changed since."""

import os

import cv2
import numpy as np
import pytest

from faults.damage import (
    both,
    closed,
    cut,
    edit,
    fifo,
    folder,
    line,
    link,
    remove,
    swap,
    write,
)
from faults.kit import train
from faults.places import CONFIG, HISTORY, METRICS, STEP
from faults.rows import Row, check, table

pytestmark = pytest.mark.slow
AGAIN = train(workdir="run")
FURTHER = train(workdir="run", epochs=3)
SCORE = ["--mode=evaluate", "--workdir=run"]
DESCRIBE = train("--mode=describe")
PHOTO = "data/train/ball/00.jpg"


def row(what, words, spoil, *expected, **more):
    return Row(what, words, expected, spoil, **more)


def foreign(name, content="not ours\n"):
    """A file of something else in the folder of a new run."""
    return row(f"a foreign {name}", train(), write(f"w/{name}", content), "w")


def repainted(here):
    cv2.imwrite(str(here / PHOTO), np.full((48, 48, 3), 9, np.uint8))


def swapped(here):
    """Two photos of one class change their names, times and all."""
    a, b = here / PHOTO, here / "data/train/ball/03.jpg"
    times = [(p.stat().st_atime_ns, p.stat().st_mtime_ns) for p in (a, b)]
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second), b.write_bytes(first)
    for path, time in zip((a, b), times, strict=True):
        os.utime(path, ns=time)


def unfinished(*more):
    """A run that is to go on from its step 4."""
    return both(remove(STEP), *more)


ROWS = [
    *(
        foreign(name)
        for name in ("history.jsonl", "report.html", "metrics.json", "report_data.npz")
    ),
    foreign("config.json", '{"name": "another program"}'),
    row("a foreign config.json of a list", train(), write("w/config.json", "[]"), "config.json"),
    foreign("checkpoints/5/weights.bin"),
    foreign("scores/test.npz"),
    foreign("tensorboard/events.out.tfevents.1"),
    row("a workdir that is a file", train(), write("w"), "w"),
    row("a workdir below a file", train(workdir="f/w"), write("f"), "w"),
    row(
        "a workdir that may not be written",
        train(),
        lambda here: (here / "w").mkdir(mode=0o500),
        "w",
    ),
    row("a workdir that links to nothing", train(), link("w", "nowhere/else"), "w"),
    row("a workdir that links to itself", train(), link("w", "w"), "w"),
    row("a workdir in /proc", train(workdir="/proc/w"), None, "/proc/w"),
    row("a workdir that is a pipe", train(), fifo("w"), "w"),
    row("checkpoints that are a file", train(), write("w/checkpoints"), "checkpoints"),
    row("a history that is a folder", train(), folder("w/history.jsonl"), "history.jsonl"),
    row("a history that is a pipe", train(), fifo("w/history.jsonl"), "history.jsonl"),
    row("another seed", train("--config.seed=7", workdir="run"), None, "seed"),
    row(
        "another width",
        train("--config.model.head_channels=8", workdir="run"),
        None,
        "head_channels",
    ),
    row("another batch", train("--config.train.batch_size=4", workdir="run"), None, "batch_size"),
    row(
        "a photo less",
        AGAIN,
        unfinished(remove(PHOTO), write("data/boxes.csv", "image,x0,y0,x1,y1\n")),
        "train",
    ),
    row(
        "a photo more",
        AGAIN,
        unfinished(lambda h: (h / "data/train/ball/99.jpg").write_bytes((h / PHOTO).read_bytes())),
        "train",
    ),
    row("a photo painted over", AGAIN, unfinished(repainted), "00.jpg"),
    row(
        "two photos swapped, times and all",
        AGAIN,
        unfinished(swapped),
        "train",
        doubt="sizes and times alone do not tell, if those are equal",
    ),
    row(
        "a photo renamed",
        AGAIN,
        unfinished(
            lambda h: (h / PHOTO).rename(h / "data/train/ball/98.jpg"),
            write("data/boxes.csv", "image,x0,y0,x1,y1\n"),
        ),
        "train",
        doubt="the words",
    ),
    row(
        "a class renamed",
        AGAIN,
        both(
            *(
                lambda h, n=n: (h / f"data/{n}/ball").rename(h / f"data/{n}/globe")
                for n in ("train", "tune", "test")
            ),
            write("data/boxes.csv", "image,x0,y0,x1,y1\n"),
        ),
        "labels",
    ),
    row("no config.json beside checkpoints", AGAIN, remove(CONFIG), "config.json"),
    row("a config.json of another seed", AGAIN, edit(CONFIG, "config/seed", 3), "seed"),
    row(
        "a config.json of another run, scored",
        SCORE,
        edit(CONFIG, "config/seed", 3),
        "config.json",
        doubt="the checkpoint's hash tells",
    ),
    row(
        "a config.json of another momentum, scored",
        SCORE,
        edit(CONFIG, "config/optimizer/momentum", 0.5),
        "config.json",
        doubt="the checkpoint's hash tells",
    ),
    row("a config.json that is cut", AGAIN, cut(CONFIG), "config.json"),
    row("a config.json that is a folder", AGAIN, folder(CONFIG), "config.json"),
    row("a config.json that is a pipe", AGAIN, fifo(CONFIG), "config.json"),
    row(
        "a config.json with an unknown field",
        SCORE,
        edit(CONFIG, "config/griffin", 3),
        "config.json",
    ),
    row(
        "a config.json with an unknown field below",
        SCORE,
        edit(CONFIG, "config/data/griffin", 3),
        "config.json",
    ),
    row("a config.json without a field", SCORE, edit(CONFIG, "config/data/threads"), "config.json"),
    row("a config.json without eval", SCORE, edit(CONFIG, "config/eval"), "config.json"),
    *(
        row(
            f"a config.json whose {key.replace('config/', '')} is {value!r}",
            SCORE,
            edit(CONFIG, key, value),
            key.rpartition("/")[2],
        )
        for key, value in {
            "config/seed": "x",
            "config/dtype": 5,
            "config/train/batch_size": "six",
            "config/train/epochs": None,
            "config/data/root": 7,
            "config/data/test": ["test"],
            "config/data/threads": -1,
            "config/data/crop": -32,
            "config/model/backbone": "griffin",
            "config/model/trunk": {"griffin": 1},
            "config/model/final_endpoint": "nowhere",
            "config/optimizer": [],
            "config/optimizer/rule": 5,
            "config/eval/threshold": "half",
            "config/eval/batch_size": 0,
            "config/eval/crf": 5,
            "config/free": 5,
            "config/stage": [],
            "config/stages": "first",
        }.items()
    ),
    *(
        row(f"a config.json of {name}", SCORE, write(CONFIG, text), "config.json")
        for name, text in {
            "nothing": "",
            "null": "null",
            "an empty object": "{}",
            "a config that is null": '{"config": null, "class_names": ["a"]}',
            "an empty config": '{"config": {}, "class_names": ["a"]}',
            "100000 lists": "[" * 100_000,
            "NUL": "\0" * 1000,
            "another encoding": "{}".encode("utf-16").decode("latin1"),
        }.items()
    ),
    *(
        # Said in the log: the curves go without such lines.
        row(f"a history {what}", AGAIN, unfinished(spoil), "history.jsonl", status=0)
        for what, spoil in {
            "that is no JSON": write(HISTORY, "none\n"),
            "with a line of a list": line(HISTORY, "[]", 1),
            "without steps": line(HISTORY, "{}", 1),
            "that is no UTF-8": line(HISTORY, b"\xff\xfe", 1),
        }.items()
    ),
    row("a history that may not be read", AGAIN, unfinished(closed(HISTORY)), "history.jsonl"),
    row(
        "a history with a word for a figure",
        SCORE,
        swap(HISTORY, '"train/loss": ', '"train/loss": "high", "x": '),
        "history.jsonl",
        status=0,
    ),
    row(
        "another workdir's tensorboard is a file",
        AGAIN,
        unfinished(remove("run/tensorboard"), write("run/tensorboard")),
        "tensorboard",
    ),
    row("scores that may not be written", SCORE, closed("run/scores", 0o500), "scores"),
    row("a report that is a folder", SCORE, folder("run/report.html"), "report.html"),
    row("metrics that are a folder", SCORE, folder(METRICS), "metrics.json"),
    row("data that has gone", SCORE, remove("data"), "data"),
    row(
        "no test photo that can be read",
        SCORE,
        lambda h: [p.write_bytes(b"") for p in (h / "data/test").rglob("*.jpg")],
        "test",
    ),
    row(
        "describe of a bad field",
        [*DESCRIBE, "--config.model.head_channels=-1"],
        None,
        "head_channels",
    ),
    row("describe of an endless width", [*DESCRIBE, "--config.model.width=inf"], None, "width"),
    row(
        "evaluate with another config",
        train("--mode=evaluate", "--config.seed=4", workdir="run"),
        None,
        "seed",
    ),
    row(
        "evaluate of a list that is none",
        train("--mode=evaluate", "--config.data.test=tst", workdir="run"),
        None,
        "tst",
    ),
]


@table(ROWS)
def test_a_bad_workdir_is_refused(kit, here, row):
    check(kit, "main", row, here, ["data", "run"])
