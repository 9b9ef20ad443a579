"""Figures class by class: one run's, or several runs' beside one another."""

import html
import math
from collections.abc import Mapping

import numpy as np

from wsol_jax.evaluate.figures import BY_CLASS, SEVERAL
from wsol_jax.evaluate.kind import ClassFigures
from wsol_jax.report import tables

_FEW = 24  # classes that need no fold
_SHOWN = 10  # at either end of the order, where there are more


def from_figures(entry: Mapping) -> ClassFigures | None:
    """The classes of metrics.json's entry of a list, where it holds some."""
    by_class = dict(entry.get("by_class", {}))
    if not by_class:
        return None
    images = by_class.pop("images")
    values = {
        key: np.array([known.get(name, math.nan) for name in images])
        for key, known in by_class.items()
    }
    return ClassFigures(tuple(images), np.array(list(images.values())), values)


def table(runs: Mapping[str, ClassFigures]) -> str:
    """The classes of a list: all where they are few, else both ends of the order and a fold.

    One run's classes are ordered by the figure, lowest first; two runs' by the difference, the
    second run's gains first; more runs' by the range. The figure is the first that is known.
    """
    names = [n for run in runs.values() for n in run.names]
    places = [{n: i for i, n in enumerate(run.names)} for run in runs.values()]
    rows = []
    for name in dict.fromkeys(names):
        at = [(run, p[name]) for run, p in zip(runs.values(), places, strict=True) if name in p]
        images = [int(run.images[i]) for run, i in at]
        if any(images):
            values = {
                f: [
                    float(run.values[f][p[name]]) if name in p and f in run.values else math.nan
                    for run, p in zip(runs.values(), places, strict=True)
                ]
                for f, *_ in BY_CLASS
            }
            rows.append((name, images, values))
    figures = [f for f in BY_CLASS if any(np.isfinite(v[f[0]]).any() for _, _, v in rows)]
    if not figures:
        return ""
    first, label, _ = figures[0]
    ranks = {name: _rank(values[first]) for name, _, values in rows}
    rows.sort(key=lambda row: ranks[row[0]], reverse=len(runs) > 1)
    rows.sort(key=lambda row: not math.isfinite(ranks[row[0]]))  # the unknown last
    empty = len(dict.fromkeys(names)) - len(rows)
    several = any(SEVERAL & run.values.keys() for run in runs.values())
    which = "" if several else ", by each image's first class"
    note = f"{len(rows)} classes{which}; figures in per cent"
    if empty:
        note += f"; {empty} more have no image in this list"
    meanings = "; ".join(f"{name}: {meaning}" for _, name, meaning in figures)
    note = f'<p class="quiet note">{note}. {html.escape(meanings)}.</p>'
    if len(rows) <= _FEW:
        return _html(list(runs), figures, [("", rows)], "sortable") + note
    known = [row for row in rows if math.isfinite(ranks[row[0]])]
    groups = _ends(list(runs), label, known, ranks)
    every = _html(list(runs), figures, [("", rows)], "sortable")
    short = _html(list(runs), figures, groups, "") if groups else ""
    fold = f"<details><summary>All {len(rows)} classes</summary>{every}</details>"
    return f"{short}{note}{fold}"


def _rank(values: list[float]) -> float:
    """What the order goes by: a run's value, two runs' difference, the range of more."""
    if len(values) == 1:
        return values[0]
    return values[1] - values[0] if len(values) == 2 else max(values) - min(values)


def _ends(runs, label, rows, ranks):
    """[(heading, rows)]: the two ends of the order."""
    label = html.escape(label)
    if len(runs) == 1:
        half = min(_SHOWN, len(rows) // 2)
        return [
            (f"Lowest {label}", rows[:half]),
            (f"Highest {label}", rows[len(rows) - half :][::-1]),
        ]
    if len(runs) > 2:
        return [(f"Widest range of {label}", rows[:_SHOWN])]
    a, b = map(html.escape, runs)
    up = [row for row in rows if ranks[row[0]] > 0][:_SHOWN]
    down = [row for row in rows[::-1] if ranks[row[0]] < 0][:_SHOWN]
    groups = (
        (f"{label} of {b} furthest above {a}", up),
        (f"{label} of {b} furthest below {a}", down),
    )
    return [g for g in groups if g[1]]


def _html(runs, figures, groups, kind: str) -> str:
    columns = [*runs, tables.DELTA] if len(runs) == 2 else list(runs)
    # What the rows stand ordered by: the range of several runs has no column.
    order = {1: "ascending", 2: "descending"}.get(len(runs), "") if kind else ""
    head = _head(figures, columns if len(runs) > 1 else [], order)
    lines = [f'<div class="scroll"><table class="classes {kind}"><thead>{head}</thead>']
    for heading, rows in groups:
        lines.append("<tbody>")
        if heading:
            span = 2 + len(columns) * len(figures)
            lines.append(
                f'<tr class="group"><th colspan="{span}" scope="colgroup">{heading}</th></tr>'
            )
        for name, images, values in rows:
            counts = " / ".join(map(str, dict.fromkeys(images)))
            cells = "".join(_cells(values[f]) for f, *_ in figures)
            lines.append(f"<tr><th scope=row>{html.escape(name)}</th><td>{counts}</td>{cells}</tr>")
        lines.append("</tbody>")
    return "\n".join([*lines, "</table></div>"])


def _head(figures, columns, order: str) -> str:
    """The heading rows; columns of each figure, or none where a figure is a column itself."""

    def cell(text: str, first: bool) -> str:
        ordered = f' aria-sort="{order}"' if order and first else ""
        return f'<th scope="col"{ordered}>{html.escape(text)}</th>'

    lead = cell("Class", False) + cell("Images", False)
    names = [name for _, name, _ in figures]
    if not columns:
        return f"<tr>{lead}{''.join(cell(n, k == 0) for k, n in enumerate(names))}</tr>"
    over = "".join(f'<th scope="colgroup" colspan="{len(columns)}">{n}</th>' for n in names)
    under = "".join(
        cell(c, (k, i) == (0, len(columns) - 1))
        for k in range(len(names))
        for i, c in enumerate(columns)
    )
    return f'<tr><td></td><td></td>{over}</tr><tr class="runs">{lead}{under}</tr>'


def _cells(values: list[float]) -> str:
    cells = "".join(f"<td>{tables.points(v)}</td>" for v in values)
    if len(values) == 2:
        cells += f"<td class=gap>{tables.points(values[1] - values[0], signed=True)}</td>"
    return cells
