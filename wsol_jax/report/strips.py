"""The gallery of a segmenter: each photo beside its segmentations, in the VOC colours."""

import dataclasses
import html
from collections.abc import Collection, Mapping, Sequence

from wsol_jax.data.index_png import voc_palette
from wsol_jax.report import encode, shell, tables
from wsol_jax.report.example import Example, Run

_SIDE = 240  # pixels embedded on the longer side
_UNLABELLED = (200, 200, 200)
_SEGMENTATION, LABELS = "segmentation", "labels"  # pictures of every run


def gallery(shelves: Sequence[tuple[str, str, Sequence[Example]]], classes: Sequence[str]) -> str:
    """A legend of the colours that occur, and a shelf for each (heading, note, examples)."""
    # What is painted; of photos without truth the label says it.
    said = [e.predicted or e.label for _, _, chosen in shelves for e in chosen]
    names = {name for text in said for name in text.split(", ")}
    return legend(classes, names) + "".join(_shelf(*shelf) for shelf in shelves)


def comparison(runs: Mapping[str, Run]) -> str:
    """The gallery of several segmenters, on the images that all show; "" where not all are such.

    Those on which the runs' mean IoUs differ most come first.
    """
    first = next(iter(runs.values()), None)
    if first is None or not all(run.classes for run in runs.values()):
        return ""
    keyed = {n: {(e.split, e.image_id): e for e in run.examples} for n, run in runs.items()}
    shelves: dict[str, list[tuple[float, Example]]] = {}
    for key, example in next(iter(keyed.values())).items():
        if not all(key in mine for mine in keyed.values()):
            continue
        each = {name: mine[key] for name, mine in keyed.items()}
        ious = [e.iou for e in each.values() if e.iou is not None]
        pictures = {"truth": example.pictures["truth"]} if "truth" in example.pictures else {}
        for name, one in each.items():
            kind = LABELS if LABELS in one.pictures else _SEGMENTATION
            said = f" {tables.percent(one.iou)}" if one.iou is not None else ""
            pictures[f"{name}{said}"] = one.pictures[kind]
        painted = dict.fromkeys(c for e in each.values() for c in e.predicted.split(", ") if c)
        joined = dataclasses.replace(
            example, iou=None, pictures=pictures, predicted=", ".join(painted)
        )
        spread = max(ious) - min(ious) if ious else 0.0
        shelves.setdefault(example.split, []).append((spread, joined))
    note = "the images that all runs show, those on which the runs differ most first"
    chosen = [
        (split, note, [e for _, e in sorted(pairs, key=lambda pair: -pair[0])])
        for split, pairs in shelves.items()
    ]
    return shell.part("Gallery", gallery(chosen, first.classes)) if chosen else ""


def legend(classes: Sequence[str], shown: Collection[str]) -> str:
    """What the colours mean: background, those of the classes that are shown, no class."""
    palette = voc_palette()
    named = [("background", palette[0])]
    named += [(n, palette[1 + c]) for c, n in enumerate(classes) if n in shown]
    named.append(("no label", _UNLABELLED))
    return '<p class="legend">' + "".join(swatch(*each) for each in named) + "</p>"


def swatch(name: str, colour: Sequence[int]) -> str:
    """A patch of colour and its name."""
    patch = f'<i class="swatch" style="background:{encode.css(colour)}"></i>'
    return f"<span>{patch}{html.escape(name)}</span>"


def _shelf(heading: str, note: str, examples: Sequence[Example]) -> str:
    rows = "".join(map(_row, examples))
    return (
        f'<section class="shelf"><header><h3>{html.escape(heading)}</h3>'
        f'<p class="quiet">{html.escape(note)}</p></header>'
        f'<div class="strips">{rows}</div></section>'
    )


def _row(example: Example) -> str:
    label, name = html.escape(example.label), html.escape(example.image_id)
    iou = "" if example.iou is None else f'<span class="badge">{tables.percent(example.iou)}</span>'
    pictures = {"photo": example.image, **example.pictures}
    figures = "".join(
        f'<figure><img src="{encode.jpeg_uri(encode.shrink(picture, _SIDE))}" loading="lazy" '
        f'alt="{html.escape(kind)} of {name}"><figcaption>{html.escape(kind)}</figcaption></figure>'
        for kind, picture in pictures.items()
    )
    return (
        f'<article class="strip"><header><h4>{label}</h4><code>{name}</code>{iou}</header>'
        f'<div class="pictures" style="--n:{len(pictures)}">{figures}</div></article>'
    )
