"""Every line of Python in the docs runs as it stands there."""

import os
import pathlib
import re
import shutil

import pytest
import tiny

BLOCKS = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which the docs' names are there: photos, runs, configs."""
    files = sorted((tiny.data() / "test").rglob("*.jpg"))
    (tmp_path / "photos").mkdir()
    for name in ("dog.jpg", "cat.jpg", "photos/a.jpg", "photos/b.jpg", "photo.jpg"):
        shutil.copy(files[0], tmp_path / name)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "spg").symlink_to(tiny.finished())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python_of(page, place):
    blocks = BLOCKS.findall((pathlib.Path(tiny.ROOT) / page).read_text())
    shared = pathlib.Path(os.environ.get("WSOL_SHARED", tiny.ROOT.parent / "shared"))
    weights = shared.resolve() / "weights" / "mobilenet_v2_imagenet_keras.npz"
    if weights.is_file():
        (place / "mobilenet_v2.npz").symlink_to(weights)
    else:
        blocks = [block for block in blocks if "pretrained(" not in block]
    code = "\n".join(blocks)
    # The classes of the small run; a training would take minutes, and is tested elsewhere.
    code = code.replace('"dog"', f'"{tiny.CLASSES[0]}"').replace('"cat"', f'"{tiny.CLASSES[1]}"')
    return code


@pytest.mark.parametrize("page", ["docs/python.md"])
def test_the_lines_run(page, place, monkeypatch):
    import wsol_jax
    from wsol_jax.api import train

    seen = []
    monkeypatch.setattr(train, "train", lambda *a, **k: (seen.append((a, k)), {"test": {}})[1])
    code = python_of(page, place)
    assert "wsol_jax.load" in code
    exec(compile(code, page, "exec"), {"wsol_jax": wsol_jax})
    assert len(seen) == code.count("wsol_jax.train(")
