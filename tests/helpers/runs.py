"""What a run in another process has left so far, and runs of two processes."""

import contextlib
import socket
import struct

import tensorboardX.proto.event_pb2 as event_pb2
import tiny

LAST = 11  # the last step of tiny's runs: 16 photos, batches of 6, 4 epochs
CLOCK = ("seconds", "train_seconds", "images_per_second", "stages")


def whole_run(words, **options):
    """A run that ends well, and prints no traceback on its way."""
    done = tiny.run(words, **options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def figures_of(workdir):
    """A run's figures but for its times."""
    return {k: v for k, v in tiny.metrics(workdir).items() if k not in CLOCK}


def saved(workdir):
    """Steps of the whole checkpoints."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def being_saved(workdir):
    folder = workdir / "checkpoints"
    return folder.is_dir() and any("tmp" in path.name for path in folder.iterdir())


def step_of(workdir):
    """The newest step in the history."""
    path = workdir / "history.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((int(line.split(",")[0].split(":")[1]) for line in lines if "}" in line), default=0)


def start_several(words, count, devices=1, patches=None, others=None):
    """Some processes on loopback that share a run.

    Args:
      patches: by index, as of ``tiny.Run``.
      others: by index, words that a process has instead.
    """
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    join = [f"--coordinator_address=127.0.0.1:{port}", f"--num_processes={count}"]
    return [
        tiny.Run(
            [*(others or {}).get(i, words), *join, f"--process_id={i}"],
            devices,
            patch=(patches or {}).get(i, ""),
        )
        for i in range(count)
    ]


def start_pair(words, devices=4):
    """Two processes on loopback that share a run."""
    return start_several(words, 2, devices)


def events(folder):
    """Every event of a folder's files, each record's framing checked."""
    found = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            body = content[at + 12 : at + 12 + length]
            assert len(body) == length, f"{path} ends within a record"
            found.append(event_pb2.Event.FromString(body))
            at += 12 + length + 4
    return found
