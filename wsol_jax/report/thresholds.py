"""What a run's figures would be at other thresholds: box accuracy, and pixel precision."""

from collections.abc import Mapping

import numpy as np

from wsol_jax.evaluate.kind import Results
from wsol_jax.report import svg


def charts(runs: Mapping[str, tuple[Results, float]]) -> str:
    """The curves of a list as figures of inline SVG.

    One run has a line for each IoU; of several, each IoU has a chart and each run a line.

    Args:
      runs: name -> per-image results and the run's box threshold.
    """
    boxes = {n: (s.boxes, tau) for n, (s, tau) in runs.items() if s.boxes}
    pixels = {n: s.pixels for n, (s, _) in runs.items() if s.pixels}
    colours = {name: i for i, name in enumerate(runs)}
    figures = []
    if boxes:
        curves = {n: b.curves()[0] for n, (b, _) in boxes.items()}
        deltas = next(iter(boxes.values()))[0].deltas
        if len(runs) == 1:
            ((name, (accuracy, tau)),) = boxes.items()
            lines = [
                _line(f"IoU ≥ {d:g}", k, accuracy.thresholds, curve, tau)
                for k, (d, curve) in enumerate(zip(accuracy.deltas, curves[name], strict=True))
            ]
            figures.append(svg.plot("Box accuracy", "box threshold τ", lines))
        else:
            for k, delta in enumerate(deltas):
                lines = [
                    _line(n, colours[n], b.thresholds, curves[n][k], t)
                    for n, (b, t) in boxes.items()
                ]
                title = f"Box accuracy at IoU ≥ {delta:g}"
                figures.append(svg.plot(title, "box threshold τ", lines))
    if pixels:
        lines = []
        for name, one in pixels.items():
            tau, precision, recall = one.curve()
            quality, best = one.peak()
            at = int(np.searchsorted(tau, best))
            marked = recall > 0  # nothing lit has no precision
            lines.append(
                svg.Line(
                    name if len(runs) > 1 else "pixels",
                    colours[name],
                    recall[marked],
                    precision[marked],
                    (recall[at], precision[at]),
                    f"best IoU {100 * quality:.1f} % at score {best:.3g}",
                )
            )
        figures.append(svg.plot("Pixel precision by recall", "recall", lines))
    return f'<div class="charts wide">{"".join(figures)}</div>' if figures else ""


def _line(
    name: str, colour: int, thresholds: np.ndarray, curve: np.ndarray, tau: float
) -> svg.Line:
    at = int(np.abs(thresholds - tau).argmin())
    text = f"{100 * curve[at]:.1f} % at τ {tau:.3g}"
    return svg.Line(name, colour, thresholds, curve, (thresholds[at], curve[at]), text)
