"""One self-contained HTML page a run, and what it shares with the page of several."""

import html
import itertools
import json
import os
from collections.abc import Mapping, Sequence

from wsol_jax.base.files import write_whole
from wsol_jax.evaluate.results import ClassFigures, Results
from wsol_jax.evaluate.segments import WORDS
from wsol_jax.report import (
    cards,
    confusion,
    downloads,
    gallery,
    saved,
    shell,
    shelves,
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
    totals: Mapping[str, int] | None = None,
    drawn: str = shelves.DRAWN,
    command: str = "",
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
      totals: how many images each list of examples has, beside the test lists, whose figures say.
      drawn: how the examples were drawn from their list, in words.
      command: shown below the slider, with its threshold in place of "{threshold}".
    """
    counts = {n: f.get("images") for n, f in figures.get("test", {}).items()}
    known = {n: count for n, count in counts.items() if isinstance(count, int)}
    totals = {**known, **(totals or {})}
    rows = shelves.choose(examples, worst, sample, totals, worst_first=not classes, drawn=drawn)
    shown = list({id(e): e for row in rows for e in row.examples}.values())
    run = Run(
        figures, shown, threshold, curves, title, config_text, facts or {}, scores or {},
        classes=tuple(classes), totals=totals,
    )  # fmt: skip
    maps = cards.MapStore()
    cards_part = strips.part(rows, run) if classes else _cards_part(rows, run, maps, command)
    body = _body(run, [*tables.remarks(with_parts(figures)), *notes], cards_part)
    words, files = shelves.counted(shown, totals), downloads.payload({"": run})
    document = shell.document(title, _facts(run), body, maps, [threshold], words, files)
    write_whole(path, document)
    saved.save(os.path.join(os.path.dirname(os.fspath(path)), saved.FILE), run)


def _body(run: Run, told: Sequence[str], cards_part: str) -> list[str]:
    """The parts of a run's page in their order; ``told``: sentences under the figures."""
    figures, alone, columns = run.figures, {"": run}, with_parts(run.figures)
    table = tables.html_table(columns) + downloads.buttons(alone) if columns else ""
    charts = f'<div class="charts">{svg.charts(run.curves)}</div>' if run.curves else ""
    record = shell.folded("Configuration", run.config_text) + _folded_figures(figures)
    return [
        tables.tiles([(name, "", f) for name, f in figures.get("test", {}).items()]),
        shell.part("Figures", table + shell.notes(told)) if columns else shell.notes(told),
        staged.part(figures),
        over_thresholds(alone),
        by_class_part(alone),
        confusion.part(alone),
        shell.part("Training", charts),
        cards_part,
        shell.part("Record", record),
    ]


def _cards_part(rows: Sequence[shelves.Shelf], run: Run, maps: cards.MapStore, command: str) -> str:
    """The gallery of one run's cards; their maps go to ``maps``."""
    sections = [
        cards.section(s.heading, s.note, [{"": e} for e in s.examples], maps, {"": 0}, s.share)
        for s in rows
    ]
    return gallery.part(sections, {"": run}, command)


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


def with_parts(
    figures: Mapping, words: Mapping[str, str] = WORDS
) -> list[tuple[str, str, Mapping]]:
    """(list, part, figures) of one run: the maps as they are used, then those they are made of.

    ``words``: what parts are called; {} for their names in metrics.json, which commands take.
    """
    parts = figures.get("parts", {})
    columns = []
    for name, whole in figures.get("test", {}).items():
        columns.append((name, figures.get("whole", WHOLE) if parts else "", whole))
        columns += [
            (name, words.get(p, p), f["test"][name])
            for p, f in parts.items()
            if name in f.get("test", {})
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
    if not any(figures.values()):
        return ""  # a page of photos without truth
    return shell.folded("All figures (metrics.json)", json.dumps(saved.plain(figures), indent=2))
