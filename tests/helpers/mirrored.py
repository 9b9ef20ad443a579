"""Files of a remote run's mirror, written and read as a run does."""

import json
import threading

from wsol_jax.api.configs import read_config
from wsol_jax.runs import mirror

URL = "fake://bucket/runs/one"
CONFIG = json.dumps(
    {"config": read_config("configs/cam.py:embedded").to_dict(), "class_names": ["a", "b"]}
)
FILES = {
    "config.json": CONFIG,
    "metrics.json": "figures",
    "report_data.npz": "page",
    "scores/test.npz": "scores",
    "tensorboard/events.out.tfevents.1": "events",
    "first/checkpoints/10/state/d": "ten",
    "cues/cues.json": "closed",
    "cues/cues/a.png": "label",
}


def content_of(folder):
    """{name: text} of every file but the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".wsol_jax.lock"
    }


def write(folder, files):
    """Makes a folder hold these files and no others, each written whole."""
    for name in content_of(folder).keys() - files.keys():
        (folder / name).unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(".0123456789abcdef.tmp")
        temporary.write_text(text)
        temporary.replace(path)


def upload(files):
    """Opens the run, writes these files and no others, and ends."""
    with mirror.opened(URL) as folder:
        write(folder, files)


def wait_for_upload():
    """Returns when all that was committed is up."""
    (session,) = mirror._sessions.values()
    while not session._uploader.idle():
        threading.Event().wait(0.01)


def in_store(store):
    """The run's objects, without those of the mirror's own."""
    own = content_of(store / "bucket/runs/one")
    return {k: v for k, v in own.items() if not k.startswith(".wsol_jax")}
