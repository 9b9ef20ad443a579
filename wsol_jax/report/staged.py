"""A run in stages as a table, a row a stage: its labels, its network, and both over the rounds."""

import dataclasses
import html
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from wsol_jax.evaluate.figures import headlines
from wsol_jax.evaluate.segments import BEFORE_CRF
from wsol_jax.report import shell, svg, tables

_LABELS = "labels on the training list"
_OF_LABELS = {"miou": "mean IoU", "labelled": "labelled", "accuracy": "of these right"}
_CHANGED, _TIME = ("", "changed"), ("", "time")
_NOTE = (
    "The labels are compared with the training list's masks, which no training sees; a pixel "
    "without a label counts as missed. Changed: the share of the pixels that had another class a "
    "round before."
)

Column = tuple[str, str]  # (list, or what the figure is of; the figure)


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of a stage, or of one product of it.

    Attributes:
      name: STAGE or STAGE/PRODUCT.
      kind: the stage's name without its round.
      number: of the round, 0 where the name ends in none.
      cells: fractions by column; seconds under the time.
    """

    name: str
    kind: str
    number: int
    cells: Mapping[Column, float | None]


def rows(figures: Mapping) -> list[Row]:
    """The stages but the evaluation, in order; none where only times are known but of the last one.

    Its figures are the run's.

    Args:
      figures: metrics.json's content.
    """
    stages = figures.get("stages", {})
    trained = [name for name, own in stages.items() if "train_seconds" in own]
    last = trained[-1] if trained else ""
    found, told = [], []
    for name, own in stages.items():
        if name == last:
            own = {**own, **{key: figures.get(key, {}) for key in ("test", "parts")}}
        base, number = _split(name)
        scored = list(_cells(own))
        told += [name + product for product, _ in scored]
        if name == "evaluate" and not scored:
            continue
        for product, cells in scored or [("", {_TIME: _time(own)})]:
            found.append(Row(name + product, base + product, number, cells))
    return found if any(name != last for name in told) else []


def part(figures: Mapping) -> str:
    """The part of the page with the table and the curve; "" where there is nothing to show."""
    found = rows(figures)
    if not found:
        return ""
    drawn = curves(found)
    chart = svg.charts(drawn, "round", percent=True) if drawn else ""
    chart = f'<div class="charts wide">{chart}</div>' if chart else ""
    notes = shell.notes([_NOTE]) if any(g == _LABELS for g, _ in _columns(found)) else ""
    return shell.part("Stage by stage", _html_table(found) + notes + chart)


def text_table(figures: Mapping) -> str:
    """The same table for a terminal; "" where there is nothing to show."""
    found = rows(figures)
    if not found:
        return ""
    columns = _columns(found)
    first = max(len(row.name) for row in found) + 2
    texts = {c: [_text(row, c) for row in found] for c in columns}
    wide = {c: max(map(len, [c[1], *texts[c]])) + 2 for c in columns}
    head, names = " " * first, "stage".ljust(first)
    for group, mine in itertools.groupby(columns, key=lambda c: c[0]):
        mine = list(mine)
        short = max(0, len(group) + 2 - sum(wide[c] for c in mine))
        wide[mine[0]] += short  # room for the group's name
        head += group.rjust(sum(wide[c] for c in mine))
        names += "".join(c[1].rjust(wide[c]) for c in mine)
    lines = [
        row.name.ljust(first) + "".join(texts[c][i].rjust(wide[c]) for c in columns)
        for i, row in enumerate(found)
    ]
    return "\n".join(line.rstrip() for line in [head, names, *lines])


def curves(found: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """Figures by round, as ``svg.charts`` takes them, of the kinds of stages with several rounds.

    A kind's labels give their mean IoU, its network the first of a list's headline figures.
    """
    points: dict[str, dict[int, float]] = {}
    for row in found:
        for column in _first_of_each(row.cells):
            value = row.cells[column]
            if row.number and value is not None:
                where = "training list" if column[0] == _LABELS else column[0]
                name = f"{column[1]}/{row.kind}, {where}"
                points.setdefault(name, {})[row.number] = value
    return {name: sorted(x.items()) for name, x in points.items() if len(x) > 1}


def _split(name: str) -> tuple[str, int]:
    """A stage's kind and round: ("masks", 3) of "masks_3"."""
    found = re.fullmatch(r"(.+)_(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 0)


def _cells(own: Mapping) -> Iterable[tuple[str, dict[Column, float | None]]]:
    """("" or "/PRODUCT", cells) of a stage's figures, none where only times are known."""
    labels = own.get("labels") or {}
    products = {"": labels} if not labels or "miou" in labels else labels
    more = _network(own)
    if own.get("changed") is not None:
        more[_CHANGED] = own["changed"]
    for product, scored in products.items():
        cells = {(_LABELS, label): scored.get(key) for key, label in _OF_LABELS.items()}
        cells = {**(cells if scored else {}), **more}
        if any(value is not None for value in cells.values()):
            cells[_TIME] = _time(own)
            yield f"/{product}" if product else "", cells


def _time(own: Mapping) -> float | None:
    return own.get("train_seconds", own.get("seconds"))


def _network(own: Mapping) -> dict[Column, float | None]:
    """A network's headline figures, list by list; of a segmenter those before the CRF too."""
    cells: dict[Column, float | None] = {}
    plain = own.get("parts", {}).get(BEFORE_CRF, {}).get("test", {})
    for name, figures in own.get("test", {}).items():
        for figure in headlines():
            if figure.key in figures:
                cells[name, figure.label] = figures[figure.key]
            if figure.key == "miou" and "miou" in plain.get(name, {}):
                cells[name, f"{figure.label} before the CRF"] = plain[name]["miou"]
    return cells


def _first_of_each(columns: Iterable[Column]) -> list[Column]:
    """The first column of the labels and of each list."""
    firsts: dict[str, Column] = {}
    for group, figure in columns:
        firsts.setdefault(group, (group, figure))
    firsts.pop("", None)
    return list(firsts.values())


def _columns(found: Sequence[Row]) -> list[Column]:
    """The columns that some row has: of labels, of each list, and the rest."""
    known = dict.fromkeys(c for row in found for c in row.cells)
    lists = dict.fromkeys(group for group, _ in known if group not in (_LABELS, ""))
    order = [_LABELS, *lists, ""]
    return sorted(known, key=lambda c: (order.index(c[0]), c == _TIME))


def _text(row: Row, column: Column) -> str:
    """A cell, empty where there is no such figure of a stage."""
    if column not in row.cells:
        return ""
    value = row.cells[column]
    return tables.duration(value) if column == _TIME else tables.percent(value)


def _html_table(found: Sequence[Row]) -> str:
    columns = _columns(found)
    heads = "".join(
        f'<th scope="colgroup" colspan="{len(list(mine))}">{html.escape(group)}</th>'
        for group, mine in itertools.groupby(columns, key=lambda c: c[0])
    )
    names = "".join(f'<th scope="col">{html.escape(label)}</th>' for _, label in columns)
    lines = [
        f'<div class="scroll"><table><thead><tr><td></td>{heads}</tr>'
        f'<tr class="runs"><td></td>{names}</tr></thead>'
    ]
    rounds = {row.number for row in found} - {0}
    for number, mine in itertools.groupby(found, key=lambda row: row.number):
        head = ""
        if number and len(rounds) > 1:
            head = (
                f'<tr class="group"><th colspan="{1 + len(columns)}" scope="colgroup">'
                f"Round {number}</th></tr>"
            )
        lines.append(f"<tbody>{head}")
        for row in mine:
            cells = "".join(f"<td>{html.escape(_text(row, c))}</td>" for c in columns)
            lines.append(f'<tr><th scope="row">{html.escape(row.name)}</th>{cells}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table></div>"])
