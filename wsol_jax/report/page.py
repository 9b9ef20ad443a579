"""One self-contained HTML page a run, and one that puts runs side by side."""

import html
import itertools
import json
import os
from collections.abc import Mapping, Sequence

from wsol_jax.base.files import write_whole
from wsol_jax.evaluate.results import ClassFigures, Results
from wsol_jax.evaluate.shown import select_examples
from wsol_jax.report import (
    cards,
    encode,
    saved,
    shell,
    staged,
    strips,
    svg,
    tables,
    thresholds,
)
from wsol_jax.report import classes as by_class
from wsol_jax.report.example import Example, Run


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    config_text: str,
    figures: Mapping,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    examples: Sequence[Example],
    threshold: float,
    worst: int = 16,
    sample: int = 32,
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    scores: Mapping[str, Results] | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Write a run's page, and report_data.npz beside it for ``compare_workdirs``.

    Args:
      path: the HTML file.
      title: heading, e.g. "SPG on voc_animals".
      config_text: the configuration, shown folded.
      figures: metrics.json's content: {"test": {LIST: {name: fraction}}, "seconds": ..., ...};
        None and NaN show as a dash.
      curves: name -> [(step, value)]; names that share what stands before "/" share a chart.
      examples: the gallery's candidates (``select_examples`` chooses beforehand where all would
        not fit into memory); each list shows its share of ``worst`` lowest IoUs and of ``sample``
        drawn at random, the same images in every run.
      threshold: box threshold tau of the run, where the slider starts.
      facts: short facts for the header by name, e.g. {"Method": "SPG", "Backbone": "vgg16"}.
      notes: sentences shown under the figures.
      scores: per-image results by list, for the curves over thresholds and the classes.
      classes: what the colours of the pictures mean, where they are segmentations.
    Raises: UserError for an example of wrong shape; OSError where the disk refuses.
    """
    shelves, shown = _choose(examples, worst, sample, boxes=not classes)
    run = Run(
        figures, shown, threshold, curves, title, config_text, facts or {}, scores or {},
        classes=tuple(classes),
    )  # fmt: skip
    maps = cards.MapStore()
    index = {"": 0}
    sections = [
        cards.section(heading, note, [{"": e} for e in chosen], maps, index)
        for heading, note, chosen in shelves
        if not classes
    ]
    columns = with_parts(figures)
    body = [
        tables.tiles([(name, "", f) for name, f in figures.get("test", {}).items()]),
        shell.part("Figures", tables.html_table(columns) + shell.notes(notes))
        if columns
        else shell.notes(notes),
        staged.part(figures),
        over_thresholds({"": run}),
        by_class_part({"": run}),
        shell.part("Training", f'<div class="charts">{svg.charts(curves)}</div>') if curves else "",
        shell.part("Gallery", strips.gallery(shelves, classes))
        if classes
        else gallery_part(sections, {"": run}),
        shell.part("Record", shell.folded("Configuration", config_text) + _folded_figures(figures)),
    ]
    write_whole(path, shell.document(title, _facts(run), body, maps, [threshold], len(shown)))
    saved.save(os.path.join(os.path.dirname(os.fspath(path)), saved.FILE), run)


def columns_of(runs: Mapping[str, Run], parts: bool = False) -> list[tuple[str, str, Mapping]]:
    """(list, run, figures), list by list, as ``tables`` takes them; ``parts`` of a single run."""
    if parts and len(runs) == 1:
        return with_parts(next(iter(runs.values())).figures)
    splits = dict.fromkeys(s for r in runs.values() for s in r.figures.get("test", {}))
    return [
        (split, name, run.figures["test"][split])
        for split in splits
        for name, run in runs.items()
        if split in run.figures.get("test", {})
    ]


WHOLE = "together"  # the maps that a method puts together from parts, beside these


def with_parts(figures: Mapping) -> list[tuple[str, str, Mapping]]:
    """(list, part, figures) of one run: the maps as they are used, then those they are made of."""
    parts = figures.get("parts", {})
    columns = []
    for name, whole in figures.get("test", {}).items():
        columns.append((name, figures.get("whole", WHOLE) if parts else "", whole))
        columns += [
            (name, p, f["test"][name]) for p, f in parts.items() if name in f.get("test", {})
        ]
    return columns


def lists_of(runs: Mapping[str, Run]) -> list[str]:
    """The lists whose images are known one by one in some run, in the order of the figures."""
    return list(dict.fromkeys(name for run in runs.values() for name in run.scores))


def over_thresholds(runs: Mapping[str, Run]) -> str:
    """The part of the page with the curves over all thresholds; "" where no list has any."""
    lists = lists_of(runs)
    content = [
        (n, thresholds.charts({r: (x.scores[n], x.threshold) for r, x in _having(runs, n)}))
        for n in lists
    ]
    return shell.part("Over all thresholds", shell.named(content, len(lists)))


def by_class_part(runs: Mapping[str, Run]) -> str:
    """The part of the page with the figures class by class; "" where no list has any."""
    content = []
    for name in lists_of(runs):
        known = {r: x.scores[name].by_class(x.threshold) for r, x in _having(runs, name)}
        content.append((name, _class_table(known)))
    for name, columns in itertools.groupby(columns_of(runs, parts=True), key=lambda c: c[0]):
        content.append((name, _class_table({r: by_class.from_figures(f) for _, r, f in columns})))
    return shell.part("Class by class", shell.named(content, len({name for name, _ in content})))


def _class_table(runs: Mapping[str, ClassFigures | None]) -> str:
    known = {name: found for name, found in runs.items() if found is not None}
    return by_class.table(known) if known else ""


def _having(runs: Mapping[str, Run], name: str) -> list[tuple[str, Run]]:
    return [(r, run) for r, run in runs.items() if name in run.scores]


def _choose(examples, worst, sample, boxes):
    """[(heading, note, examples)] list by list, and all that are shown, each once."""
    splits = list(dict.fromkeys(e.split for e in examples))
    shelves, shown = [], []
    for split in splits:
        mine = [e for e in examples if e.split == split]
        few, many = max(1, worst // len(splits)), max(1, sample // len(splits))
        low, drawn = select_examples([e.image_id for e in mine], [e.iou for e in mine], few, many)
        prefix = f"{split}: " if split else ""
        if len(mine) <= few + many or not boxes:
            order = sorted(mine, key=lambda e: (e.iou is None, e.iou or 0.0))
            scored = any(e.iou is not None for e in mine)
            note = "lowest IoU first" if scored else ""
            # Of a segmenter's test list only a draw was kept; photos without truth are all here.
            heading = "drawn at random" if scored and not boxes else "all examples"
            shelves.append((f"{prefix}{heading}", note, order))
            shown += order
            continue
        note = "the lowest IoUs at the chosen threshold"
        shelves.append((f"{prefix}worst cases", note, [mine[i] for i in low]))
        note = f"from all {len(mine)} given; a run on the same list shows the same images"
        shelves.append((f"{prefix}drawn at random", note, [mine[i] for i in drawn]))
        shown += [mine[i] for i in dict.fromkeys(drawn + low)]
    return shelves, shown


def gallery_part(sections: Sequence[str], runs: Mapping[str, Run]) -> str:
    """The part of the page with the cards, and the sliders that move their boxes."""
    if not sections:
        return shell.part("Gallery", '<p class="quiet">No examples were given.</p>')
    sliders = "".join(_slider(i, n, r.threshold) for i, (n, r) in enumerate(runs.items()))
    has_masks = any(
        encode.is_mask(p) for r in runs.values() for e in r.examples for p in e.pictures.values()
    )
    controls = (
        f'<form class="controls" aria-label="Gallery controls" hidden>{sliders}'
        '<div class="control heat-control"><label for="heat">Photo</label>'
        '<input type="range" id="heat" min="0" max="100" step="5" value="40" '
        'aria-label="Heat map opacity in per cent"><span aria-hidden="true">Heat</span>'
        "</div></form>"
        "<noscript><p>Without JavaScript the boxes stay at the chosen threshold.</p></noscript>"
    )
    has_truth = any(len(e.true_boxes) for r in runs.values() for e in r.examples)
    return shell.part("Gallery", cards.legend(has_masks, has_truth) + controls + "".join(sections))


def _slider(index: int, name: str, threshold: float) -> str:
    label = f"Threshold τ{' ' + html.escape(name) if name else ''}"
    return (
        f'<div class="control"><label for="tau-{index}">{label}</label>'
        f'<input type="range" id="tau-{index}" min="0" max="0.99" step="0.01" '
        f'value="{threshold:.2f}" data-run="{index}">'
        f'<output id="tau-{index}-value" for="tau-{index}">{threshold:.3g}</output>'
        f'<button type="button" data-reset="{index}" title="back to the run\'s threshold">'
        f"run {threshold:.3g}</button>"
        f'<span class="share" id="share-{index}" role="status"></span></div>'
    )


def _facts(run: Run) -> str:
    facts = dict(run.facts)
    source = run.figures.get("threshold_from")  # a tune list, the config, or a default
    if not run.classes:
        facts["Box threshold"] = f"τ = {run.threshold:.3g}" + (f", {source}" if source else "")
    if "seconds" in run.figures:
        facts["Time"] = tables.duration(run.figures["seconds"])
    return "".join(
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd></div>"
        for k, v in facts.items()
    )


def _folded_figures(figures: Mapping) -> str:
    return shell.folded("All figures (metrics.json)", json.dumps(saved.plain(figures), indent=2))
