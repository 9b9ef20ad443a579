"""Flags of a tiny run of SEC: a classifier, cues, a segmenter, scores."""

import tiny

from helpers.voc import on_voc

CELLS = 6  # of the cues, a side
FIELDS = {
    "model.final_endpoint": "block_1",
    "train.eval_epochs": 0.0,
    "train.epochs": 1.0,
    "data.resize": 32,
    "cues.layer": "block_1_project",
    "cues.size": CELLS,
    "cues.foreground": 0.3,
    "cues.background": 0.1,
    "stage.segment.data.crop": 32,
    "stage.segment.data.resize": 32,
    "stage.segment.model.final_endpoint": "block_1",
    "stage.segment.model.output_stride": 8,
    "stage.segment.train.batch_size": 6,
    "stage.segment.train.epochs": 3.0,
    "stage.segment.sec.channels": 8,
    "stage.segment.sec.dilation": 1,
    "eval.crf.iterations": 2,
}


def words(root, workdir, *more):
    """Flags of a run on the VOC tree at ``root`` (``helpers.voc``)."""
    fields = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    return on_voc(tiny.flags(tiny.data(), workdir, *fields, *more, method="sec"), root)
