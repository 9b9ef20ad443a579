"""Configs of runs from earlier days, read as they were meant."""

import copy

from wsol_jax.base.types import Json

# Fields that runs of earlier days lack, and what they mean by that.
NEWER = {
    "": {
        "stages": [],
        "stage": {},
        "reads": [],
        "start": "",
        "labels": "",
        "labeller": "",
        "settled": [],
        "before": "",
        "early": [],
        "free": ["two_phase.phases", "two_phase.voters", "cues"],
    },
    "data": {
        "labels": "",
        "classes_per_batch": 0,
        "images_per_class": 0,
        "coco": "",
        "masks": "",
        "layout": "flat",  # how class folders were read, which were the one layout
        "strict": True,
        "parts": 1,
    },
    "model": {"scores": "auto", "dense_layers": False, "map_mean": 0.0, "positive_maps": False},
    "train": {"checksum": True},
    "optimizer": {"rule": "sgd"},
    "eval": {
        "tolerance": 18.0,
        "detection": {"threshold": 0.6, "nms_iou": 0.3},
        "mean_classes": [],
        "map_thresholds": [],
        "crf": {
            "bilateral": [10.0, 80.0, 13.0],
            "spatial": [3.0, 3.0],
            "iterations": 10,
            "clip": 1e-5,
        },
        "stages": [],
        "labels": False,
        "explain": "",
        "explain_layer": "",
        "view": "whole",
    },
    "two_phase": {"hide_at": ""},
    "cues": {"strict": False},
    "spg": {"cascade": True, "share_b": True, "c_layers": 1, "seed_size": 0},
    "cams2i": {
        "mutual": False,
        "explore": 1.0,
        "start_step": 0,
        "compare": "images",
        "compared": 0,
        "ramp_inter": False,
    },
    "features": {"size": 0},
}


def with_newer_fields(config: dict[str, Json]) -> dict[str, Json]:
    """Adds, in place, the fields that a config of earlier days lacks, as they were meant."""
    if "data" in config and config["data"].get("name") != "folder":
        config["data"].setdefault("layout", "auto")  # there is one layout
    for section, newer in NEWER.items():
        if section in ("", *config):
            place = config[section] if section else config
            for name, value in newer.items():
                place.setdefault(name, copy.deepcopy(value))
    for place in (config, *config["stage"].values()):
        _with_named_labels(place)
    if "cues" in config["stages"]:
        config["stage"].setdefault("cues", {"method": config["method"], "labeller": "cues"})
    return config


def _with_named_labels(config: dict[str, Json]) -> None:
    """Rewrites, in place, the one kind of labels that runs of earlier days could train on."""
    size = config.get("data", {}).pop("cues", 0)
    if size and "sec" in config:
        config["labels"] = "cues=cues"
        config["sec"].setdefault("cells", size)
