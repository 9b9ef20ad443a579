"""`python -m wsol_jax.compare`: its two sides, its table, its JSON."""

import json

from wsol_jax import compare


def test_compare_needs_two_sides(capsys, tmp_path):
    assert compare.main([str(tmp_path)]) == 2
    assert "B1,B2,..." in capsys.readouterr().err


def test_compare_writes_its_table_as_json(monkeypatch, tmp_path, capsys):
    spread = {"mean": 0.5, "low": 0.4, "high": 0.6}
    entry = {"a": {"pxap": spread}, "b": {"pxap": spread}, "b-a": {}}
    monkeypatch.setattr(compare, "compare", lambda a, b: {"+".join([*a, *b]): entry})
    out = tmp_path / "figures.json"
    assert compare.main(["x,y", "z", f"--out={out}"]) == 0
    assert json.loads(out.read_text()) == {"x+y+z": entry}
    assert "50.0 (40.0-60.0)" in capsys.readouterr().out


def test_compare_refuses_an_output_before_it_reads_a_run(monkeypatch, tmp_path, capsys):
    def read(a, b):
        raise AssertionError("a run was read")

    monkeypatch.setattr(compare, "compare", read)
    (tmp_path / "file").write_text("")
    for out, told in ((tmp_path, "is a folder"), (tmp_path / "file/a.json", "--out=")):
        assert compare.main(["x", "y", f"--out={out}"]) == 2
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1
