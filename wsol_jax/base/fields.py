"""The table of a config's fields, their types and ranges, and its check. Nothing of JAX.

A run checks its config here before any work, wherever that came from: keys after the config's path,
--config.FIELD=, Python, or a finished run's config.json.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Json


class Range(NamedTuple):
    """What a number may be: from ``least`` to ``most``, of which the named ends are left out.

    Attributes:
      whole: no fractions.
      above, below: the least, the most is no value itself.
      zero: 0 is one too, beside the range.
      each: several numbers, each of this range.
    """

    least: float
    most: float
    whole: bool = False
    above: bool = False
    below: bool = False
    zero: bool = False
    each: bool = False

    def __contains__(self, value: Json) -> bool:
        if self.each:
            is_list = isinstance(value, list | tuple)
            return is_list and all(one in self._replace(each=False) for one in value)
        kinds = int if self.whole else int | float
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return bool(low and high) or (self.zero and value == 0)  # no comparison holds for NaN

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        # Ten digits: the largest seed has them all.
        start = f"above {self.least:.10g}" if self.above else f"from {self.least:.10g}"
        end = f"below {self.most:.10g}" if self.below else f"{self.most:.10g}"
        also = "0 or " if self.zero else ""
        return f"{'numbers, each ' if self.each else ''}{also}{kind} {start} to {end}"


class Kind(NamedTuple):
    """What a field may be that holds no number of a range, and how a sentence calls that."""

    text: str
    fits: Callable[[Json], bool]

    def __contains__(self, value: Json) -> bool:
        return self.fits(value)

    def __str__(self) -> str:
        return self.text


def _is_list_of(value: Json, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, kind) for one in value)


def _is_finite(value: Json) -> bool:
    numbers = value if isinstance(value, list | tuple) else (value,)
    return not any(isinstance(one, float) and not math.isfinite(one) for one in numbers)


TEXT = Kind("a text", lambda value: isinstance(value, str))
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
MAYBE = Kind(
    "true or false, or none, which leaves it to the data",
    lambda value: value is None or isinstance(value, bool),
)
NAMES = Kind("a list of names", lambda value: _is_list_of(value, str))
ANY = Kind("finite numbers", _is_finite)  # of what the table has no more to say

_MANY = 10**9
_COUNT = Range(0, _MANY, whole=True)  # of steps, images
_SOME = Range(1, _MANY, whole=True)
_CHANNELS = Range(1, 16384, whole=True)
_CELLS = Range(1, 4096, whole=True)  # a side
_PIXELS = Range(8, 4096, whole=True)  # a side
_STRIDE = Range(1, 64, whole=True)
_BATCH = Range(1, 65536, whole=True)
_SHARE = Range(0, 1)
_PART = Range(0, 1, below=True)  # a share that leaves something
_INSIDE = Range(0, 1, above=True, below=True)
_WEIGHT = Range(0, 1e6)
_RATE = Range(0, 1000)
_EPOCHS = Range(0, 1e5)
_WIDTH = Range(0.01, 16)
_KERNEL = Range(0, 1e5, each=True)  # of a CRF; ops/crf_settings.py has more

# A field by its path, in any stage too; "*.NAME" is one of that name in any other section, such as
# a method's own. A method's fields that are named like these need no line of their own.
FIELDS: Mapping[str, Range | Kind] = {
    **dict.fromkeys(("method", "start", "labels", "before", "labeller", "recipe", "dtype"), TEXT),
    **dict.fromkeys(("stages", "reads", "early", "free"), NAMES),
    "settled": ANY,  # a name and a share: stages/settled.py
    "seed": Range(0, 2**32 - 1, whole=True),  # jax.random.key drops what is above
    **dict.fromkeys([f"data.{n}" for n in ("name", "root", "train", "tune", "test")], TEXT),
    **dict.fromkeys([f"data.{n}" for n in ("boxes", "labels", "resize_mode")], TEXT),
    **dict.fromkeys([f"data.{n}" for n in ("coco", "masks", "layout")], TEXT),
    "data.multi_label": MAYBE,
    "data.strict": SWITCH,
    "data.parts": Range(1, 2, whole=True),
    "data.classes_per_batch": Range(0, 65536, whole=True),
    "data.images_per_class": Range(0, 65536, whole=True),
    "data.resize": _PIXELS,
    "data.crop": _PIXELS,
    "data.flip": _SHARE,
    "data.workers": Range(0, 256, whole=True),
    "data.threads": Range(0, 256, whole=True),
    "data.max_corrupt": _COUNT,
    **dict.fromkeys([f"model.{n}" for n in ("backbone", "final_endpoint", "endpoint")], TEXT),
    **dict.fromkeys([f"model.{n}" for n in ("weights", "preprocessing", "batch_norm")], TEXT),
    **dict.fromkeys([f"model.{n}" for n in ("freeze_until", "scores")], TEXT),
    **dict.fromkeys([f"model.{n}" for n in ("dense_layers", "positive_maps")], SWITCH),
    "model.width": _WIDTH,
    "model.output_stride": _STRIDE,
    "model.head_layers": Range(0, 16, whole=True),
    "model.head_channels": _CHANNELS,
    "model.dropout": _PART,
    "model.map_mean": Range(-100, 100),
    "train.batch_size": _BATCH,
    "train.accumulate": Range(1, 4096, whole=True),
    "train.epochs": _EPOCHS._replace(above=True),
    "train.devices": Range(0, 65536, whole=True),
    "train.log_every": _SOME,
    "train.eval_epochs": _EPOCHS,
    "train.checkpoint_steps": _SOME,
    "train.keep": Range(0, 10000, whole=True),
    "train.checksum": SWITCH,
    "optimizer.rule": TEXT,
    "optimizer.schedule": TEXT,
    "optimizer.nesterov": SWITCH,
    "optimizer.decay_all": SWITCH,
    "optimizer.backbone_lr": _RATE,
    "optimizer.head_lr": _RATE,
    "optimizer.bias_lr": _RATE,
    "optimizer.momentum": _PART,
    "optimizer.weight_decay": Range(0, 10),
    "optimizer.decay_epochs": _EPOCHS._replace(above=True),
    "optimizer.decay_factor": Range(0, 10),
    "optimizer.warmup_steps": _COUNT,
    **dict.fromkeys([f"eval.{n}" for n in ("class_scores", "checkpoint", "best_metric")], TEXT),
    **dict.fromkeys([f"eval.{n}" for n in ("explain", "explain_layer")], TEXT),
    **dict.fromkeys([f"eval.{n}" for n in ("ten_crop", "labels")], SWITCH),
    **dict.fromkeys([f"eval.{n}" for n in ("mean_classes", "stages")], NAMES),
    "eval.batch_size": _BATCH,
    "eval.size": _PIXELS._replace(zero=True),
    "eval.view": TEXT,
    "eval.map_thresholds": _PART._replace(each=True),
    "eval.crf.bilateral": _KERNEL,
    "eval.crf.spatial": _KERNEL,
    "eval.crf.iterations": Range(0, 1000, whole=True),
    "eval.crf.clip": _INSIDE,
    "eval.detection.threshold": _PART,
    "eval.detection.nms_iou": _SHARE,
    "eval.tolerance": Range(0, 1e5),
    "eval.threshold": Range(-1, 1, below=True),
    "eval.gallery": Range(0, 10000, whole=True),
    # Of the methods.
    **dict.fromkeys(("*.guide_lr", "*.branch_lr", "*.classifier_lr", "*.features_lr"), _RATE),
    **dict.fromkeys(("*.bilateral", "*.spatial"), _KERNEL),
    "*.iterations": Range(0, 1000, whole=True),
    "*.dropout": _PART,
    "*.channels": _CHANNELS,
    "*.extra": Range(0, 16384, whole=True),
    "*.projection": Range(0, 65536, whole=True),
    "*.width": _WIDTH,
    **dict.fromkeys(("*.output_stride", "*.cam_stride"), _STRIDE),
    **dict.fromkeys(("*.dilation", "*.cam_dilation"), Range(1, 256, whole=True)),
    **dict.fromkeys(("*.pool_window", "*.head_kernel", "*.window"), Range(1, 31, whole=True)),
    "*.stem_stride": Range(1, 8, whole=True),
    "*.cells": _CELLS,
    "cues.size": _CELLS,
    "features.size": _PIXELS._replace(zero=True),
    "*.compared": _COUNT,
    "region_net.size": Range(1, 64, whole=True),
    "*.cam_size": _PIXELS,
    "*.grid": _CELLS,
    "*.number": Range(-1, 4096**2, whole=True),
    "*.cams": Range(1, 3, whole=True),
    "*.fill": Range(0, 255, each=True),
    "*.deviation": Range(0, 100),
    "*.floor": _INSIDE,
    "cues.foreground": _PART,
    "cues.background": _PART,
    "cues.strict": SWITCH,
    **dict.fromkeys(("ccnn.foreground", "ccnn.background"), _SHARE._replace(each=True)),
    **dict.fromkeys(("*.foreground", "*.background"), _SHARE),  # decays
    **dict.fromkeys(("*.probability", "*.share", "*.peak", "*.settled"), _SHARE),
    "*.cued": _SHARE,
    "*.slack": _WEIGHT,
    "*.shares": _SHARE._replace(each=True),
    **dict.fromkeys(("*.seeds_b1", "*.seeds_b2", "*.seeds_c"), _SHARE._replace(each=True)),
    "*.hide_at": TEXT,
    **dict.fromkeys(("*.cascade", "*.share_b"), SWITCH),
    "*.c_layers": Range(0, 2, whole=True),
    "*.seed_size": _PIXELS._replace(zero=True),
    **dict.fromkeys(("*.seed", "*.expand", "*.constrain", "*.segmentation", "*.explore"), _WEIGHT),
    **dict.fromkeys(("*.weight_b1", "*.weight_b2", "*.weight_c"), _WEIGHT),
    **dict.fromkeys(("*.weight_int", "*.weight_adn", "*.weight_inter"), _WEIGHT),
    **dict.fromkeys(("*.start_step", "*.ramp_steps", "*.early_steps", "*.tau"), _COUNT),
    "*.min_foreground": _COUNT,
    "*.phases": Range(1, 3, whole=True),
    "*.rounds": Range(1, 100, whole=True),
    "*.scale": Range(0, 1e6, above=True),
    "*.sigma": Range(0, 100, above=True),
    "*.min_size": _SOME,
    "*.regions": Range(1, 65535, whole=True),
    "*.drawn": Range(1, 65535, whole=True),
}

# Sections that have the same fields in every config; others may add some of their own.
_CLOSED = ("data", "train", "eval", "eval.crf", "eval.detection")
_BASE = [path for path in FIELDS if not path.startswith("*.") and path.count(".")]
_APART = ("cues", "ccnn", "region_net", "features")
_BASE = [path for path in _BASE if path.partition(".")[0] not in _APART]


def known(path: str) -> Range | Kind:
    """What a field may hold: ANY where the table does not say."""
    return FIELDS.get(path) or FIELDS.get(f"*.{path.rpartition('.')[2]}", ANY)


def check_value(path: str, value: Json, what: str = "") -> None:
    """Raises UserError for a value that a field may not have; ``what``: how to name both."""
    if value not in known(path):
        said = what or f"{path}={value!r}"
        raise UserError(f"{said[:300]}: expected {known(path)}.")


def check_values(config: Config | Mapping[str, Json], where: str = "") -> None:
    """Raises UserError for a field of another type, or out of its range; see ``check``."""
    for path, value in _flat(config):
        short = _in_stage(path)
        # None: a stage's field that does not differ from the run's.
        if value is not None or short == path:
            check_value(short, value, f"{where}{path}={value!r}")


def check(config: Config | Mapping[str, Json], where: str = "") -> None:
    """Checks every field of a whole config, and that it has those of every run.

    Args:
      where: stands before the field, such as a file's name and a colon.

    Raises:
      UserError: a field of another type or out of its range, one that is missing, or one more in a
        section that all runs share.
    """
    present = {path for path, _ in _flat(config)}
    missing = [path for path in ("method", "seed", "dtype", *_BASE) if path not in present]
    if missing:
        raise UserError(
            f"{where}the field {missing[0]!r} is missing; expected {known(missing[0])}."
        )
    check_values(config, where)
    for path in sorted(present):
        short = _in_stage(path)
        if short.rpartition(".")[0] in _CLOSED and short not in FIELDS:
            near = difflib.get_close_matches(short, _BASE, n=1, cutoff=0.0)
            raise UserError(f"{where}there is no field {path!r}; did you mean {near[0]!r}?")


def _flat(config: Config | Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in config.items():
        if isinstance(value, Config | Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _in_stage(path: str) -> str:
    """A field's path in the config of its stage."""
    return path.split(".", 2)[2] if path.startswith("stage.") and path.count(".") > 1 else path
