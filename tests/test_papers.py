"""docs/papers.md: each row's command is one that the code takes, and no row is without a word."""

import re
import shlex

import pytest
from helpers import page_commands as pages
from helpers.page_commands import ROOT, Command

VOC = "voc,root=VOC2012,train=train_aug.txt,labels=cls_labels.npy"


def rows():
    """(cells, config's words or None) of every row of the page's tables."""
    found = []
    for line in (ROOT / "docs/papers.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if len(cells) == 5 and cells[0] != "table" and not cells[0].startswith("-"):
            words = re.findall(r"`(configs/[^`]+)`", cells[2])
            found.append((cells, words[-1] if words else None))
    return found


COMMANDS = [words for _, words in rows() if words]


@pytest.fixture(scope="module")
def refusals():
    lines = [
        Command(
            "docs/papers.md",
            ("python", "-m", "wsol_jax.main", "--workdir=W", f"--config={w[0]}", *w[1:]),
        )
        for w in (shlex.split(words.replace(":VOC", f":{VOC}")) for words in COMMANDS)
    ]
    return dict(zip(COMMANDS, pages.read_flags([pages.absl_words(c) for c in lines]), strict=True))


@pytest.mark.parametrize("words", sorted(set(COMMANDS)))
def test_a_row_s_command_is_taken(words, refusals):
    assert refusals[words] == ""


def test_every_table_of_the_papers_has_a_row():
    """Tables 1 to 4 (SPG), 6 (CAMs2i), 3 (two-phase), 4 (MCOF), XI (Hide-and-Seek)."""
    text = (ROOT / "docs/papers.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    wanted = (
        ("SPG", "1 2 3 4 4.3"),
        ("CAMs2i", "1 2 3 4 5 6"),
        ("Two-phase", "1 2 3 4.6 5.2 6"),
        ("MCOF", "1 2 3 4"),
        ("Hide-and-Seek", "I II III IV V VI VII VIII IX X XI"),
    )
    for section, (paper, tables) in zip(sections, wanted, strict=True):
        assert section.startswith(paper)
        named = " ".join(re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE))
        named = named.replace("I to IV", "I, II, III, IV")
        assert set(tables.split()) <= set(re.split(r"[ ,]+", named))


def test_every_row_has_a_command_or_says_why_not():
    for cells, words in rows():
        assert all(cells[:4])
        if words is None:
            assert re.search(r"not (built|run)|run|metrics|methods", cells[2])
