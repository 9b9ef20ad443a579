"""``python -m wsol_jax.report`` of runs at URLs: which part of a word is the run's name."""

import pytest

from wsol_jax.report import __main__ as report
from wsol_jax.report import comparison
from wsol_jax.runs import mirror

URL = "gs://bucket/date=2026/run"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([f"cam={URL}", "a=b=runs/spg"], {"cam": URL, "a=b": "runs/spg"}),
        ([URL, "spg=runs/spg"], {"run": URL, "spg": "runs/spg"}),
        ([URL], [URL]),
    ],
)
def test_names_and_urls(monkeypatch, tmp_path, words, expected):
    asked = []

    def compare(out, workdirs, title):
        asked.append(workdirs)
        raise OSError(2, "enough", "elsewhere")

    monkeypatch.setattr(mirror, "read", lambda word, **_: word)
    monkeypatch.setattr(comparison, "compare_workdirs", compare)
    assert report.main([*words, f"--out={tmp_path}/page.html"]) == 2
    assert asked == [expected]
