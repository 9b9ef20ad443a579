"""The gallery: cards of photos under heat, with boxes that the page's slider moves."""

import html
from collections.abc import Mapping, Sequence

import numpy as np

from wsol_jax.report import encode, overlays, picks, shell, strips, tables
from wsol_jax.report.example import PHOTO_SIDE, Example


class MapStore:
    """The score maps of a page, each stored once however many cards show it."""

    def __init__(self) -> None:
        self.maps: list[np.ndarray] = []
        self._index: dict[int, int] = {}

    def add(self, score_map: np.ndarray) -> int:
        """Index of the map in the page's data."""
        key = id(score_map)
        if key not in self._index:
            self._index[key] = len(self.maps)
            self.maps.append(score_map)
        return self._index[key]

    def payload(self) -> dict:
        """What the page's script reads: {"sizes": [[w, h], ...], "packed": base64}."""
        sizes = [[m.shape[1], m.shape[0]] for m in self.maps]
        return {"sizes": sizes, "packed": encode.pack_maps(self.maps)}


def section(
    heading: str,
    note: str,
    cards: Sequence[Mapping[str, Example]],
    store: MapStore,
    run_index: Mapping[str, int],
    share: str = "shown",
) -> str:
    """A heading with a live count of hits, and a card an image.

    Args:
      cards: for each image the example of each run by run name (one run, or several to compare).
      run_index: run name -> the slider that moves its boxes.
      share: as of a ``Shelf``.
    """
    body = "\n".join(_card(card, store, run_index) for card in cards)
    title = html.escape(heading)
    wide = f' style="--runs:{max((len(c) for c in cards), default=1)}"'
    known = any(len(e.true_boxes) for c in cards for e in c.values())
    counts = "".join(
        f'<span class="count" data-count-run="{index}">'
        f"{_count(name, [c[name] for c in cards if name in c], len(run_index) > 1)}</span>"
        for name, index in run_index.items()
        if known  # photos without truth have nothing to count
    )
    return (
        f'<section class="shelf" data-share="{share}"><header><h3>{title}</h3>'
        f'<p class="quiet">{html.escape(note)}</p>'
        f'<p class="counts">{counts}</p></header>'
        f'<div class="cards"{wide}>{body}</div></section>'
    )


def legend(has_masks: bool, has_truth: bool = True) -> str:
    """What the colours and line styles mean."""
    truth = '<span><i class="line truth"></i>true box</span>' if has_truth else ""
    return (
        f'<p class="legend">{truth}'
        '<span><i class="line ours"></i>our box at the threshold of the slider</span>'
        f"{strips.ramp('score')}{strips.mask_colours() if has_masks else ''}</p>"
    )


def badge(iou: float | None) -> str:
    """The text of an IoU badge."""
    return f"IoU {tables.DASH}" if iou is None or not np.isfinite(iou) else f"IoU {iou:.2f}"


def _count(name: str, examples: Sequence[Example], named: bool) -> str:
    hits = sum(e.iou is not None and e.iou >= 0.5 for e in examples)
    known = sum(len(e.true_boxes) > 0 for e in examples)
    prefix = f"{html.escape(name)}: " if named else ""
    return f"{prefix}<b>{hits} of {known}</b> at IoU ≥ 0.5"


def _card(card: Mapping[str, Example], store: MapStore, run_index: Mapping[str, int]) -> str:
    first = next(iter(card.values()))
    panels = "".join(
        _panel(example, store, run_index[name], name if len(run_index) > 1 else "")
        for name, example in card.items()
    )
    # Of a photo without labels what was said is its class, where its score stands apart.
    said = [first.predicted] if first.score is not None else []
    labels = first.classes or said
    right = all(_right(e) for e in card.values()) if first.label and first.predicted else None
    about = picks.attributes(first.image_id, labels, right, first.score)
    return (
        f'<article class="card" {about}><header><h4>{html.escape(first.label)}</h4>'
        f"<code>{html.escape(first.image_id)}</code></header>"
        f'<div class="panels">{panels}</div></article>'
    )


def _panel(example: Example, store: MapStore, run: int, run_name: str) -> str:
    height, width = example.image.shape[:2]
    label, name = html.escape(example.label), html.escape(example.image_id)
    truth = np.reshape(example.true_boxes, (-1, 4)).astype(float)
    photo = encode.jpeg_uri(encode.shrink(example.image, PHOTO_SIDE))
    heat = encode.jpeg_uri(overlays.colour_heat(encode.shrink(example.score_map, 224)))
    rects = "".join(_rect("truth", box) for box in truth) + _rect("ours", example.box)
    right = _right(example)
    verdict = ("✓ " if right else "✗ ") if example.label else ""
    sure = "" if example.score is None else f" {100 * example.score:.0f} %"
    said = f"{verdict}{html.escape(example.predicted)}{sure}" if example.predicted else ""
    heading = f'<p class="run">{html.escape(run_name)}</p>' if run_name else ""
    hit = example.iou is not None and example.iou >= 0.5
    shown = f'<span class="badge{" hit" if hit else ""}">{badge(example.iou)}</span>'
    return (
        f'<div class="panel" data-map="{store.add(example.score_map)}" data-run="{run}" '
        f'data-truth="{";".join(" ".join(f"{v:.7g}" for v in box) for box in truth)}">{heading}'
        f'<div class="frame"><div class="stage" style="--ar:{width / height:.4f}">'
        f'<img class="photo" src="{photo}" alt="Photo {name}: {label}" loading="lazy">'
        f'<img class="heat" src="{heat}" alt="Heat map of {label} on photo {name}" loading="lazy">'
        f'<svg viewBox="0 0 1 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{len(truth)} true and our box on photo {name}">{rects}</svg></div></div>'
        f'<p class="verdict">{shown if len(truth) else ""}'
        f'<span class="said{"" if right else " wrong"}" title="predicted class">{said}</span></p>'
        f"{_extras(example)}{shell.links(example.files)}</div>"
    )


def _right(example: Example) -> bool:
    """Whether the predicted class is one of the photo's, or these are not known."""
    return not example.label or example.predicted in example.classes


def _rect(kind: str, box: np.ndarray | None) -> str:
    """A box twice, its dark casing below it; hidden where there is none."""
    x0, y0, x1, y1 = (0, 0, 0, 0) if box is None else (float(v) for v in box)
    where = f'x="{x0:.5g}" y="{y0:.5g}" width="{x1 - x0:.5g}" height="{y1 - y0:.5g}"'
    return f'<rect class="{kind} casing" {where}/><rect class="{kind}" {where}/>'


def _extras(example: Example) -> str:
    ratio = example.image.shape[1] / example.image.shape[0]
    out = []
    for name, picture in example.pictures.items():
        uri, is_mask = encode.picture_uri(picture)
        alt = html.escape(f"{name} of photo {example.image_id}")
        kind = ' class="mask"' if is_mask else ""
        out.append(
            f'<figure><img{kind} src="{uri}" alt="{alt}" loading="lazy" '
            f'style="aspect-ratio:{ratio:.4f}"><figcaption>{html.escape(name)}</figcaption></figure>'
        )
    columns = 4 if len(out) == 4 else 3
    return f'<div class="extras" style="--n:{columns}">{"".join(out)}</div>' if out else ""
