"""The gallery of a segmenter: each photo beside its segmentations, in the page's colours."""

import dataclasses
import html
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.index_png import voc_palette
from wsol_jax.report import encode, overlays, picks, shell, tables
from wsol_jax.report.colours import NO_LABEL, class_colours
from wsol_jax.report.example import Example, Run
from wsol_jax.report.shelves import Shelf

_SIDE = 320  # pixels embedded on the longer side
_ABREAST = 6  # pictures at most; more are broken into rows of one length
_SEGMENTATION, LABELS = "segmentation", "labels"  # pictures of every run


def part(shelves: Sequence[Shelf], run: Run, others: Mapping[str, Run] | None = None) -> str:
    """The part of the page with a legend of the colours that occur, and the shelves.

    Args:
      run: whose classes they are. others: runs beside it, by name, painted in other colours.
    """
    shown = [e for shelf in shelves for e in shelf.examples]
    # What is painted; a loss paints the image's own classes.
    names = {name for e in shown for name in (*e.predicted.split(", "), e.predicted, *e.classes)}
    pictures = [p for e in shown for p in e.pictures.values()]
    more = ramp("map") if any(np.issubdtype(p.dtype, np.floating) for p in pictures) else ""
    more += mask_colours() if any(map(encode.is_mask, pictures)) else ""
    head = legend(run.classes, names, more, run.voc_colours)
    for name, other in (others or {}).items():
        head += f'<p class="quiet note">{html.escape(name)}:</p>'
        head += legend(other.classes, names, "", other.voc_colours)
    head += f'<form class="controls" aria-label="Gallery controls" hidden>{picks.form()}</form>'
    return shell.part("Gallery", head + "".join(map(_shelf, shelves)))


def comparison(runs: Mapping[str, Run]) -> str:
    """The gallery of several segmenters, on the images that all show; "" where not all are such.

    Those on which the runs' mean IoUs differ most come first.
    """
    first = next(iter(runs.values()), None)
    if first is None or not all(run.classes for run in runs.values()):
        return ""
    keyed = {n: {(e.split, e.image_id): e for e in run.examples} for n, run in runs.items()}
    pairs: dict[str, list[tuple[float, Example]]] = {}
    for key, example in next(iter(keyed.values())).items():
        if not all(key in mine for mine in keyed.values()):
            continue
        each = {name: mine[key] for name, mine in keyed.items()}
        ious = [e.iou for e in each.values() if e.iou is not None]
        pictures = {"truth": example.pictures["truth"]} if "truth" in example.pictures else {}
        for name, one in each.items():
            said = f" {tables.percent(one.iou)}" if one.iou is not None else ""
            pictures[f"{name}{said}"] = _result(one)
        painted = dict.fromkeys(c for e in each.values() for c in e.predicted.split(", ") if c)
        joined = dataclasses.replace(
            example, iou=None, pictures=pictures, predicted=", ".join(painted)
        )
        spread = max(ious) - min(ious) if ious else 0.0
        pairs.setdefault(example.split, []).append((spread, joined))
    note = "the images that all runs show, those on which the runs differ most first"
    chosen = [
        Shelf(split, note, [e for _, e in sorted(mine, key=lambda pair: -pair[0])])
        for split, mine in pairs.items()
    ]
    others = {n: run for n, run in runs.items() if run.voc_colours != first.voc_colours}
    return part(chosen, first, others) if chosen else ""


def _result(example: Example) -> np.ndarray:
    """What a run made of an image in the end."""
    kinds = [k for k in example.pictures if k != "truth"]
    return example.pictures[next((k for k in (LABELS, _SEGMENTATION) if k in kinds), kinds[-1])]


def legend(
    classes: Sequence[str], shown: Collection[str], more: str = "", voc_colours: bool = False
) -> str:
    """What colours mean: background, those of the classes that are shown, no class; ``more``."""
    palette = voc_palette() if voc_colours else class_colours()
    named = [("background", palette[0])]
    named += [(n, palette[1 + c]) for c, n in enumerate(classes) if n in shown]
    named.append(("no label", NO_LABEL))
    swatches = "".join(swatch(*each) for each in named)
    note = "" if voc_colours else "colours of this page; PNG files have VOC's"
    return f'<p class="legend">{swatches}{more}<span class="quiet">{note}</span></p>'


def swatch(name: str, colour: Sequence[int]) -> str:
    """A patch of colour and its name."""
    patch = f'<i class="swatch" style="background:{encode.css(colour)}"></i>'
    return f"<span>{patch}{html.escape(name)}</span>"


def ramp(name: str) -> str:
    """The colours of what runs from 0 to 1."""
    stops = overlays.colour_heat(np.linspace(0, 1, 9, dtype=np.float32)[None])[0]
    colours = ",".join(map(encode.css, stops))
    patch = f'<i class="ramp" style="background:linear-gradient(90deg,{colours})"></i>'
    return f"<span>{name} 0 {patch} 1</span>"


def mask_colours() -> str:
    """The colours of guidance masks."""
    named = {"object": 1, "background": 0, "ignored": UNLABELLED}
    masks = "".join(swatch(n, overlays.MASK_COLOURS[value]) for n, value in named.items())
    return f'<span class="set">guidance masks: {masks}</span>'


def _shelf(shelf: Shelf) -> str:
    rows = "".join(map(_row, shelf.examples))
    return (
        f'<section class="shelf"><header><h3>{html.escape(shelf.heading)}</h3>'
        f'<p class="quiet">{html.escape(shelf.note)}</p></header>'
        f'<div class="strips">{rows}</div></section>'
    )


def _row(example: Example) -> str:
    label, name = html.escape(example.label), html.escape(example.image_id)
    iou = "" if example.iou is None else f'<span class="badge">{tables.percent(example.iou)}</span>'
    pictures = {"photo": example.image, **example.pictures}
    figures = "".join(_figure(html.escape(kind), p, name) for kind, p in pictures.items())
    columns = math.ceil(len(pictures) / math.ceil(len(pictures) / _ABREAST))
    ratio = example.image.shape[1] / example.image.shape[0]
    about = picks.attributes(example.image_id, example.classes, iou=example.iou)
    return (
        f'<article class="strip" {about}><header><h4>{label}</h4><code>{name}</code>{iou}</header>'
        f'<div class="pictures" style="--n:{columns};--ar:{ratio:.4f}">{figures}</div>'
        f"{shell.links(example.files)}</article>"
    )


def _figure(kind: str, picture: np.ndarray, name: str) -> str:
    uri, is_mask = encode.picture_uri(picture, _SIDE)
    pixels = ' class="mask"' if is_mask else ""
    return (
        f'<figure><img{pixels} src="{uri}" loading="lazy" alt="{kind} of {name}">'
        f"<figcaption>{kind}</figcaption></figure>"
    )
