"""Rows of a damaged .npz file of a run's own, for each command that reads it."""

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
    swollen,
    write,
    zipped,
)
from faults.rows import EITHER, Row

HUGE = npy_header("(1099511627776, 4)")


def damaged(path, words, optional=False):
    """Rows of an .npz file that every reader of it must refuse by name.

    ``optional``: without it the command goes on, and what is no file may count as none.
    """
    name = path.rpartition("/")[2]
    for what, spoil in {
        "empty": write(path),
        "text": write(path, "none"),
        "cut": cut(path),
        "cut by a little": cut(path, 0.99),
        "a folder": folder(path),
        "a pipe": fifo(path),
        "a device without end": link(path, "/dev/zero"),
        "closed": closed(path),
        "an empty zip": zipped(path),
        "a zip of text": zipped(path, {"a.txt": b"hello", "meta.npy": b"hello"}),
        "packed by another method": packed(path, method=99),
        "packed by one that nobody has": packed(path, method=6),
        "under a password": packed(path, flags=1),
        "of a member that claims terabytes": swollen(path, HUGE),
        "of a member that is none": swollen(path, b"none"),
        "a picture": copied("data/train/ball/00.jpg", path),
        **{f"flipped at {at}": flip(path, at, 16) for at in (0.1, 0.3, 0.6, 0.98)},
    }.items():
        no_file = what in ("a folder", "a pipe", "a device without end")
        status = EITHER if optional and no_file else None
        yield Row(f"{path.partition('/')[2]} is {what}", words, [name], spoil, status=status)
