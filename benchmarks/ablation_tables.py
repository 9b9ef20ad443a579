"""The paper's tables beside the figures of finished runs, as JSON and as Markdown."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ablation_runs import trained_as
from configs.hide_and_seek import TABLES, VARIANTS, Row
from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.compare import compare
from wsol_jax.evaluate.segments import BEFORE_CRF

TITLES = {
    "I": "the features of the class maps",
    "II": "how many class-map networks",
    "III": "hidden patches",
    "IV": "the CRF in training",
    "V": "the filter at test time",
    "VI": "the switch",
    "VII": "end to end",
}
FIGURES = ("pixel_accuracy", "miou")
_PARTS = {"before": f":{BEFORE_CRF}", "after": ""}  # of a run's figures, as compare names them

Runs = Mapping[str, Mapping[int, pathlib.Path]]  # the folders of finished runs, by variant and seed
Json = dict[str, Any]


def read_run(folder: pathlib.Path) -> Json:
    """A finished run's figures on its test list (of several: on all together), and its seconds.

    ``trained_as``: the variant whose training it shares; its own seconds are those of scoring.

    Raises:
      UserError: no finished run of a segmenter, or one whose test list has no masks.
    """
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        name = list(metrics["test"])[-1]
        sides = {"before": metrics["parts"][BEFORE_CRF], "after": metrics}
        lists = {side: part["test"][name] for side, part in sides.items()}
        found = {side: {f: own[f] for f in FIGURES} for side, own in lists.items()}
        seconds = {key: metrics[key] for key in ("seconds", "train_seconds")}
        images = lists["after"]["images"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{folder} holds no finished run of a segmenter: {error!r}.") from None
    if None in [value for side in found.values() for value in side.values()]:
        raise UserError(f"{folder}: the test list {name!r} has no masks to score by.")
    origin = trained_as(folder)
    return {"list": name, "images": images, **found, **seconds, "trained_as": origin}


def make_table(name: str, runs: Runs) -> list[Json]:
    """The rows of one table: the paper's figures in %, ours as fractions; None where unknown."""
    first = TABLES[name][0]
    return [_make_row(row, first, runs) for row in TABLES[name]]


def _make_row(row: Row, first: Row, runs: Runs) -> Json:
    own, others = runs.get(row.variant, {}), runs.get(first.variant, {})
    seeds = sorted(own.keys() & others.keys())
    by = "after" if row.after and first.after else "before"
    paper = {side: getattr(row, side) for side in _PARTS}
    difference = None
    if row is not first:
        difference = {
            "seeds": seeds,
            "by": by,
            "paper": round(paper[by][1] - getattr(first, by)[1], 2),
            "ours": {side: _pair(others, own, seeds, side) for side in _PARTS} if seeds else None,
        }
    return {
        "variant": row.variant,
        "text": VARIANTS[row.variant].text,
        "paper": {s: dict(zip(FIGURES, v, strict=True)) if v else None for s, v in paper.items()},
        "seeds": sorted(own),
        "ours": _spread([read_run(folder) for folder in own.values()]) if own else None,
        "difference": difference,
    }


def _spread(found: Sequence[Json]) -> Json:
    """Mean, lowest and highest of the seeds' figures."""
    spread: Json = {}
    for side in _PARTS:
        spread[side] = {}
        for figure in FIGURES:
            values = [one[side][figure] for one in found]
            mean = sum(values) / len(values)
            spread[side][figure] = {"mean": mean, "low": min(values), "high": max(values)}
    return spread


def _pair(
    a: Mapping[int, pathlib.Path], b: Mapping[int, pathlib.Path], seeds: Sequence[int], side: str
) -> Json:
    """b - a of each figure over the same seeds, with its 95% interval over images."""
    sides = [[f"{runs[seed]}{_PARTS[side]}" for seed in seeds] for runs in (a, b)]
    found = compare(*sides)
    pairs = found[list(found)[-1]]["b-a"]
    return {figure: pairs[figure] for figure in FIGURES}


def markdown(tables: Mapping[str, Sequence[Json]]) -> str:
    """The tables as a page's text: pixel accuracy and mean IoU in %."""
    return "\n\n".join(_markdown(name, rows) for name, rows in tables.items())


def _markdown(name: str, rows: Sequence[Json]) -> str:
    titles = ["", "paper, before the CRF", "ours, before", "paper, after", "ours, after"]
    titles += ["ours: mean IoU above the first row's", "paper's"]
    lines = [f"Table {name}: {TITLES[name]}", "", _line(titles), _line(["---"] * len(titles))]
    for row in rows:
        cells = [row["text"]]
        for side in _PARTS:
            cells += [_paper(row["paper"][side]), _ours(row["ours"], side)]
        lines.append(_line([*cells, *_difference(row["difference"])]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _paper(figures: Mapping[str, float] | None) -> str:
    return " / ".join(f"{figures[name]:.2f}" for name in FIGURES) if figures else "-"


def _ours(spread: Json | None, side: str) -> str:
    if spread is None:
        return "-"
    cells = []
    for figure in FIGURES:
        mean, low, high = (100 * spread[side][figure][key] for key in ("mean", "low", "high"))
        cells.append(f"{mean:.1f}" + (f" ({low:.1f}-{high:.1f})" if low < high else ""))
    return " / ".join(cells)


def _difference(found: Json | None) -> tuple[str, str]:
    """Ours with its interval, and the paper's."""
    if found is None:
        return "", ""
    note = "" if found["by"] == "after" else " before the CRF"
    paper = f"{found['paper']:+.2f}{note}"
    if found["ours"] is None:
        return "-", paper
    pair = found["ours"][found["by"]]["miou"]
    low, high = pair["interval_95"]
    return f"{100 * pair['value']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{note}", paper
