"""Which class is taken for which: of images, of pixels, and of the classes of one image."""

import html
from collections.abc import Mapping, Sequence

import numpy as np

from wsol_jax.evaluate.box_scores import BoxScores
from wsol_jax.evaluate.multi_label_scores import PRESENT, MultiLabelScores
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.segment_scores import BACKGROUND, SegmentationScores
from wsol_jax.report import downloads, shell, tables
from wsol_jax.report.example import Run

_MOST = 24  # classes of a matrix that can be read
_MISTAKES = 20  # rows, where there are more classes
_LEVELS = 9  # shades of a share


def part(runs: Mapping[str, Run]) -> str:
    """The part of the page with a table a list and run; "" where nothing is known by image."""
    content = []
    for name, run in runs.items():
        for split, results in downloads.results_of(run).items():
            words = " · ".join(filter(None, (split, name)))
            content.append((words, _table(results)))
    content = [(words, text) for words, text in content if text]
    return shell.part("Classes mixed up", shell.named(content, len(content)))


def _table(results: Results) -> str:
    if isinstance(results, BoxScores):
        return _of_images(results)
    if isinstance(results, SegmentationScores):
        return _of_pixels(results)
    return _of_several(results) if isinstance(results, MultiLabelScores) else ""


def _of_images(results: BoxScores) -> str:
    """Images by their class (rows) and the class that is named first (columns)."""
    pairs, names = results.classes.rows(), results.class_names
    if not len(pairs) or len(names) < 2:
        return ""
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    wrong = len(pairs) - int(np.trace(counts))
    said = f"{wrong:,} of {len(pairs):,} images are taken for another class."
    if np.count_nonzero(counts.sum(0) + counts.sum(1)) > _MOST:
        return _mistakes(counts, names) + _note(f"{said} The most frequent mistakes.")
    words = f"{said} A row for each class, a column for what its images are taken for."
    return matrix(counts, names, "images") + _note(words)


def _of_pixels(results: SegmentationScores) -> str:
    """Pixels by their class (rows) and the class that was found (columns), in per cent of a row."""
    counts, names = results.confusion.counts, (BACKGROUND, *results.class_names)
    if not counts.sum() or np.count_nonzero(counts.sum(0) + counts.sum(1)) > _MOST:
        return ""
    words = "A row for each class, a column for what its pixels are taken for, in per cent."
    return matrix(counts, names, "pixels", shares=True) + _note(words)


def matrix(counts: np.ndarray, names: Sequence[str], what: str, shares: bool = False) -> str:
    """A confusion matrix as a table, of the classes that occur.

    Args:
      counts: (C, C) whole numbers, the truth in rows.
      what: is counted. shares: write the per cent of a row instead.
    """
    shown = np.flatnonzero(counts.sum(0) + counts.sum(1))
    heads = "".join(f'<th scope="col"><span>{html.escape(names[c])}</span></th>' for c in shown)
    lines = [
        '<div class="scroll"><table class="matrix"><thead>'
        f'<tr><th scope="col">taken for</th>{heads}</tr></thead><tbody>'
    ]
    for c in shown:
        total = int(counts[c].sum())
        cells = []
        for other in shown:
            count = int(counts[c, other])
            share = count / total if total else 0.0
            level = 0 if not count else min(_LEVELS, 1 + int(share * _LEVELS))
            kind = "right" if other == c else "wrong"
            text = (f"{100 * share:.0f}" if share >= 0.005 else "&lt;1") if shares else str(count)
            told = f"{names[c]} taken for {names[other]}: {count:,} of {total:,} {what}"
            cells.append(
                f'<td class="{kind} q{level}" title="{html.escape(told)}">'
                f"{text if count else ''}</td>"
            )
        lines.append(f'<tr><th scope="row">{html.escape(names[c])}</th>{"".join(cells)}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _mistakes(counts: np.ndarray, names: Sequence[str]) -> str:
    """The most frequent mistakes, where a matrix would be too large to read."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MISTAKES]
    rows = []
    for c, other in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := int(wrong[c, other]):
            share = tables.percent(count / counts[c].sum())
            rows.append((names[c], names[other], f"{count:,}", share))
    heads = ("Class", "Taken for", "Images", "Of the class")
    return _plain(heads, rows, named=2) if rows else ""


def _of_several(results: MultiLabelScores) -> str:
    """Precision and recall of each class of images that may show several."""
    rows = results.presence.images.rows()
    if not len(rows):
        return ""
    said, shown = rows[..., 0] >= PRESENT, rows[..., 1] > 0
    lines = []
    for c, name in enumerate(results.class_names):
        both = int((said[:, c] & shown[:, c]).sum())
        images, named = int(shown[:, c].sum()), int(said[:, c].sum())
        if images or named:
            precision, recall = (both / n if n else float("nan") for n in (named, images))
            cells = (tables.points(precision), tables.points(recall))
            lines.append((name, str(images), str(named), str(both), *cells))
    heads = ("Class", "Images", "Said", "Of these right", "Precision", "Recall")
    words = (
        f"A class is said to be there where its score is {PRESENT:g} or more. Precision: how many "
        "of these images show it; recall: how many of the images that show it are said; in per "
        "cent."
    )
    table = _plain(heads, lines)
    if len(lines) > _MOST:
        table = f"<details><summary>All {len(lines)} classes</summary>{table}</details>"
    return table + _note(words)


def _plain(heads: Sequence[str], rows: Sequence[Sequence[str]], named: int = 1) -> str:
    """A table that a click on a heading orders; the first ``named`` columns hold names."""
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    lines = [
        f'<div class="scroll"><table class="classes sortable"><thead><tr>{head}</tr></thead><tbody>'
    ]
    for first, *rest in rows:
        cells = "".join(
            f"<td{' class=name' if k + 1 < named else ''}>{html.escape(text)}</td>"
            for k, text in enumerate(rest)
        )
        lines.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _note(words: str) -> str:
    return f'<p class="quiet note">{html.escape(words)}</p>'
