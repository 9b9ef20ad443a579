"""A bad input as a row of a table, and what every command must do about it."""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Callable, Sequence

import pytest

from faults.kit import Kit
from faults.server import Done

Spoil = Callable[[pathlib.Path], object]


EITHER = -1


@dataclasses.dataclass(frozen=True)
class Row:
    """A command and what is wrong with it.

    Attributes:
      what: the fault in a few words; the test's name.
      words: the command's flags, with paths below the row's own folder, where it is started.
      expected: what its one sentence must hold, in any case; of a row with status 0 its output.
      spoil: damages the copies in the row's folder.
      needs: what is copied there from the kit, beside what the whole table needs.
      status: 0 where the command must succeed in spite of it; None for any other; EITHER where both
        are right, as long as a refusal is one.
      doubt: why the expectation may be wrong, for whoever reads a failure.
    """

    what: str
    words: Sequence[str]
    expected: Sequence[str]
    spoil: Spoil | None = None
    needs: Sequence[str] = ()
    status: int | None = None
    doubt: str = ""


def table(rows: Sequence[Row]):
    """A decorator: the test once for each row."""
    names = [row.what for row in rows]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two rows of one name: {twice}"
    return pytest.mark.parametrize("row", rows, ids=names)


def check(kit: Kit, command: str, row: Row, here: pathlib.Path, needs: Sequence[str] = ()) -> Done:
    """Runs a row in a folder of its own; fails the test on all that no input may do."""
    for name in (*needs, *row.needs):
        kit.copy(name, here)
    if row.spoil is not None:
        row.spoil(here)
    done = kit.run(command, row.words, here)
    _open_again(here)
    wrong = problems(row, done, started_gs=kit.started_gs(here))
    shutil.rmtree(here, ignore_errors=True)
    if wrong:
        doubt = f" (in doubt: {row.doubt})" if row.doubt else ""
        pytest.fail(f"{'; '.join(wrong)}{doubt}\n{_tail(done)}", pytrace=False)
    return done


def problems(row: Row, done: Done, started_gs: bool = False) -> list[str]:
    """All that is wrong with how a row ended, the worst first."""
    found = []
    if done.killed:
        found.append(f"killed for its {done.killed}: {done.seconds} s, {done.kilobytes >> 10} MB")
    elif done.status < 0:
        found.append(f"ended by signal {-done.status}")
    if started_gs:
        found.append("Ghostscript was started")
    both = done.stdout + done.stderr
    if "Traceback" in both:
        found.append(f"a traceback in {_place(both)}: {_last_line(done.stderr)}")
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x9b]", both):
        found.append("control characters in its output")
    if done.killed or done.status < 0:
        return found
    if row.status == 0:
        if done.status:
            found.append(f"status {done.status}: {_last_line(done.stderr)}")
        lacking = [text for text in row.expected if text.lower() not in both.lower()]
        return found + [f"its output lacks {text!r}" for text in lacking]
    if not done.status:
        return found if row.status == EITHER else [*found, "status 0"]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        found.append(f"{len(errors)} lines of 'error: '")
    for text in row.expected:
        if errors and text.lower() not in errors[-1].lower():
            found.append(f"its sentence lacks {text!r}: {errors[-1][:300]}")
    return found


def _last_line(text: str) -> str:
    """The last line of an error, or of all; JAX and grain add sentences of their own behind it."""
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [
        line for line in lines if re.match(r"(error: |[\w.]+(Error|Exception)\b)", line)
    ] or lines
    return lines[-1][:300] if lines else "(nothing)"


def _place(text: str) -> str:
    """The innermost line of the package in the last traceback."""
    frames = re.findall(r'File ".*?/((?:wsol_jax|configs)/[^"]*)", line (\d+), in (\S+)', text)
    return "{}:{} {}".format(*frames[-1]) if frames else "a library"


def _tail(done: Done) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "\n".join(line[:400] for line in lines[-12:])


def _open_again(here: pathlib.Path) -> None:
    """Undoes ``chmod 0`` of a row's folders, so that they can be removed."""
    for path in [here, *here.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
