"""Runs against runs: means over seeds, their spread, and a paired interval over images.

python -m wsol_jax.compare runs/cam0,runs/cam1,runs/cam2 runs/spg0,runs/spg1,runs/spg2
python -m wsol_jax.compare runs/two_phase:first runs/two_phase    a part against the whole
"""

import json
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate import multi_label, score_files, segment_scores
from wsol_jax.evaluate.scores import Scores
from wsol_jax.metrics.bootstrap import Difference, bootstrap_statistic, paired_bootstrap
from wsol_jax.metrics.masks import average_precision

SHOWN = ("top1_acc", "top1_loc", "gt_known_loc", "max_box_acc", "max_box_acc_v2", "pxap")
SHOWN += (*multi_label.FIGURES.values(), *segment_scores.FIGURES)


def load_runs(workdirs: Sequence[str]) -> list[dict[str, Any]]:
    """metrics.json and per-image scores of finished runs, or of their parts (WORKDIR:PART).

    Raises:
      UserError: a folder that holds no finished run, or none with this part.
    """
    return [_load(*_split(workdir)) for workdir in workdirs]


def _split(workdir: str) -> tuple[pathlib.Path, str]:
    folder, _, part = workdir.rpartition(":")
    if not folder or pathlib.Path(workdir).is_dir():
        folder, part = workdir, ""
    return pathlib.Path(folder), part


def _load(folder: pathlib.Path, part: str) -> dict[str, Any]:
    try:
        figures = json.loads((folder / "metrics.json").read_text())
        if part and part not in figures.get("parts", {}):
            known = ", ".join(figures.get("parts", {})) or "none"
            raise UserError(f"{folder} has no part {part!r}; there are: {known}.")
        figures = figures["parts"][part] if part else figures
        paths = {name: folder / "scores" / part / f"{name}.npz" for name in figures["test"]}
        scores = {name: score_files.load_scores(path) for name, path in paths.items()}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder} holds no finished run: {error}") from None
    return {"figures": figures, "scores": scores}


def _common_ids(ids: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if any(one != ids[0] for one in ids):
        raise UserError("the runs did not score the same images: a pair needs the same test list.")
    return ids[0]


def paired_pxap(a: Sequence[Scores], b: Sequence[Scores], seed: int = 0) -> Difference:
    """Mean PxAP of b's runs minus that of a's, with a 95% interval over images.

    Every resample draws the images once and uses them for all runs: the interval is that of the
    images, the runs being what they are.

    Raises:
      UserError: the runs did not score the same images.
    """
    ids = _common_ids([s.pixels.images.ids() for s in [*a, *b]])
    rows = [[s.pixels.images.rows() for s in side] for side in (a, b)]
    flat = [[one.reshape(len(ids), -1).astype(np.float64) for one in side] for side in rows]
    shape = rows[0][0].shape[1:]

    def difference(counts: np.ndarray) -> np.ndarray:
        means = [
            np.mean(
                [average_precision((counts @ hist).reshape(-1, *shape)) for hist in side], axis=0
            )
            for side in flat
        ]
        return means[1] - means[0]

    low, high = bootstrap_statistic(difference, len(ids), seed=seed)
    return Difference(float(difference(np.ones((1, len(ids))))[0]), low, high)


def paired_gt_known(
    a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]], name: str, seed: int = 0
) -> Difference:
    """Mean GT-known accuracy of b's runs minus that of a's, each at its own tune threshold.

    Raises:
      UserError: the runs did not score the same images.
    """
    _common_ids([run["scores"][name].boxes.images.ids() for run in [*a, *b]])
    means = [
        np.mean(
            [run["scores"][name].boxes.gt_known_hits(run["figures"]["threshold"]) for run in side],
            axis=0,
        )
        for side in (a, b)
    ]
    difference = means[1] - means[0]
    low, high = bootstrap_statistic(
        lambda counts: counts @ difference / len(difference), len(difference), seed=seed
    )
    return Difference(float(difference.mean()), low, high)


def _means(a: Sequence[Any], b: Sequence[Any]) -> dict[str, Difference]:
    try:
        return score_files.compare_means(a, b)
    except ValueError as error:
        raise UserError(f"{error}: a pair needs the same test list.") from None


def obstacle(a: Scores, b: Scores) -> str:
    """Why the images of two runs cannot be paired, as the end of a sentence; "" if they can."""
    ids = [set(s.hits.images.ids()) for s in (a, b)]
    if ids[0] != ids[1]:
        shared = len(ids[0] & ids[1])
        return f"did not score the same images ({len(ids[0])} and {len(ids[1])}, {shared} in both)"
    truths = [{i: s.class_names[c[0]] for i, c in s.classes.items()} for s in (a, b)]
    if any(truths[0][i] != truths[1][i] for i in truths[0].keys() & truths[1].keys()):
        return "give the same images other classes"
    return ""


def paired_figures(
    a: Scores, b: Scores, thresholds: tuple[float, float], seed: int = 0
) -> dict[str, Difference]:
    """b's figures minus a's, each with its 95% interval over images, as far as both know them.

    Args:
      thresholds: of a's and of b's boxes, for gt_known_loc; on the grid of .001.
    Returns:
      By the names of metrics.json; a figure is left out where it is known of other images.
    """
    found = {}
    for name in a.hits.names:
        (ids_a, hits_a), (ids_b, hits_b) = a.hits.values(name), b.hits.values(name)
        if ids_a and ids_a == ids_b:
            found[name] = paired_bootstrap(hits_a, hits_b, seed)
    if len(a.boxes) and a.boxes.images.ids() == b.boxes.images.ids():
        hits = [s.boxes.gt_known_hits(t) for s, t in zip((a, b), thresholds, strict=True)]
        found["gt_known_loc"] = paired_bootstrap(*hits, seed)
        found |= a.boxes.compare(b.boxes, seed)
    if len(a.pixels) and a.pixels.images.ids() == b.pixels.images.ids():
        found["pxap"] = a.pixels.compare(b.pixels, seed)
    return found


def compare(side_a: Sequence[str], side_b: Sequence[str]) -> dict[str, Any]:
    """Figures of two sets of runs on every test list that all of them scored.

    Returns:
      {LIST: {"a" / "b": {figure: {"mean", "low", "high" of the seeds}},
      "b-a": {"pxap" / "gt_known_loc", or else each figure:
      {"value", "interval_95"}}}}.

    Raises:
      UserError: an unfinished run, no common test list, or one of other images.
    """
    a, b = load_runs(side_a), load_runs(side_b)
    lists = [n for n in a[0]["scores"] if all(n in run["scores"] for run in [*a, *b])]
    if not lists:
        raise UserError("the runs have no test list in common.")
    result: dict[str, Any] = {}
    for name in lists:
        entry: dict[str, Any] = {}
        for side, runs in (("a", a), ("b", b)):
            entry[side] = {}
            for figure in SHOWN:
                values = [run["figures"]["test"][name].get(figure) for run in runs]
                if None not in values:
                    entry[side][figure] = {
                        "mean": float(np.mean(values)),
                        "low": float(min(values)),
                        "high": float(max(values)),
                    }
        entry["b-a"] = {}
        pairs = {}
        scores = [[run["scores"][name] for run in side] for side in (a, b)]
        kinds = {type(one) for side in scores for one in side}
        if len(kinds) > 1:
            raise UserError(
                f"{name}: the runs were scored by different figures there: boxes of one label, "
                "maps of several, or segmentations."
            )
        if kinds != {Scores}:
            pairs |= _means(*scores)
        if "pxap" in entry["a"] and "pxap" in entry["b"]:
            pairs["pxap"] = paired_pxap(*scores)
        if "gt_known_loc" in entry["a"] and "gt_known_loc" in entry["b"]:
            pairs["gt_known_loc"] = paired_gt_known(a, b, name)
        for figure, pair in pairs.items():
            entry["b-a"][figure] = {"value": pair.value, "interval_95": [pair.low, pair.high]}
        result[name] = entry
    return result


def table(result: dict[str, Any]) -> str:
    """``compare``'s result as text: means in %, lowest and highest seed, paired differences."""
    lines = []
    for name, entry in result.items():
        lines.append(f"{name}{'a':>28}{'b':>24}{'b - a [95% over images]':>32}")
        for figure in SHOWN:
            if not any(figure in entry[side] for side in ("a", "b")):
                continue
            cells = []
            for side in ("a", "b"):
                v = entry[side].get(figure)
                cells.append(
                    f"{100 * v['mean']:.1f} ({100 * v['low']:.1f}-{100 * v['high']:.1f})"
                    if v
                    else "-"
                )
            pair = entry["b-a"].get(figure)
            tail = ""
            if pair:
                low, high = pair["interval_95"]
                tail = f"{100 * pair['value']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            lines.append(f"  {figure:16}{cells[0]:>24}{cells[1]:>24}{tail:>28}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command; two comma-joined lists of workdirs, and --out=FILE for JSON."""
    out = [x.removeprefix("--out=") for x in arguments if x.startswith("--out=")]
    sides = [x.split(",") for x in arguments if not x.startswith("--")]
    if len(sides) != 2 or len(out) > 1 or len(sides) + len(out) != len(arguments):
        print("usage: python -m wsol_jax.compare A1,A2,... B1,B2,... [--out=FILE]", file=sys.stderr)
        return 2
    try:
        result = compare(*sides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(result))
    if out:
        pathlib.Path(out[0]).write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
