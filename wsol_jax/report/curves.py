"""A run's curves as a page draws them: those of one scale in one chart."""

import pathlib
from collections.abc import Sequence

from wsol_jax.evaluate.figures import by_key
from wsol_jax.runs.history import curves

_LOCALIZATION = ("pxap", "max_box_acc")
# The chart that each curve is drawn in; what is not named has a chart of its own.
_CHARTS = {
    "train/accuracy": "accuracy/train",
    "tune/top1_acc": "accuracy/tune",
    **{f"tune/{key}": f"localization on tune/{by_key(key).label}" for key in _LOCALIZATION},
    "train/loss": "loss/total",
    "train/classification": "loss/classification",
}


def _curves_of(workdir: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """The run's curves, those of one scale under one heading."""
    named = {}
    for name, points in curves(workdir).items():
        plain = name.removeprefix("train/").replace("_", " ")
        guess = f"loss/{plain}" if plain.startswith("bce") else plain
        if name.startswith("tune/") and (figure := by_key(name.removeprefix("tune/"))):
            guess = f"tune/{figure.label}"
        named[_CHARTS.get(name, guess)] = points
    return dict(sorted(named.items(), key=lambda item: "/" not in item[0]))


def report_curves(
    workdir: pathlib.Path, stages: Sequence[str] = ()
) -> dict[str, list[tuple[int, float]]]:
    """A run's curves, or those of its stages, each under the stage's name."""
    if not stages:
        return _curves_of(workdir)
    found = {}
    for stage in stages:
        for name, points in _curves_of(workdir / stage).items():
            heading, slash, curve = name.partition("/")
            found[f"{stage} \N{MIDDLE DOT} {heading}{slash}{curve}"] = points
    return found
