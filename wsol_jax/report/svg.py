"""Curves as inline SVG, one small chart a quantity."""

import dataclasses
import html
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

Points = Sequence[tuple[int, float]]
_WIDTH, _HEIGHT = 360, 210
_WIDE, _TALL = 520, 270  # of ``plot``, two of which stand side by side
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 12, 42
_MOST_POINTS = 300
_GRID = 0.001  # the thresholds' steps


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of ``plot``: x and y, both (N,) in [0, 1], a marked point, and what to say of it.

    ``colour`` counts the page's colours, so that a run keeps its own in every chart.
    """

    name: str
    colour: int
    x: np.ndarray
    y: np.ndarray
    mark: tuple[float, float]
    text: str


def charts(curves: Mapping[str, Points], across: str = "step", percent: bool = False) -> str:
    """One <figure> a group of curves; a group is what stands before the first "/" of the name.

    Values that are not finite are left out; a curve of more than 300 points is drawn as the means
    of equal bins, and says so.

    Args:
      across: what the points' first numbers count.
      percent: whether the values are fractions, to be written in per cent.
    """
    groups: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, points in curves.items():
        finite = [(s, float(v)) for s, v in points if v is not None and math.isfinite(v)]
        groups.setdefault(name.split("/")[0], {})[name] = finite
    return "\n".join(_chart(group, one, across, percent) for group, one in groups.items())


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers within [low, high], about ``count`` of them: 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _chart(
    group: str, series: Mapping[str, list[tuple[int, float]]], across: str, percent: bool
) -> str:
    title = html.escape(group.replace("_", " "))
    drawn = {name: _thin(points) for name, points in series.items() if points}
    if not drawn:
        return f'<figure class="chart"><figcaption>{title}: no finite values</figcaption></figure>'
    steps = [s for points in series.values() for s, _ in points]
    values = [v for points in drawn.values() for _, v in points]
    x0, x1 = _spread(min(steps), max(steps))
    y0, y1 = _spread(min(values), max(values))
    y_ticks = ticks(y0, y1)
    if len(y_ticks) > 1:  # begin and end on a round number
        gap = y_ticks[1] - y_ticks[0]
        y0, y1 = math.floor(y0 / gap + 1e-9) * gap, math.ceil(y1 / gap - 1e-9) * gap
        y_ticks = ticks(y0, y1, round((y1 - y0) / gap))

    def at(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (step - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (value - y0) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    # No step lies between two; beside a single point there is none.
    x_ticks = [v for v in ticks(x0, x1) if abs(v - round(v)) < 1e-9]
    x_ticks = [v for v in x_ticks if min(steps) != max(steps) or v == steps[0]]
    parts = _axes(at, (x0, x_ticks), (y0, y_ticks), across, percent=percent)
    written = _percent if percent else _number
    keys = []
    for index, (name, points) in enumerate(drawn.items()):
        colour = f"s{index % 6}"
        where = [at(*p) for p in points]
        short = html.escape(name.split("/", 1)[-1].replace("_", " "))
        parts.append(_polyline(colour, short, where, points))
        if len(where) <= 30:
            parts += [f'<circle class="{colour}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in where]
        last = written(series[name][-1][1])
        mark = f'<i class="{colour}"></i>' if len(drawn) > 1 or "/" in name else ""
        shown = f"{short} " if mark else ""
        keys.append(f"<span>{mark}{shown}<b>{last}</b></span>")
    if any(len(points) < len(series[name]) for name, points in drawn.items()):
        keys.append("<span>drawn as means of bins</span>")
    alt = html.escape(
        f"{group} by {across}: "
        + "; ".join(f"{n} ends at {written(p[-1][1])}" for n, p in series.items() if p)
    )
    frame = _frame((x0, x1), (y0, y1), across, percent=percent)
    return (
        f'<figure class="chart"><figcaption><strong>{title}</strong>'
        f'<span class="keys">{"".join(keys)}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" {frame} '
        f'role="img" aria-label="{alt}">'
        f"{''.join(parts)}</svg></figure>"
    )


def plot(title: str, x_label: str, lines: Sequence[Line]) -> str:
    """One <figure> of lines over [0, 1], from zero upwards in per cent.

    Points that would fall on their neighbours' pixels are left out.
    """
    top = max((float(np.max(line.y)) for line in lines), default=0.0)
    y_ticks = ticks(0, max(top, 0.02), 5)
    if y_ticks[-1] < top:
        y_ticks.append(2 * y_ticks[-1] - y_ticks[-2])
    y1, base = y_ticks[-1], _TALL - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            round(_LEFT + x * (_WIDE - _LEFT - _RIGHT), 1),
            round(base - y / y1 * (base - _TOP), 1),
        )

    parts = _axes(at, (0, ticks(0, 1, 5)), (0, y_ticks), x_label, (_WIDE, _TALL), True)
    keys, told = [], []
    for line in lines:
        colour = f"s{line.colour % 6}"
        points = [(float(x), float(y)) for x, y in zip(line.x, line.y, strict=True)]
        kept = _distinct([at(*p) for p in points])
        where = [at(*points[k]) for k in kept]
        parts.append(_polyline(colour, html.escape(line.name), where, [points[k] for k in kept]))
        x, y = at(*map(float, line.mark))
        parts.append(f'<line class="{colour} mark" x1="{x}" x2="{x}" y1="{y}" y2="{base}"/>')
        parts.append(f'<circle class="{colour}" cx="{x}" cy="{y}" r="3.4"/>')
        name, text = html.escape(line.name), html.escape(line.text)
        keys.append(f'<span><i class="{colour}"></i>{name} <b>{text}</b></span>')
        told.append(f"{name}: {text}")
    title = html.escape(title)
    frame = _frame((0, 1), (0, y1), x_label, (_WIDE, _TALL), percent=True, grid=_GRID)
    return (
        f'<figure class="chart"><figcaption><strong>{title}</strong>'
        f'<span class="keys">{"".join(keys)}</span></figcaption>'
        f'<svg class="plot" viewBox="0 0 {_WIDE} {_TALL}" {frame} role="img" '
        f'aria-label="{title} by {html.escape(x_label)}; {"; ".join(told)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _polyline(
    colour: str, name: str, where: Sequence[tuple[float, float]], points: Sequence[tuple]
) -> str:
    """A line through places of the picture, with the values there for the page's script.

    Args:
      name: as it stands in HTML.
    """
    path = " ".join(f"{x},{y}" for x, y in where)
    values = " ".join(f"{x:.10g},{y:.5g}" for x, y in points)
    told = f'data-name="{name}" data-points="{values}"'
    return f'<polyline class="{colour}" points="{path}" {told}/>'


def _frame(across, up, label: str, size=(_WIDTH, _HEIGHT), percent=False, grid=0.0) -> str:
    """Where a chart's axes lie and what they span, for the page's script; ``grid``: its steps."""
    given = {"frame": f"{_LEFT} {size[0] - _RIGHT} {_TOP} {size[1] - _BOTTOM}"}
    given |= {"x": f"{across[0]:.10g} {across[1]:.10g}", "y": f"{up[0]:.10g} {up[1]:.10g}"}
    given |= {"across": html.escape(label)} | ({"grid": f"{grid:g}"} if grid else {})
    told = " ".join(f'data-{name}="{value}"' for name, value in given.items())
    return f"{told} data-percent" if percent else told


def _axes(at, across, up, label: str, size=(_WIDTH, _HEIGHT), percent=False) -> list[str]:
    """Grid, ticks and their numbers; ``across`` and ``up`` are (lowest value, values marked)."""
    (x0, x_ticks), (y0, y_ticks) = across, up
    base, right = size[1] - _BOTTOM, size[0] - _RIGHT
    parts = []
    for value in y_ticks:
        y = at(x0, value)[1]
        text = f"{100 * value:.3g} %" if percent else _number(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{text}</text>')
    for value in x_ticks:
        x = at(value, y0)[0]
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>')
        text = _number(value)
        parts.append(f'<text x="{x}" y="{base + 17}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text class="label" x="{(_LEFT + right) / 2}" y="{size[1] - 6}" '
        f'text-anchor="middle">{html.escape(label)}</text>'
    )
    return parts


def _distinct(path: list[tuple[float, float]]) -> list[int]:
    """Indices of a path's points but for repeated ones and the middle of a level stretch."""
    new = [i for i, p in enumerate(path) if i == 0 or p != path[i - 1]]
    ends = (0, len(new) - 1)
    level = lambda k: path[new[k - 1]][1] == path[new[k]][1] == path[new[k + 1]][1]
    return [i for k, i in enumerate(new) if k in ends or not level(k)]


def _thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= _MOST_POINTS:
        return points
    edges = [round(k * len(points) / _MOST_POINTS) for k in range(_MOST_POINTS + 1)]
    bins = [points[a:b] for a, b in itertools.pairwise(edges)]
    return [(sum(s for s, _ in b) / len(b), sum(v for _, v in b) / len(b)) for b in bins]


def _spread(low: float, high: float) -> tuple[float, float]:
    """The range itself, or room around a single value."""
    if high > low:
        return low, high
    room = abs(low) / 2 or 1.0
    return low - room, high + room


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
