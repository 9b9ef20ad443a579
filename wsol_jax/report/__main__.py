"""Puts finished runs side by side on one page.

python -m wsol_jax.report [NAME=]WORKDIR... --out=FILE [--title=TITLE]
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from wsol_jax.base import commands
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_writable
from wsol_jax.base.text import printable
from wsol_jax.report import comparison, page, pairs, tables


def main(arguments: Sequence[str]) -> int:
    """Write the comparison page, print its figures and its path; 0, or 2 with a sentence."""
    parser = commands.Parser("report", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="[NAME=]WORKDIR")
    parser.add_argument("--out", required=True, metavar="FILE", help="the HTML file to write")
    parser.add_argument("--title", default="", help="the page's heading")
    return commands.run(lambda: _run(parser.parse_args(arguments)))


def _run(flags: argparse.Namespace) -> None:
    check_writable("--out", flags.out)
    workdirs = flags.workdirs
    if any("=" in w for w in workdirs):
        named = [("", "", w) if os.path.isdir(w) else w.rpartition("=") for w in workdirs]
        names = [name or os.path.basename(os.path.normpath(w)) for name, _, w in named]
        if len(set(names)) < len(names):
            raise UserError(f"two runs of one name among {', '.join(names)}: give NAME=WORKDIR.")
        workdirs = {name: w for name, (_, _, w) in zip(names, named, strict=True)}
    try:
        runs = comparison.compare_workdirs(flags.out, workdirs, flags.title)
    except OSError as error:
        if error.filename and pathlib.Path(error.filename) != pathlib.Path(flags.out):
            raise
        raise UserError(f"--out={flags.out}: {error.strerror or error}.") from None
    columns = page.columns_of(runs)
    print(tables.text_table(columns))
    for sentence in [*pairs.obstacles(runs), *tables.remarks(columns)]:
        print(printable(sentence))
    print(f"\nreport: {os.path.abspath(flags.out)}")


if __name__ == "__main__":
    commands.leave(main(sys.argv[1:]))
