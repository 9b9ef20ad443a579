"""python -m wsol_jax.report WORKDIR... --out=FILE: finished runs side by side."""

import argparse
import os
import sys
from collections.abc import Sequence

from wsol_jax.base.errors import UserError
from wsol_jax.report import page, pairs, tables


def main(arguments: Sequence[str]) -> int:
    """Write the comparison page, print its figures and its path; 0, or 2 with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m wsol_jax.report", description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="[NAME=]WORKDIR")
    parser.add_argument("--out", required=True, help="the HTML file to write")
    parser.add_argument("--title", default="", help="the page's heading")
    options = parser.parse_args(arguments)
    workdirs = options.workdirs
    if any("=" in w for w in workdirs):
        named = [("", "", w) if os.path.isdir(w) else w.rpartition("=") for w in workdirs]
        names = [name or os.path.basename(os.path.normpath(w)) for name, _, w in named]
        if len(set(names)) < len(names):
            parser.error(f"two runs of one name among {', '.join(names)}: give NAME=WORKDIR.")
        workdirs = {name: w for name, (_, _, w) in zip(names, named, strict=True)}
    try:
        runs = page.compare_workdirs(options.out, workdirs, options.title)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(tables.text_table(page.columns_of(runs)))
    for sentence in pairs.obstacles(runs):
        print(sentence)
    print(f"\nreport: {os.path.abspath(options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
