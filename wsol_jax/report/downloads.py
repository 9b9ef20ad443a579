"""The figures of a page's runs, and what is known of each image, for its buttons to save as files.

They stand in the page itself, deflated: it asks for nothing outside, and is whole without its run.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence

from wsol_jax.evaluate.box_scores import BoxScores
from wsol_jax.evaluate.multi_label_scores import PRESENT, MultiLabelScores
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.report.example import Run

Cell = str | int | float | bool | None
Rows = list[dict[str, Cell]]


def buttons(runs: Mapping[str, Run]) -> str:
    """The buttons; hidden until the page's script can do what they say."""
    kinds = {"figures": "Figures"}
    if any(results_of(run) for run in runs.values()):
        kinds["images"] = "Image by image"
    each = "".join(
        f"<span>{words}"
        + "".join(
            f'<button type="button" data-save="{kind}" data-as="{form}">{form.upper()}</button>'
            for form in ("csv", "json")
        )
        + "</span>"
        for kind, words in kinds.items()
    )
    return f'<p class="saves" hidden>{each}</p>'


def payload(runs: Mapping[str, Run]) -> str:
    """What the buttons save: {"figures" / "images": {"columns": names, "rows": cells}}, packed."""
    tables = {"figures": figures(runs), "images": images(runs)}
    plain = {name: _table(rows) for name, rows in tables.items()}
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(zlib.compress(text, 9)).decode("ascii")


def figures(runs: Mapping[str, Run]) -> Rows:
    """A row a figure of each run, list and part, with its 95% interval where there is one."""
    rows: Rows = []
    for name, run in runs.items():
        parts = {"": run.figures, **run.figures.get("parts", {})}
        for part, entry in parts.items():
            for split, values in entry.get("test", {}).items():
                spans = values.get("intervals_95") or {}
                for key, value in values.items():
                    if not isinstance(value, int | float):
                        continue
                    row = {"list": split, "part": part, "figure": key, "value": _cell(value)}
                    row |= _ends(spans.get(key))
                    rows.append({"run": name, **row} if name else row)
    return rows


def _ends(interval: Sequence[float] | None) -> dict[str, Cell]:
    """An interval as metrics.json has it, whoever wrote that."""
    known = isinstance(interval, list | tuple) and len(interval) == 2
    known = known and all(isinstance(end, int | float) for end in interval)
    low, high = interval if known else (None, None)
    return {"low_95": _cell(low), "high_95": _cell(high)}


def images(runs: Mapping[str, Run]) -> Rows:
    """A row an image of each run and list: what was said of it, and how right that was."""
    rows: Rows = []
    for name, run in runs.items():
        for split, results in results_of(run).items():
            for row in _images(results, run.threshold):
                row = {"list": split, **row}
                rows.append({"run": name, **row} if name else row)
    return rows


def results_of(run: Run) -> dict[str, Results]:
    """A run's per-image results; the union of several lists adds nothing to its parts."""
    return {n: r for n, r in run.scores.items() if "+" not in n or len(run.scores) == 1}


def _images(results: Results, threshold: float) -> Rows:
    if isinstance(results, BoxScores):
        return _boxes(results, threshold)
    if isinstance(results, MultiLabelScores):
        return _several(results)
    if isinstance(results, SegmentationScores):
        return [{"image": i, "iou": _cell(float(iou), 4)} for i, iou in results.ious.items()]
    return []


def _boxes(results: BoxScores, threshold: float) -> Rows:
    ious, sure = dict(results.ious.items()), dict(results.confidence.items())
    classes = dict(results.classes.items())
    found: dict[str, dict[str, bool]] = {}
    if len(results.boxes):
        hits = results.boxes.gt_known_hits(threshold)
        for image_id, hit in zip(results.boxes.images.ids(), hits, strict=True):
            found.setdefault(image_id, {})["gt_known_loc"] = bool(hit)
    for key in results.hits.names:
        for image_id, hit in zip(*results.hits.values(key), strict=True):
            found.setdefault(image_id, {})[key] = bool(hit)
    rows: Rows = []
    for image_id in results.ids():
        names = [results.class_names[c] for c in classes[image_id]] if image_id in classes else []
        label, said = names or (None, None)
        row: dict[str, Cell] = {"image": image_id, "class": label, "predicted": said}
        row["score"] = _cell(sure.get(image_id), 4)
        row["iou"] = _cell(ious.get(image_id), 4)
        rows.append({**row, **found.get(image_id, {})})
    return rows


def _several(results: MultiLabelScores) -> Rows:
    rows: Rows = []
    for image_id, row in results.presence.images.items():
        scores, shown = row[:, 0], row[:, 1] > 0
        named = lambda which: ";".join(
            n for n, yes in zip(results.class_names, which, strict=True) if yes
        )
        entry: dict[str, Cell] = {"image": image_id, "classes": named(shown)}
        entry["predicted"] = named(scores >= PRESENT)
        each = zip(results.class_names, scores, strict=True)
        rows.append({**entry, **{f"score of {n}": _cell(float(s), 4) for n, s in each}})
    return rows


def _cell(value: float | int | None, digits: int = 6) -> Cell:
    """A number as JSON holds it, of so many digits; None for one that is none."""
    if value is None or isinstance(value, bool | int):
        return value
    value = float(value)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _table(rows: Sequence[Mapping[str, Cell]]) -> dict[str, list]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "rows": [[row.get(name) for name in columns] for row in rows]}
