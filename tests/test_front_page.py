"""``python -m wsol_jax``: a page of what there is to do, whose commands run as they are written."""

import pathlib
import re
import subprocess
import sys

import pytest
from helpers import page_commands as pages
from helpers.page_commands import ROOT, Command

from configs import keywords
from wsol_jax import __main__ as front
from wsol_jax import main
from wsol_jax.data.sources import DATASETS

NO_METHOD = {"__init__", "common", "keywords", "recipes", "segmentation"}
METHODS = {path.stem for path in (ROOT / "configs").glob("*.py")} - NO_METHOD
LINES = front.PAGE.replace("\\\n", " ").splitlines()
COMMANDS = [
    Command("the page", words)
    for line in LINES
    if line.startswith("  python ")
    for words in pages._lines(line.partition(", and ")[0])
]


def words_of(text):
    return set(re.findall(r"[\w.]+", text))


def test_it_fits_a_page_and_loads_no_jax():
    loaded = "import runpy, sys; runpy.run_module('wsol_jax', run_name='__main__'); "
    loaded += "print(sorted({'jax', 'numpy', 'absl'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT, check=True
    )
    *lines, modules = done.stdout.splitlines()
    assert modules == "[]" and lines == front.PAGE.splitlines()
    assert len(lines) < 50 and max(map(len, lines)) <= 100


def test_it_and_the_help_name_every_method_and_data_set():
    for text in (front.PAGE, main.__doc__):
        assert METHODS | DATASETS.keys() <= words_of(text)
        assert "configs/common.py" in text
    assert keywords.KEYS.keys() <= words_of(main.__doc__)
    assert "%" not in main.__doc__  # absl would fill it in


def test_its_commands_are_taken():
    assert len(COMMANDS) >= 9
    mine = {command: pages.absl_words(command) for command in COMMANDS}
    by_absl = [words for words in mine.values() if words and "--help" not in words[1]]
    assert set(pages.read_flags(by_absl)) == {""}
    for command, words in mine.items():
        if not words:
            pages.read(command)


def test_its_files_are_there():
    for name in re.findall(r"configs/\w+\.py|README\.md", front.PAGE + main.__doc__):
        assert pathlib.Path(ROOT / name.replace("METHOD", "cam")).is_file()


@pytest.mark.parametrize("flag", ["--help", "--helpshort"])
def test_the_main_commands_help_shows_it(flag):
    done = subprocess.run(
        [sys.executable, "-m", "wsol_jax.main", flag], capture_output=True, text=True, cwd=ROOT
    )
    assert "DATASET  embedded" in done.stdout and "--workdir" in done.stdout
