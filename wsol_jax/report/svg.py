"""Training curves as inline SVG, one small chart a quantity."""

import html
import itertools
import math
from collections.abc import Mapping, Sequence

Points = Sequence[tuple[int, float]]
_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 12, 40
_MOST_POINTS = 300


def charts(curves: Mapping[str, Points]) -> str:
    """One <figure> a group of curves; a group is what stands before the first "/" of the name.

    Values that are not finite are left out; a curve of more than 300 points is drawn as the means
    of equal bins, and says so.
    """
    groups: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, points in curves.items():
        finite = [(s, float(v)) for s, v in points if v is not None and math.isfinite(v)]
        groups.setdefault(name.split("/")[0], {})[name] = finite
    return "\n".join(_chart(group, series) for group, series in groups.items())


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


def _chart(group: str, series: Mapping[str, list[tuple[int, float]]]) -> str:
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

    parts = []
    base = _HEIGHT - _BOTTOM
    for value in y_ticks:
        y = at(x0, value)[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{_number(value)}</text>')
    for value in ticks(x0, x1):
        if min(steps) == max(steps) and value != steps[0]:
            continue  # a single point: no other step exists
        x = at(value, y0)[0]
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>')
        label = _number(value)
        parts.append(f'<text x="{x}" y="{base + 17}" text-anchor="middle">{label}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>'
    )
    parts.append(
        f'<text class="label" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>'
    )
    keys = []
    for index, (name, points) in enumerate(drawn.items()):
        colour = f"s{index % 6}"
        where = [at(*p) for p in points]
        if len(where) > 1:
            path = " ".join(f"{x},{y}" for x, y in where)
            parts.append(f'<polyline class="{colour}" points="{path}"/>')
        if len(where) <= 30:
            parts += [f'<circle class="{colour}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in where]
        short = html.escape(name.split("/", 1)[-1].replace("_", " "))
        last = _number(series[name][-1][1])
        mark = f'<i class="{colour}"></i>' if len(drawn) > 1 or "/" in name else ""
        shown = f"{short} " if mark else ""
        keys.append(f"<span>{mark}{shown}<b>{last}</b></span>")
    if any(len(points) < len(series[name]) for name, points in drawn.items()):
        keys.append("<span>drawn as means of bins</span>")
    alt = html.escape(
        f"{group} by step: "
        + "; ".join(f"{n} ends at {_number(p[-1][1])}" for n, p in series.items() if p)
    )
    return (
        f'<figure class="chart"><figcaption><strong>{title}</strong>'
        f'<span class="keys">{"".join(keys)}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{alt}">'
        f"{''.join(parts)}</svg></figure>"
    )


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
