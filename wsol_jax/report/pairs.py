"""Runs in pairs: by how much their figures differ, and on which images most."""

import html
import itertools
import math
from collections.abc import Mapping, Sequence

from wsol_jax.evaluate.figures import FIGURES
from wsol_jax.evaluate.results import Results
from wsol_jax.metrics.bootstrap import RESAMPLES, Difference
from wsol_jax.report import cards, cases, tables
from wsol_jax.report.example import Example, Run

_WIDTH, _HEIGHT = 180, 20  # of the picture of an interval


def partners(runs: Mapping[str, Run]) -> list[tuple[str, str]]:
    """The pairs that a page shows: every later run against the first."""
    names = list(runs)
    return [(names[0], other) for other in names[1:]]


def common_lists(a: Run, b: Run) -> list[str]:
    """The lists whose images are known one by one in both runs."""
    return [name for name in a.scores if name in b.scores]


def obstacles(runs: Mapping[str, Run]) -> list[str]:
    """A sentence for each list and pair of runs that cannot be compared image by image."""
    sentences = []
    for name, run in runs.items():
        known = any(s.class_names for s in run.scores.values())
        if run.figures.get("test") and not known:
            sentences.append(
                f"{name} was scored before classes and IoUs were kept image by image: "
                "--mode=evaluate on its folder adds them."
            )
    for first, other in partners(runs):
        a, b = runs[first], runs[other]
        lists = [list(r.figures.get("test", {})) for r in (a, b)]
        if all(lists) and not set(lists[0]) & set(lists[1]):
            sentences.append(
                f"{first} ({', '.join(lists[0])}) and {other} ({', '.join(lists[1])}) have no "
                "test list in common: nothing can be paired."
            )
        for name in common_lists(a, b):
            if why := a.scores[name].obstacle(b.scores[name]):
                sentences.append(f"{first} and {other} {why} of list {name}: it is not paired.")
    return sentences


def comparable(runs: Mapping[str, Run]) -> set[str]:
    """The lists whose figures may be ranked: no two runs are known to have scored other images."""
    names = {name for run in runs.values() for name in run.figures.get("test", {})}
    for first, other in partners(runs):
        a, b = runs[first], runs[other]
        names -= {n for n in common_lists(a, b) if a.scores[n].obstacle(b.scores[n])}
    return names


def paired_lists(a: Run, b: Run) -> list[str]:
    """The lists on which both runs scored the same images."""
    return [name for name in common_lists(a, b) if not a.scores[name].obstacle(b.scores[name])]


def _differences(a: Run, b: Run, name: str) -> tuple[dict[str, Difference], int]:
    """Paired figures of a list, b - a, and how many images they are of."""
    if name not in paired_lists(a, b):
        return {}, 0
    one, other = a.scores[name], b.scores[name]
    found = type(one).paired([one], [other], ([a.threshold], [b.threshold]))
    return found, len(one)


def difference_table(name: str, runs: Mapping[str, Run]) -> str:
    """A list's paired differences, each other run minus the first; "" where nothing is paired."""
    blocks = []
    for first, other in partners(runs):
        a, b = runs[first], runs[other]
        found, count = _differences(a, b, name)
        if found:
            blocks.append((first, other, found, count))
    if not blocks:
        return ""
    reach = max(
        (max(abs(d.low), abs(d.high)) for _, _, found, _ in blocks for d in found.values()),
        default=0,
    )
    lines = ['<div class="scroll"><table class="pairs">']
    for first, other, found, count in blocks:
        a, b = html.escape(first), html.escape(other)
        lines.append(
            f'<tbody><tr class="group"><th scope="col">{b} {tables.MINUS} {a}, {count:,} images'
            f'</th><th scope="col">{a}</th><th scope="col">{b}</th><th scope="col">'
            'difference</th><th scope="col">95 % interval</th><td></td></tr>'
        )
        values = [runs[n].figures.get("test", {}).get(name, {}) for n in (first, other)]
        for figure in (f for f in FIGURES if f.key in found):
            note = f"<small>{html.escape(figure.meaning)}</small>" if figure.meaning else ""
            d = found[figure.key]
            named = zip((a, b), values, strict=True)
            cells = "".join(
                f'<td data-label="{n}">{tables.percent(v.get(figure.key))}</td>' for n, v in named
            )
            sure = ' class="best"' if d.low > 0 or d.high < 0 else ""
            ends = " … ".join(tables.points(v, signed=True) for v in (d.low, d.high))
            lines.append(
                f'<tr><th scope="row">{html.escape(figure.label)}{note}</th>{cells}'
                f'<td{sure} data-label="difference">{tables.points(d.value, signed=True)}</td>'
                f'<td data-label="95 % interval">{ends}</td><td>{_picture(d, reach)}</td></tr>'
            )
        lines.append("</tbody>")
    lines.append("</table></div>")
    note = (
        f"Differences in points. The intervals come from {RESAMPLES:,} resamples of the images, "
        "the same for both runs, and say nothing of other training seeds. Bold: zero lies outside."
    )
    return "\n".join(lines) + f'<p class="quiet note">{note}</p>'


def differ_most(
    a: Results, b: Results, count: int, among: set[str] | None = None
) -> tuple[list[str], list[str]]:
    """The images on which two runs' boxes differ most in IoU, each at its own run's threshold.

    Args:
      a, b: of the same list; an image that only one has an IoU of is left out.
      among: ids to choose from; None for all.
    Returns:
      Ids where b's IoU is higher, furthest first, and ids where a's is; at most ``count`` each.
    """
    ious = dict(a.ious.items())
    gaps = {
        i: float(v) - float(ious[i])
        for i, v in b.ious.items()
        if i in ious and (among is None or i in among)
    }
    up = sorted((i for i in gaps if gaps[i] > 0), key=lambda i: (-gaps[i], i))
    down = sorted((i for i in gaps if gaps[i] < 0), key=lambda i: (gaps[i], i))
    return up[:count], down[:count]


def shelves(
    runs: Mapping[str, Run], count: int, photos: cases.Photos
) -> list[tuple[str, str, list[dict[str, Example]]]]:
    """[(heading, note, cards)]: for each pair and list the images that differ most, both ways.

    Args:
      count: cards of each pair and direction over all lists.
    """
    found = []
    for first, other in partners(runs):
        a, b = runs[first], runs[other]
        # The union of several lists shows nothing that its parts do not.
        lists = [n for n in paired_lists(a, b) if "+" not in n and a.scores[n].boxes]
        for name in lists:
            known = a.scores[name].ious.ids()
            among = cases.pictured(a, name) & cases.pictured(b, name)
            share = max(2, count // len(lists))
            chosen = differ_most(a.scores[name], b.scores[name], share, among)
            ids = list(itertools.chain(*chosen))
            # What one run's gallery shows the other's may not.
            seen = {e.image_id: e.image for r in (a, b) for e in r.examples if e.split == name}
            seen |= photos(name, [i for i in ids if i not in seen])
            pictures = {
                n: {e.image_id: e for e in cases.examples(runs[n], name, ids, seen)}
                for n in (first, other)
            }
            for better, worse, mine in ((other, first, chosen[0]), (first, other, chosen[1])):
                if not mine:
                    continue
                where = "all images" if among >= set(known) else f"the {len(among)} kept images"
                note = f"furthest ahead in IoU of {where}, each run at its own threshold"
                if missing := sum(i not in seen for i in mine):
                    note += f"; {missing} photos are not on this machine"
                pairs = [{n: pictures[n][i] for n in (first, other)} for i in mine]
                prefix = f"{name}: " if len(lists) > 1 else ""
                found.append((f"{prefix}{better} ahead of {worse}", note, pairs))
    return found


def section(shelves: Sequence, maps: cards.MapStore, index: Mapping[str, int]) -> list[str]:
    """The shelves as HTML."""
    return [
        cards.section(heading, note, chosen, maps, {n: index[n] for n in chosen[0]}, "")
        for heading, note, chosen in shelves
    ]


def _picture(d: Difference, reach: float) -> str:
    """An interval as a line on a scale that all rows share, zero in the middle."""
    if not all(map(math.isfinite, (d.low, d.value, d.high))):
        return ""
    scale = (_WIDTH / 2 - 6) / (reach or 1)
    low, value, high = (round(_WIDTH / 2 + scale * v, 1) for v in (d.low, d.value, d.high))
    middle, zero = _HEIGHT / 2, _WIDTH / 2
    return (
        f'<svg class="interval" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">'
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="{_HEIGHT}"/>'
        f'<line class="span" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{value}" cy="{middle}" r="3.6"/></svg>'
    )
