"""Runs of CCNN on a tiny VOC folder: with the heat maps of both networks, and by labels alone."""

import json

import numpy as np
import pytest
import tiny
from helpers.labels import cue_folder
from helpers.runs import saved, whole_run
from helpers.sec_runs import CELLS, FIELDS
from helpers.voc import on_voc, write_voc

from wsol_jax.base.labels import BACKGROUND, UNLABELLED

LAST = 6  # 12 photos, batches of 6, 3 epochs
pytestmark = pytest.mark.slow


def run(workdir, variant):
    fields = {name.replace(".sec.", ".ccnn."): value for name, value in FIELDS.items()}
    del fields["cues.layer"], fields["cues.background"]
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    keys = f",variant={variant}"
    root = write_voc(workdir.parent / "voc")
    whole_run(on_voc(tiny.flags(tiny.data(), workdir, *words, method="ccnn", keys=keys), root))
    return workdir


def test_a_run_with_heat_maps(tmp_path):
    workdir = run(tmp_path / "run", "two_phase")
    cues = json.loads((workdir / "cues" / "cues.json").read_text())
    assert cues["background"] == 0 and cues["foreground"] > 0
    place = cue_folder(workdir / "cues", CELLS)
    found = np.unique([place.read(f"{i:02}") for i in range(12)])
    assert BACKGROUND not in found and UNLABELLED in found and len(found) > 2
    assert saved(workdir / "segment")[-1] == LAST
    rows = tiny.history(workdir / "segment")
    assert {"train/loss", "train/foreground", "train/latent_foreground"} <= set(rows[0])
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert np.isfinite(losses).all()
    figures = tiny.metrics(workdir)
    assert set(figures["stages"]) == {"first", "second", "cues", "segment", "evaluate"}
    assert set(figures["parts"]) == {"before_crf", "cam"}
    assert 0 <= figures["test"]["val"]["miou"] <= 1


def test_a_run_by_labels_alone(tmp_path):
    workdir = run(tmp_path / "run", "plain")
    assert not (workdir / "cues").exists() and not (workdir / "first").exists()
    assert saved(workdir / "segment")[-1] == LAST
    figures = tiny.metrics(workdir)
    assert set(figures["stages"]) == {"segment", "evaluate"}
    assert set(figures["parts"]) == {"before_crf"}
    assert (workdir / "report.html").is_file()
