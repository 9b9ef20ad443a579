"""The small commands: one parser, one way for a mistake to reach the user."""

import importlib
import logging

import pytest

from wsol_jax.base import commands
from wsol_jax.base.errors import UserError

COMMANDS = ("crf", "compare", "report.__main__", "evaluate.__main__")


def raising(error):
    def command():
        raise error

    return command


def test_a_command_that_ends_well(capsys):
    assert commands.run(lambda: print("done")) == 0
    assert capsys.readouterr() == ("done\n", "")


@pytest.mark.parametrize(
    "error, status, text",
    [
        (UserError("name\n  one."), 2, "error: name one.\n"),
        (FileNotFoundError(2, "No such file", "a.npy"), 2, "error: a.npy: No such file.\n"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT.\n"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(capsys, error, status, text):
    assert commands.run(raising(error)) == status
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("a defect")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        commands.run(raising(error))


def test_the_parsers_mistakes_are_user_errors():
    parser = commands.Parser("crf", "Does a thing.\n\nAnd more.")
    parser.add_argument("--iterations", type=int)
    assert parser.prog == "python -m wsol_jax.crf" and parser.description == "Does a thing."
    for words in (["--iterations=x"], ["--iter=3"], ["more"]):
        with pytest.raises(UserError, match=r"; --help lists the flags\.$"):
            parser.parse_args(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_and_names_a_wrong_flag(capsys, name):
    command = importlib.import_module(f"wsol_jax.{name}")
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: python -m wsol_jax.{name.removesuffix('.__main__')}" in text and "--out" in text
    assert command.main(["--no_such_flag"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "--help" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_has_the_flags_alone(capsys, name):
    command = importlib.import_module(f"wsol_jax.{name}")
    texts = []
    for flag in ("--help", "--helpshort"):
        with pytest.raises(SystemExit) as stop:
            command.main([flag])
        assert stop.value.code == 0
        texts.append(capsys.readouterr().out)
    whole, short = texts
    assert whole.startswith(short.rstrip()) and "--out" in short and "--helpshort" in short
    assert "METADATA/" not in short and "Kraehenbuehl" not in short


def test_what_tasks_leave_behind_is_not_logged(monkeypatch):
    """Orbax's tasks that fail beside the one whose error is raised: a trace each."""
    handler = logging.Handler()
    monkeypatch.setattr(commands.logging, "get_absl_handler", lambda: handler)
    commands.clean_logs()
    record = lambda name: logging.LogRecord(name, logging.ERROR, "f.py", 1, "said", (), None)
    assert handler.filter(record("absl")) and not handler.filter(record("asyncio"))
