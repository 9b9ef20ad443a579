"""metrics.json as a table: what each figure means, and where its threshold came from."""

import html
import math
from collections.abc import Collection, Mapping, Sequence

from wsol_jax.base.text import printable, printable_lines
from wsol_jax.evaluate.figures import NEEDS, Figure, by_key, groups, headlines, unknown

DASH = "\N{EN DASH}"  # an unknown figure
MINUS = "\N{MINUS SIGN}"
DELTA = "\N{GREEK CAPITAL LETTER DELTA}"  # the second run minus the first

Columns = Sequence[tuple[str, str, Mapping]]  # (list's name, run's name, its figures)

# How a folder of photos comes by truth.
_WAYS = {
    "boxes": "boxes=FILE.csv (the columns image,x0,y0,x1,y1[,class])",
    "masks": "masks=FOLDER (a PNG a photo)",
}


def percent(value, digits: int = 1) -> str:
    """A fraction as per cent, anything unknown (None, NaN) as a dash, counts as they are."""
    if isinstance(value, (list, tuple)):
        return " … ".join(percent(v, digits) for v in value)
    if value is None or isinstance(value, (str, dict)):
        return DASH if not value else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    value = float(value)
    if not math.isfinite(value):
        return DASH
    return f"{100 * value:.{digits}f} %" if -1 <= value <= 1 else f"{value:,.4g}"


def points(value: float, signed: bool = False) -> str:
    """A fraction in per cent without the sign "%": 45.1, or +3.2 for a difference."""
    if not math.isfinite(value):
        return DASH
    text = f"{100 * value:{'+' if signed else ''}.1f}"
    return ("0.0" if text in ("-0.0", "+0.0") else text).replace("-", MINUS)


def duration(seconds) -> str:
    """Seconds as "7 min 12 s"."""
    if seconds is None or not math.isfinite(float(seconds)):
        return DASH
    total = round(float(seconds))
    hours, minutes = total // 3600, total % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {total % 60:02d} s" if minutes else f"{total} s"


def rows(columns: Columns) -> list[tuple[str, list[tuple[Figure, list]]]]:
    """[(heading, [(figure, value of each column)])], but for rows that no column knows.

    Figures that the table does not know come last, under their own names.
    """
    present = {key for _, _, figures in columns for key in figures}
    others = "Other figures"
    strange = [k for k in unknown(present) if not isinstance(_first(columns, k), Mapping)]
    named = {**groups(), others: [Figure(k, others, k.replace("_", " ")) for k in strange]}
    out = []
    for heading, figures in named.items():
        kept = [(f, [c.get(f.key) for _, _, c in columns]) for f in figures if f.key in present]
        kept = [(f, values) for f, values in kept if not all(map(_is_unknown, values))]
        if kept:
            out.append((heading, kept))
    return out


def without_truth(columns: Columns) -> list[str]:
    """What the lists lack that some of their figures need, and how to add it: a sentence, or none.

    A list's figures are there for all networks that it is scored on: those that need boxes are
    unknown where the list has none.
    """
    lacks: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for name, _, _ in columns):
        mine = [figures for split, _, figures in columns if split == name]
        for kind in ("boxes", "masks"):
            values = [f[k.key] for f in mine for k in _needing(kind) if k.key in f]
            if values and all(map(_is_unknown, values)):
                lacks.setdefault(name, []).append(kind)
    if not lacks:
        return []
    said = "; ".join(f"{name} has no {' and no '.join(kinds)}" for name, kinds in lacks.items())
    told = f"{said}: the figures that need them are left out"
    missing = {kind for kinds in lacks.values() for kind in kinds}
    if "boxes" in missing:
        ways = " and ".join(way for kind, way in _WAYS.items() if kind in missing)
        told += f"; a folder of photos takes {ways} after its root: docs/own_data.md"
    return [f"{told}."]


def never_found(columns: Columns) -> list[str]:
    """The classes that a segmenter found in no image, though some show them: a sentence each."""
    said = []
    for name, column, figures in columns:
        missed, classes = figures.get("never_found") or (), figures.get("classes", 0)
        if missed:
            shown = ", ".join(missed[:10]) + ", ..." * (len(missed) > 10)
            where = ", ".join(filter(None, (name, column)))
            said.append(f"{where}: {len(missed)} of {classes} classes are never found: {shown}.")
    return said


def remarks(columns: Columns) -> list[str]:
    """What has to be known to read the figures, in sentences."""
    return [*without_truth(columns), *never_found(columns)]


def _needing(kind: str) -> list[Figure]:
    """The figures that need boxes, or masks."""
    named = groups()
    return [f for heading, needs in NEEDS.items() if needs == kind for f in named[heading]]


def _is_unknown(value) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def html_table(columns: Columns, alike: Collection[str] | None = None) -> str:
    """The figures as an HTML table: a column a list, or a list and a run; the best run in bold.

    ``alike``: the lists whose runs may be ranked, having scored the same images; None for all.
    """
    if not columns:
        return '<p class="quiet">No figures yet.</p>'
    many = len({run for _, run, _ in columns}) > 1
    lists = list(dict.fromkeys(name for name, _, _ in columns))
    width = len(columns) + 1
    head = "".join(
        f'<th scope="colgroup" colspan="{sum(c[0] == name for c in columns)}">'
        f"{html.escape(name)}</th>"
        for name in lists
    )
    lines = ['<div class="scroll"><table><thead><tr><td></td>' + head + "</tr>"]
    if many:
        runs = "".join(f'<th scope="col">{html.escape(run)}</th>' for _, run, _ in columns)
        lines.append(f'<tr class="runs"><td></td>{runs}</tr>')
    lines.append("</thead>")
    for heading, entries in rows(columns):
        lines.append(
            f'<tbody><tr class="group"><th colspan="{width}" scope="colgroup">'
            f"{html.escape(heading)}</th></tr>"
        )
        for figure, values in entries:
            ranked = many and not figure.baseline and by_key(figure.key)
            best = _best(columns, values, alike) if ranked else set()
            cells = "".join(_cell(v, i in best) for i, v in enumerate(values))
            name = html.escape(figure.label)
            note = f"<small>{html.escape(figure.meaning)}</small>" if figure.meaning else ""
            kind = ' class="baseline"' if figure.baseline else ""
            lines.append(f'<tr{kind}><th scope="row">{name}{note}</th>{cells}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table></div>"])


def text_table(columns: Columns) -> str:
    """The same figures for a terminal, runs side by side, baselines under what they bound."""
    found = rows(columns)
    names = ["  " * figure.baseline + figure.label for _, rows in found for figure, _ in rows]
    if not names:
        return "no figures"
    label = max(len(n) for n in names) + 2
    heads = [printable(f"{run} {name}") for name, run, _ in columns]
    wide = [max(len(h), 8) + 2 for h in heads]
    lines = [" " * label + "".join(h.rjust(w) for h, w in zip(heads, wide, strict=True))]
    for heading, entries in found:
        lines.append(heading)
        for figure, values in entries:
            cells = "".join(percent(v).rjust(w) for v, w in zip(values, wide, strict=True))
            lines.append(("  " * figure.baseline + figure.label).ljust(label) + cells)
    return printable_lines("\n".join(lines))


def tiles(columns: Columns) -> str:
    """The headline figures of each list, large, each beside the baseline that it has to beat."""
    out = []
    most = 1
    for name, run, figures in columns:
        mine = len(out)
        for figure in headlines():
            value, bound, words = figures.get(figure.key), figures.get(figure.against), figure.words
            if not _finite(value):
                continue
            if _finite(bound):
                words = f"{points(value - bound, signed=True)} points over the {words}"
            elif figure.against:
                words = ""
            where = " · ".join(html.escape(w) for w in (name, run) if w)
            out.append(
                f'<div class="tile"><span>{figure.headline} <em>{where}</em></span>'
                f"<strong>{percent(value)}</strong><small>{words}</small></div>"
            )
        most = max(most, len(out) - mine)
    return f'<div class="tiles" style="--tiles:{most}">{"".join(out)}</div>' if out else ""


def _first(columns: Columns, key: str):
    return next(f[key] for _, _, f in columns if key in f)


def _finite(value) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _best(columns: Columns, values: list, alike: Collection[str] | None) -> set[int]:
    """Indices of the highest value within each list; none where all are equal."""
    out = set()
    names = {c[0] for c in columns}
    for name in names if alike is None else names & set(alike):
        mine = [i for i, c in enumerate(columns) if c[0] == name and _finite(values[i])]
        top = {i for i in mine if values[i] == max(values[j] for j in mine)}
        if len(top) < len(mine):
            out |= top
    return out


def _cell(value, best: bool) -> str:
    kind = ' class="best"' if best else ""
    return f"<td{kind}>{html.escape(percent(value))}</td>"
