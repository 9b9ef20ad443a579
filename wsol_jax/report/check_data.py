"""``--mode=check_data``: what a config's data set holds, list by list and class by class."""

import pathlib
from collections.abc import Iterator

from wsol_jax.base.files import check_writable, write_out
from wsol_jax.base.text import printable
from wsol_jax.base.typed import as_typed
from wsol_jax.base.types import Config
from wsol_jax.data import summary
from wsol_jax.data.inspect import Counts, Inspection, inspect
from wsol_jax.data.lists import open_lists
from wsol_jax.data.records import LeftOut
from wsol_jax.report import data_page
from wsol_jax.runs.data_choices import choose

PAGE = "check_data.html"
_NAMED = 5  # examples that are printed of each finding; the page has more
_CLASSES = 40  # rows of a list's table that are printed
MENDED = "a training refuses them; strict=false after the data set skips them"
SKIPPED = "a training skips them, as strict=false says"


def check_data(config: Config, out: str | pathlib.Path | None) -> Inspection:
    """Prints what the lists of a config hold, and writes it as a page.

    Faults that a training refuses one by one are counted here, all of them.

    Args:
      config: from ``configs/*.py``; its ``data`` section alone is read.
      out: the folder of the page, made if absent; None for no page.

    Raises:
      UserError: the data set is missing, or malformed in a way that nothing can be said of it.
    """
    path = None if out is None else pathlib.Path(out) / PAGE
    if path is not None:
        check_writable("--out", path)
    config = config.copy_and_resolve_references()
    strict = config.data.strict
    with config.unlocked():
        config.data.strict = False
    lists = open_lists(choose(config).data)
    found, said = inspect(lists), summary.lines(lists)
    faults = MENDED if strict else SKIPPED
    for line in text(found, said, faults):
        print(line)
    if path is not None:
        title = f"{config.data.name}: {config.data.root or 'data'}"
        write_out("--out", path, data_page.page(title, found, said, faults))
        print(f"page: {as_typed(str(path))}")
    else:
        print(f"--out=FOLDER writes this with photos, as FOLDER/{PAGE}")
    return found


def text(found: Inspection, said: list[str], faults: str = MENDED) -> Iterator[str]:
    """The lines that are printed; ``faults``: what a training makes of those."""
    yield from map(printable, said)
    for counts in found.lists:
        yield ""
        yield from _table(counts)
    for wrong, heading in ((True, "to mend"), (False, "good to know")):
        findings = [finding for finding in found.findings if finding.wrong == wrong]
        rows = [row for row in found.left_out if row.fault and wrong]
        if findings or rows:
            yield ""
            yield f"{heading}:"
        for finding in findings:
            names = _names(finding.examples, finding.count)
            yield f"  {finding.text} ({finding.count}): {names}"
        for row in rows:
            yield f"  {_left_out(row)} ({faults})"
    others = [row for row in found.left_out if not row.fault]
    if others:
        yield ""
        yield "left out:"
    for row in others:
        yield f"  {_left_out(row)}"
    if not found.wrong and not any(row.fault for row in found.left_out):
        yield ""
        yield "nothing to mend"


def _left_out(row: LeftOut) -> str:
    names = _names([(name, "") for name in row.examples], row.count)
    return f"{summary.phrase(row)}: {names}"


def _names(examples: list[tuple[str, str]], count: int) -> str:
    shown = [f"{name} ({detail})" if detail else name for name, detail in examples[:_NAMED]]
    return printable(", ".join(shown)) + (
        f" and {count - len(shown)} more" if count > len(shown) else ""
    )


def _table(counts: Counts) -> Iterator[str]:
    """A list's classes, the fewest photos first where there are too many to print."""
    order = list(range(len(counts.class_names)))
    if len(order) > _CLASSES:
        order = sorted(order, key=lambda c: (int(counts.images[c]), c))[:_CLASSES]
    width = min(max([len(counts.class_names[c]) for c in order] + [len(counts.name), 8]), 40)
    yield f"{printable(counts.name):{width}}  {'photos':>8}  {'boxes':>8}  {'masks':>8}"
    for c in order:
        row = (counts.images[c], counts.boxes[c], counts.masks[c])
        name = printable(counts.class_names[c])[:width]
        yield f"{name:{width}}  " + "  ".join(f"{int(value):8}" for value in row)
    if len(order) < len(counts.class_names):
        yield f"(and {len(counts.class_names) - len(order)} classes with more photos)"
    row = (counts.photos, int(counts.boxes.sum()), counts.masked)
    yield f"{'in all':{width}}  " + "  ".join(f"{value:8}" for value in row)
    if counts.bare:
        yield f"{counts.bare} of them without a label"
