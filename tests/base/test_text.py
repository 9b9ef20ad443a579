"""What names of files and classes may hold does not reach a terminal or a log."""

import io
import logging

import pytest

from wsol_jax.base import commands
from wsol_jax.base.errors import UserError
from wsol_jax.base.limits import MAX_LINE
from wsol_jax.base.text import clean_record, lines, printable, printable_lines


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\x1b[2Jb", "a?[2Jb"),  # clears the screen
        ("a\x1b]0;title\x07", "a?]0;title?"),
        ("a\nINFO: b\t c\r", "a INFO: b c"),
        ("a\x9b31m", "a?31m"),  # the 8-bit form of an escape code
        ("a\u202egpj.exe", "a?gpj.exe"),  # turns the direction of what follows
        ("caf\xe9 \u732b \U0001f408", "caf\xe9 \u732b \U0001f408"),
        ("\udcff.jpg", "?.jpg"),  # a byte that is no UTF-8
    ],
)
def test_one_printable_line(text, shown):
    assert printable(text) == shown
    shown.encode()


def test_lines_of_ours_stay():
    assert printable_lines("a\x1b[1m  b\n  c\n") == "a?[1m  b\n  c\n"


def test_an_error_is_one_clean_line(capsys):
    assert commands.fail("class 'x\x1b[2J\ny' is\x00 wrong.") == 2
    assert capsys.readouterr().err == "error: class 'x?[2J y' is? wrong.\n"


def test_an_error_has_an_end(capsys):
    assert commands.fail("x" * 10**6) == 2
    assert len(capsys.readouterr().err) < 5000


def test_a_log_line_cannot_be_forged():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(clean_record)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("skipped %s: %d of\n%r", "a.jpg\nERROR: \x1b[31mb", 3, UserError("c\x07"))
    logger.warning("100 %\x1b")
    assert stream.getvalue() == "skipped a.jpg ERROR: ?[31mb: 3 of\n'c?'\n100 %?\n"


def test_lines_have_numbers_and_a_limit(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n two\x85\x00".replace(b"\x85", b"\xc2\x85") + b"\nend")
    assert list(lines(path)) == [(1, "one"), (3, " two\x85\x00"), (4, "end")]
    path.write_bytes(b"one\n\xff\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: it is not UTF-8\.$"):
        list(lines(path))
    path.write_bytes(b"one\n" + b"x" * MAX_LINE + b"\n")
    with pytest.raises(UserError, match=r"line 2: it has more than 1048576 bytes\.$"):
        list(lines(path))
    with pytest.raises(UserError, match=r"gone cannot be read: No such file"):
        list(lines(tmp_path / "gone"))
