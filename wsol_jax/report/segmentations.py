"""The gallery of a segmenter: each photo beside its segmentations, in the VOC colours."""

import html
from collections.abc import Sequence

from wsol_jax.data.voc import voc_palette
from wsol_jax.report import encode, tables
from wsol_jax.report.example import Example

_SIDE = 240  # pixels embedded on the longer side
_UNLABELLED = (200, 200, 200)


def gallery(shelves: Sequence[tuple[str, str, Sequence[Example]]], classes: Sequence[str]) -> str:
    """A legend of the colours that occur, and a shelf for each (heading, note, examples)."""
    names = [c for _, _, chosen in shelves for e in chosen for c in e.label.split(", ")]
    return legend(classes, names) + "".join(_shelf(*shelf) for shelf in shelves)


def legend(classes: Sequence[str], shown: Sequence[str]) -> str:
    """What the colours mean: background, those of the classes that are shown, no class."""
    palette = voc_palette()
    named = [("background", palette[0])]
    named += [(n, palette[1 + c]) for c, n in enumerate(classes) if n in shown]
    named.append(("no label", _UNLABELLED))
    return '<p class="legend">' + "".join(swatch(*each) for each in named) + "</p>"


def swatch(name: str, colour: Sequence[int]) -> str:
    """A patch of colour and its name."""
    red, green, blue = (int(v) for v in colour)
    patch = f'<i class="swatch" style="background:#{red:02x}{green:02x}{blue:02x}"></i>'
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
