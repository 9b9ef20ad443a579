"""What a person sees while a loop goes on: plain lines off a terminal, a bar on one."""

import io
import os
import pty
import select

from wsol_jax.base.progress import Progress, compiling


def test_plain_lines_off_a_terminal():
    stream = io.StringIO()
    with Progress("train", 10, done=4, seconds=0.0, stream=stream) as bar:
        bar.update(0, loss=0.5)
        bar.update(3)
        bar.update(3)
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("train: 10/10 ")
    assert "7/10" in lines[1] and "loss=0.5" in lines[1] and " s left" in lines[1]
    assert "\r" not in stream.getvalue()


def test_few_lines_off_a_terminal():
    stream = io.StringIO()
    with Progress("train", 1000, seconds=60.0, stream=stream) as bar:
        for _ in range(1000):
            bar.update(1)
    assert len(stream.getvalue().splitlines()) == 1


def test_bar_with_eta_on_a_terminal():
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as stream, Progress("train", 100, stream=stream) as bar:
        for _ in range(50):
            bar.update(1, loss=0.25)
        bar._bar.refresh()
        stream.flush()
        text = ""
        while select.select([parent], [], [], 0.2)[0]:
            text += os.read(parent, 65536).decode()
    os.close(parent)
    assert "train:" in text and "50/100" in text and "loss=0.25" in text
    assert "<" in text.rsplit("[", 1)[-1], "no remaining time"
    assert "\r" in text


def test_compiling_is_a_plain_line_off_a_terminal():
    stream = io.StringIO()
    with compiling("train\x1b[2J", stream):
        assert stream.getvalue() == "train?[2J: compiling ...\n"
    assert stream.getvalue().count("\n") == 1


def test_compiling_is_one_line_that_goes_again_on_a_terminal():
    """What a terminal shows after it: nothing, where a bar stood before."""
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as stream, Progress("evaluate", 100, stream=stream):
        with compiling("evaluate", stream):
            during = screen(parent)
        assert during == ["evaluate: compiling ..."]
        assert screen(parent, during) == [""]
    os.close(parent)


def screen(terminal, lines=("",)):
    """The lines that a terminal shows after what was written to it; it knows CR and LF alone."""
    lines, text = list(lines), ""
    while select.select([terminal], [], [], 0.2)[0]:
        text += os.read(terminal, 65536).decode()
    column = len(lines[-1])
    for letter in text:
        if letter in "\r\n":
            lines += [""] * (letter == "\n")
            column = 0
            continue
        lines[-1] = lines[-1][:column].ljust(column) + letter + lines[-1][column + 1 :]
        column += 1
    return [line.rstrip() for line in lines]
