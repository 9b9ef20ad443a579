"""Puts finished runs side by side on one page.

python -m wsol_jax.report [NAME=]WORKDIR... --out=FILE [--title=TITLE]
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from wsol_jax.base import commands, outputs, remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_writable
from wsol_jax.base.text import printable
from wsol_jax.base.typed import as_typed
from wsol_jax.report import comparison, page, pairs, tables
from wsol_jax.runs import mirror


def main(arguments: Sequence[str]) -> int:
    """Write the comparison page, print its figures and its path; 0, or 2 with a sentence."""
    parser = commands.Parser("report", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="[NAME=]WORKDIR")
    parser.add_argument("--out", required=True, metavar="FILE", help="the HTML file to write")
    parser.add_argument("--title", default="", help="the page's heading")
    return commands.run(lambda: _run(parser.parse_args(arguments)))


def _run(flags: argparse.Namespace) -> None:
    with outputs.to_file("--out", flags.out) as out:
        _compare(flags, out)
        print(f"\nreport: {as_typed(os.path.abspath(out))}")


def _compare(flags: argparse.Namespace, out: str) -> None:
    check_writable("--out", out)
    workdirs = flags.workdirs
    whole = lambda word: remote.is_url(word) or os.path.isdir(word)
    here = lambda word: str(mirror.read(word, flag="", choose=mirror.figures_alone))
    if any("=" in w and not remote.is_url(w) for w in workdirs):
        # Of a path the last "=" ends the name, of a URL the first: gs://bucket/date=1/run.
        split = lambda word: word.partition("=") if "://" in word else word.rpartition("=")
        named = [("", "", w) if whole(w) else split(w) for w in workdirs]
        names = [name or os.path.basename(os.path.normpath(w)) for name, _, w in named]
        if len(set(names)) < len(names):
            raise UserError(f"two runs of one name among {', '.join(names)}: give NAME=WORKDIR.")
        workdirs = {name: here(w) for name, (_, _, w) in zip(names, named, strict=True)}
    else:
        workdirs = [*map(here, workdirs)]
    try:
        runs = comparison.compare_workdirs(out, workdirs, flags.title)
    except OSError as error:
        if error.filename and pathlib.Path(error.filename) != pathlib.Path(out):
            raise
        raise UserError(f"--out={flags.out}: {error.strerror or error}.") from None
    columns = page.columns_of(runs)
    print(tables.text_table(columns))
    for sentence in [*pairs.obstacles(runs), *tables.remarks(columns)]:
        print(printable(sentence))


if __name__ == "__main__":
    commands.leave(main(sys.argv[1:]))
