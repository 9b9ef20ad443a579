"""Accumulated per-image results -> each metric's value, interval and circumstances, and a table."""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from wsol_jax.metrics.bootstrap import bootstrap_interval
from wsol_jax.metrics.localization import BoxAccuracy, HitRates
from wsol_jax.metrics.masks import PixelAP

BOX_METRICS = ("max_box_acc", "max_box_acc_v2", "gt_known_loc")
CLASS_METRICS = ("top1_acc", "top5_acc")
TOP_LOC_METRICS = ("top1_loc", "top5_loc")
NEED_BOXES = (*BOX_METRICS, *TOP_LOC_METRICS)
NEED_MASKS = ("pxap",)
NEED_CLASSES = (*CLASS_METRICS, *TOP_LOC_METRICS)
METRICS = (*BOX_METRICS, *NEED_MASKS, *CLASS_METRICS, *TOP_LOC_METRICS)


class Entry(TypedDict, total=False):
    """A metric as ``--out`` writes it; see ``summarise``."""

    value: float | None
    interval: list[float] | None
    images: int
    skipped: int
    threshold: float
    threshold_from: str
    deltas: dict[str, float]


def summarise(
    metrics: Sequence[str],
    boxes: BoxAccuracy,
    pixels: PixelAP,
    hits: HitRates,
    threshold: tuple[float, str] | None,
) -> dict[str, Entry]:
    """Every metric with its 95% bootstrap interval over images.

    Args:
      metrics: of ``METRICS``.
      boxes, pixels, hits: of the images whose truth is known.
      threshold: of gt_known_loc and the Top-k localizations, and where it comes from in words.
    Returns:
      metric -> {"value": fraction, "interval": [low, high], "images": how many count}, and
      "threshold", "threshold_from", "deltas" where they say something. A value that cannot be
      computed is None.
    """
    result: dict[str, Entry] = {}
    computed = boxes.compute() if len(boxes) else {}
    at = dict(zip(("threshold", "threshold_from"), threshold or (), strict=False))
    for name in metrics:
        if name in ("max_box_acc", "max_box_acc_v2"):
            span = boxes.interval(name) if len(boxes) else None
            result[name] = _entry(computed.get(name, math.nan), span, len(boxes))
        elif name == "gt_known_loc":
            found = boxes.gt_known_hits(threshold[0]) if len(boxes) else ()
            value = float(found.mean()) if len(found) else math.nan
            span = bootstrap_interval(found) if len(found) else None
            result[name] = _entry(value, span, len(found)) | at
        elif name == "pxap":
            value = pixels.compute() if len(pixels) else math.nan
            span = pixels.interval() if len(pixels) else None
            result[name] = _entry(value, span, len(pixels))
        else:
            _, found = hits.values(name)
            value = float(found.mean()) if len(found) else math.nan
            span = bootstrap_interval(found) if len(found) else None
            located = at if name in TOP_LOC_METRICS else {}
            result[name] = _entry(value, span, len(found)) | located
    if "max_box_acc" in result and len(boxes):
        result["max_box_acc"]["threshold"] = boxes.best_threshold()
    if "max_box_acc_v2" in result and len(boxes):
        best = boxes.curves()[1].max(axis=-1)
        deltas = {f"{d:g}": float(v) for d, v in zip(boxes.deltas, best, strict=True)}
        result["max_box_acc_v2"]["deltas"] = deltas
    return result


def _entry(value: float, span: tuple[float, float] | None, images: int) -> Entry:
    known = not math.isnan(value)
    return {
        "value": float(value) if known else None,
        "interval": [float(x) for x in span] if known and span else None,
        "images": images,
    }


def table(result: Mapping[str, Entry]) -> str:
    """``summarise``'s result as text, in %."""
    lines = [f"{'metric':<16}{'value':>8}   {'95% interval':<16}{'images':>8}"]
    for name, entry in result.items():
        value, span = "-", "-"
        if entry["value"] is not None:
            low, high = entry["interval"]
            value, span = f"{100 * entry['value']:.2f}", f"{100 * low:.2f} - {100 * high:.2f}"
        lines.append(f"{name:<16}{value:>8}   {span:<16}{entry['images']:>8}   {_note(entry)}")
    return "\n".join(line.rstrip() for line in lines)


def _note(entry: Entry) -> str:
    if "deltas" in entry:
        parts = entry["deltas"]
        return f"IoU {' / '.join(parts)}: {' / '.join(f'{100 * v:.2f}' for v in parts.values())}"
    if "threshold" not in entry:
        return ""
    source = entry.get("threshold_from", "best on these images")
    return f"threshold {entry['threshold']:.3f} ({source})"
