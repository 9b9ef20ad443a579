"""Scores class maps of any model, or the checkpoint of a run, by the community's definitions.

python -m wsol_jax.evaluate --scoremaps=DIR --metadata=DIR [--masks=DIR] [--predictions=FILE]
python -m wsol_jax.evaluate --workdir=W [--store_maps=DIR]
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsol_jax.base import commands, fetched, outputs
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_writable, write_out
from wsol_jax.base.text import printable
from wsol_jax.base.typed import as_typed
from wsol_jax.evaluate.stored.figures import Options, score_stored
from wsol_jax.evaluate.stored.summary import METRICS, TOP_LOC_METRICS, Entry, summarise, table

if TYPE_CHECKING:  # its module loads jax
    from wsol_jax.evaluate.box_scores import BoxScores
_HELP = """
layout (that of wsolevaluation, Choe et al. 2020):
  METADATA/image_ids.txt      ID
  METADATA/class_labels.txt   ID,CLASS            class indices from 0
  METADATA/image_sizes.txt    ID,WIDTH,HEIGHT     pixels
  METADATA/localization.txt   ID,X0,Y0,X1,Y1      inclusive corners in pixels; a line a box
  SCOREMAPS/ID.npy            224x224 numbers in [0, 1], the map of the image's class; also
                              SCOREMAPS/ID without its suffix.npy. No pickle is ever loaded.
  MASKS                       with a localization.txt of lines ID,MASK,IGNORE (in METADATA or
                              MASKS; one line an object, paths below MASKS; anything but 0
                              counts): OpenImages' layout. Without one: MASKS/ID.png, or without
                              the id's suffix, of 0 background, 255 ignored, else foreground.
  PREDICTIONS                 .npz with image_ids (N,) and probabilities (N, C), or text with a
                              line ID,CLASS,CLASS,... an image, the likeliest first

metrics:
  max_box_acc     largest contour's box has IoU >= .5, at the threshold that suits these images best
  max_box_acc_v2  any contour's box, mean over IoU .3 / .5 / .7 of each one's best threshold
  gt_known_loc    as max_box_acc at one threshold: --threshold, chosen elsewhere, or the best
  pxap            average precision of the pixels; needs --masks
  top1_acc, top5_acc   class accuracy; needs --predictions
  top1_loc, top5_loc   the class is among them and the image's one map has a right box

Intervals are 95% bootstrap percentiles over images; those of max_box_acc and max_box_acc_v2 choose
the threshold anew in every resample, those at a threshold keep it.

--out=FILE: {metric: {"value": fraction, "interval": [low, high], "images": n, "skipped": n, ...}};
with --workdir {list: {metric: {...}}}.
"""


def _parser() -> commands.Parser:
    parser = commands.Parser("evaluate", __doc__, _HELP)
    both = parser.add_argument_group("both")
    both.add_argument(
        "--metrics", metavar="A,B", help="default: all that the inputs allow; listed below"
    )
    both.add_argument("--threshold", type=float, metavar="T", help="of the boxes, 0 to below 1")
    both.add_argument("--out", metavar="FILE", help="figures as JSON, written whole or not at all")
    maps = parser.add_argument_group("maps on disk")
    maps.add_argument("--scoremaps", metavar="DIR", help="one .npy an image")
    maps.add_argument("--metadata", metavar="DIR", help="what the maps are scored by")
    maps.add_argument("--masks", metavar="DIR", help="true pixels, for pxap")
    maps.add_argument("--predictions", metavar="FILE", help="class scores, for top1_*, top5_*")
    maps.add_argument(
        "--resize",
        action="store_true",
        help="maps of any size and range: bicubic to 224x224, then min-max",
    )
    maps.add_argument("--normalise", action="store_true", help="maps of any range: min-max of each")
    maps.add_argument(
        "--skip_bad",
        action="store_true",
        help="leave out images whose map or mask is missing or bad, and say how many",
    )
    maps.add_argument(
        "--workers", type=int, metavar="N", help="threads, default one a core; same figures"
    )
    run = parser.add_argument_group("a run's checkpoint (its folder is only read)")
    run.add_argument("--workdir", metavar="W", help="folder of the run")
    run.add_argument("--checkpoint", choices=("best", "latest"), help="default: the config's")
    run.add_argument("--lists", metavar="A,B", help="default: the config's test lists")
    run.add_argument(
        "--store_maps", metavar="DIR", help="keep maps and metadata in DIR/LIST, in the layout"
    )
    run.add_argument(
        "--map_dtype",
        choices=("float32", "float16"),
        help="of stored maps; float32, the default, keeps the figures to the bit",
    )
    return parser


_MAPS_ONLY = ("metadata", "masks", "predictions", "resize", "normalise", "skip_bad", "workers")
_RUN_ONLY = ("checkpoint", "lists", "store_maps", "map_dtype")


def main(arguments: Sequence[str]) -> int:
    """The command; 0, or 2 after one sentence on what the user can mend."""
    return commands.run(lambda: _run(_parser().parse_args(arguments)))


def _run(flags: argparse.Namespace) -> None:
    _check(flags)
    with (
        outputs.to_file("--out", flags.out) as flags.out,
        outputs.to_folder("--store_maps", flags.store_maps) as flags.store_maps,
    ):
        if flags.out:  # found out now, not after an hour of work
            check_writable("--out", flags.out)
        result = _score_run(flags) if flags.workdir else _score_maps(flags)
        if flags.out:
            write_out("--out", flags.out, json.dumps(result, indent=1) + "\n")


def _check(flags: argparse.Namespace) -> None:
    """Raises UserError for flags that do not go together, before any work."""
    if bool(flags.workdir) == bool(flags.scoremaps):
        raise UserError("name either --scoremaps=DIR with --metadata=DIR, or --workdir=W.")
    for name in _MAPS_ONLY if flags.workdir else _RUN_ONLY:
        if getattr(flags, name):
            other = "--scoremaps" if flags.workdir else "--workdir"
            raise UserError(f"--{name} goes with {other}.")
    if flags.scoremaps and not flags.metadata:
        raise UserError("--metadata=DIR is missing: the folder that holds image_ids.txt.")
    if flags.map_dtype and not flags.store_maps:
        raise UserError("--map_dtype goes with --store_maps.")
    if flags.threshold is not None and not 0 <= flags.threshold < 1:
        raise UserError(f"--threshold={flags.threshold}: expected 0 to below 1.")
    if flags.workers is not None and flags.workers < 1:
        raise UserError(f"--workers={flags.workers}: expected 1 or more.")
    for name in _metrics(flags):
        if name not in METRICS:
            raise UserError(f"--metrics: {name!r} is not one of {', '.join(METRICS)}.")
    if flags.metrics is not None and not _metrics(flags):
        raise UserError(f"--metrics is empty: expected some of {', '.join(METRICS)}.")


def _metrics(flags: argparse.Namespace) -> tuple[str, ...]:
    named = (name.strip() for name in (flags.metrics or "").split(","))
    return tuple(dict.fromkeys(filter(None, named)))


def _score_maps(flags: argparse.Namespace) -> dict[str, Entry]:
    for name in ("scoremaps", "metadata", "masks", "predictions"):
        if place := getattr(flags, name):
            folder = name != "predictions"
            setattr(flags, name, str(fetched.local(place, f"--{name}={place}", folder=folder)))
    names = [field.name for field in dataclasses.fields(Options)]
    given = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    result = score_stored(Options(**given | {"metrics": _metrics(flags)}))
    for sentence in result.bad[:20]:
        print(f"bad: {printable(sentence)}", file=sys.stderr)
    if len(result.bad) > 20:
        print(f"... and {len(result.bad) - 20} more", file=sys.stderr)
    print(as_typed(f"{result.images} images of {flags.metadata}, maps of {flags.scoremaps}; in %"))
    print(table(result.metrics))
    for note in result.notes:
        print(f"note: {printable(note)}")
    if result.bad:
        print(f"skipped: {len(result.bad)} images whose map or mask is missing or bad")
    return result.metrics


def _score_run(flags: argparse.Namespace) -> dict[str, dict[str, Entry]]:
    from absl import logging  # jax and its friends only where a network runs

    from wsol_jax.base import sharding
    from wsol_jax.evaluate.rescore import rescore
    from wsol_jax.runs import mirror

    commands.no_flags()
    logging.set_verbosity(logging.WARNING)
    commands.clean_logs()
    sharding.keep_compiled_programs()
    scored, threshold, step = rescore(
        mirror.read(flags.workdir, choose=mirror.network_alone),
        checkpoint=flags.checkpoint or "",
        tests="+".join(filter(None, (flags.lists or "").replace("+", ",").split(","))),
        metrics=_metrics(flags),
        threshold=flags.threshold,
        store=pathlib.Path(flags.store_maps) if flags.store_maps else None,
        dtype=flags.map_dtype or "float32",
    )
    result = {}
    for name, scores in scored.items():
        metrics = _metrics(flags) or _known(scores)
        result[name] = summarise(metrics, scores.boxes, scores.pixels, scores.hits, threshold)
        where = f"{printable(name)}, {flags.workdir} at step {step}"
        print(f"{len(scores.hits.images)} images of {where}; in %")
        print(table(result[name]))
        if flags.store_maps:
            print(f"maps: {as_typed(str(pathlib.Path(flags.store_maps) / name))}")
    return result


def _known(scores: "BoxScores") -> tuple[str, ...]:
    """The metrics that a list has the truth for."""
    unknown = set() if len(scores.boxes) else {"max_box_acc", "max_box_acc_v2", "gt_known_loc"}
    unknown |= set() if len(scores.pixels) else {"pxap"}
    unknown |= {n for n in TOP_LOC_METRICS if not len(scores.hits.values(n)[0])}
    return tuple(name for name in METRICS if name not in unknown)


if __name__ == "__main__":
    commands.leave(main(sys.argv[1:]))
