"""colab.ipynb: its paired script says the same, and it runs from first to last cell."""

import json
import os
import re

import pytest
import tiny
from helpers.launchers import ROOT

NOTEBOOK, SCRIPT = ROOT / "launch/colab.ipynb", ROOT / "launch/colab.py"


def cells_of_notebook():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def cells_of_script():
    """The cells of a script in the percent format, as jupytext writes it."""
    _, *parts = re.split(r"^# %%(.*)\n", SCRIPT.read_text(), flags=re.MULTILINE)
    found = []
    for head, text in zip(parts[::2], parts[1::2], strict=True):
        text = text.strip("\n")
        if head.strip() == "[markdown]":
            found.append(("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE)))
        else:
            assert head == ""
            found.append(("code", text))
    return found


def test_the_script_and_the_notebook_agree():
    """After a change of the script: jupytext --update --to ipynb launch/colab.py."""
    notebook, script = cells_of_notebook(), cells_of_script()
    assert len(notebook) > 20
    for number, (one, other) in enumerate(zip(notebook, script, strict=True)):
        assert one == other, f"cell {number}"


def test_the_notebook_is_kept_without_what_it_printed():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_every_cell_is_python():
    for kind, text in cells_of_notebook():
        if kind == "code":
            compile(text, str(NOTEBOOK), "exec")
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            compile(block, str(NOTEBOOK), "exec")


def test_its_address_is_nobodys():
    """A clone's owner puts theirs there; until then pip says that there is no such repository."""
    (code,) = (text for _, text in cells_of_notebook() if "REPOSITORY =" in text)
    assert re.search(r'^REPOSITORY = "https://github.com/OWNER/wsol_jax"$', code, re.MULTILINE)
    assert "colab.research.google.com" not in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_it_runs_from_first_to_last_cell(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    for name, value in {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1800, resources=where).execute()

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "".join(
        str(output.get("text", "")) + str(output.get("data", {}).get("text/html", ""))
        for cell in code
        for output in cell.outputs
    )
    assert "stopped by SIGINT after step" in text
    assert text.count("<iframe") == 3
    assert text.count("data:image/jpeg;base64,") >= 3  # the three test pictures
    spg, cam = (tiny.metrics(tmp_path / "runs" / name) for name in ("spg", "cam"))
    assert cam["steps"] == 250  # the stopped run went on to its end
    (spg,), (cam,) = spg["test"].values(), cam["test"].values()
    assert spg["gt_known_loc"] > 0.5 > 0.3 > cam["gt_known_loc"]
    found = json.loads((tmp_path / "found/predictions.json").read_text())
    assert len(found["images"]) == 3
    assert (tmp_path / "runs/both.html").is_file()
