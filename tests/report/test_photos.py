"""Photos of a run's list read again, and never fetched."""

import json
import pathlib

import cv2
import numpy as np
import pytest
import tiny

from configs import cam
from wsol_jax.data.embedded.source import is_drawn
from wsol_jax.data.sources import cub_files
from wsol_jax.report import photos


def claim(folder, **data):
    """A run's config.json, as far as the photos' reader needs it."""
    config = cam.get_config("folder").to_dict()
    config["data"] |= dict(root="", train="train", boxes="", multi_label=False) | data
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"config": config, "class_names": []}))
    return str(folder)


def test_the_wanted_photos_and_no_others(tmp_path):
    workdir = claim(tmp_path / "w", root=str(tiny.data()))
    wanted = ["test/ball/00.jpg", "test/bar/01.jpg", "test/none.jpg"]
    found = photos.read_photos(workdir, "test", wanted)
    assert sorted(found) == wanted[:2]
    for name, image in found.items():
        stored = cv2.imread(str(tiny.data() / name))[..., ::-1]
        assert np.abs(image.astype(int) - stored).max() <= 3  # two JPEG decoders


def test_nothing_is_found_without_a_run_or_its_data(tmp_path):
    assert photos.read_photos(str(tmp_path), "test", ["a"]) == {}
    gone = claim(tmp_path / "w", root=str(tmp_path / "moved"))
    assert photos.read_photos(gone, "test", ["a"]) == {}
    bad = tiny.write_folder(tmp_path / "data")
    (bad / "test/ball/00.jpg").write_bytes(b"damaged")
    workdir = claim(tmp_path / "v", root=str(bad))
    found = photos.read_photos(workdir, "test", ["test/ball/00.jpg", "test/bar/01.jpg"])
    assert list(found) == ["test/bar/01.jpg"]


@pytest.mark.parametrize("name", ["embedded", "cub"])
def test_nothing_is_fetched_or_drawn(tmp_path, monkeypatch, name):
    cache = tmp_path / "cache"
    monkeypatch.setenv("WSOL_JAX_CACHE", str(cache))
    monkeypatch.setattr(cub_files, "fetch", lambda *a, **k: pytest.fail("fetched"))
    assert photos.read_photos(claim(tmp_path / "w", name=name), "test", ["a"]) == {}
    assert not is_drawn() and cub_files.find_cub() is None
    assert not [p for p in pathlib.Path(tmp_path).rglob("*") if p.is_file() and cache in p.parents]
