"""The page of ``--mode=check_data``: findings, counts by class, and photos of each class."""

import html
from collections.abc import Sequence

import cv2
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.text import printable
from wsol_jax.data.decode import CorruptImage, decode_rgb
from wsol_jax.data.inspect import Finding, Inspection, Place
from wsol_jax.data.records import LeftOut
from wsol_jax.report import cards, encode, overlays, shell

_SIDE = 150  # pixels of a photo
_BOX = (0, 224, 150)
_STRIP = "display:flex;flex-wrap:wrap;gap:.6rem;margin:.5rem 0 1.2rem"
_FIGURE = "width:150px;font-size:.74rem;overflow-wrap:anywhere"


def page(title: str, found: Inspection, said: Sequence[str], mended: str) -> str:
    """The document.

    Args:
      said: the lines that stand at the start of a training.
      mended: what a training makes of faults.
    """
    pictures = _Pictures(found)
    faults = [row for row in found.left_out if row.fault]
    others = [row for row in found.left_out if not row.fault]
    wrong = [finding for finding in found.findings if finding.wrong]
    known = [finding for finding in found.findings if not finding.wrong]
    body = [
        shell.notes([printable(line) for line in said]),
        shell.part("To mend", _findings(wrong, pictures) + _left_out(faults, mended))
        or shell.notes(["Nothing to mend was found."]),
        shell.part("Good to know", _findings(known, pictures)),
        shell.part("Left out", _left_out(others)),
        shell.part("Classes", _classes(found)),
        shell.part("Photos", _gallery(found, pictures)),
    ]
    facts = "".join(
        f"<div><dt>{_text(counts.name)}</dt><dd>{counts.photos:,} photos</dd></div>"
        for counts in found.lists
    )
    return shell.document(title, facts, body, cards.MapStore(), [], pictures.count)


class _Pictures:
    """Photos of an inspection as figures, each read when it is first shown."""

    def __init__(self, found: Inspection):
        self._found = found
        self._made: dict[Place, str] = {}

    @property
    def count(self) -> int:
        """How many photos are shown."""
        return len(self._made)

    def strip(self, places: Sequence[Place]) -> str:
        """Photos side by side, with boxes and masks; those that cannot be read are left out."""
        figures = "".join(self._figure(place) for place in places)
        return f'<div style="{_STRIP}">{figures}</div>' if figures else ""

    def _figure(self, place: Place) -> str:
        if place not in self._made:
            self._made[place] = self._make(*place)
        return self._made[place]

    def _make(self, number: int, index: int) -> str:
        source = self._found.sources[number]
        try:
            record = source[index]
            pixels = decode_rgb(record.image, record.image_id)
        except (UserError, CorruptImage):
            return ""
        try:
            mask = source.mask(index)
        except UserError:
            mask = None
        small = encode.shrink(pixels, _SIDE)
        if mask is not None:
            small = overlays.paint_classes(small, mask)
        scale = np.array([small.shape[1] / pixels.shape[1], small.shape[0] / pixels.shape[0]] * 2)
        small = np.ascontiguousarray(small)
        for box in (np.asarray(record.boxes, np.float64).reshape(-1, 4) + (0, 0, 1, 1)) * scale:
            x0, y0, x1, y1 = (int(np.clip(v, -9, 2 * _SIDE)) for v in box.round())
            cv2.rectangle(small, (x0, y0), (max(x1 - 1, x0), max(y1 - 1, y0)), _BOX, 1)
        names = ", ".join(source.class_names[c] for c in record.labels) or "no label"
        return (
            f'<figure style="{_FIGURE}"><img src="{encode.jpeg_uri(small)}" alt="">'
            f'<figcaption>{_text(names)}<br><span class="quiet">{_text(record.image_id)}</span>'
            "</figcaption></figure>"
        )


def _findings(findings: Sequence[Finding], pictures: _Pictures) -> str:
    parts = []
    for finding in findings:
        names = "".join(
            f"<li>{_text(name)}{f': {_text(detail)}' if detail else ''}</li>"
            for name, detail in finding.examples
        )
        rest = finding.count - len(finding.examples)
        more = f"<li>and {rest:,} more</li>" if rest else ""
        parts.append(
            f"<h3>{_text(finding.text)}: {finding.count:,}</h3><ul>{names}{more}</ul>"
            f"{pictures.strip(finding.places)}"
        )
    return "".join(parts)


def _left_out(rows: Sequence[LeftOut], mended: str = "") -> str:
    if not rows:
        return ""
    body = "".join(
        f'<tr><th scope="row">{_text(row.reason)}'
        f"<small>{_text(', '.join(row.examples))}{' ...' if row.count > len(row.examples) else ''}"
        f"</small></th><td>{row.count:,}</td></tr>"
        for row in rows
    )
    note = [f"{mended[:1].upper()}{mended[1:]}."] if mended else []
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>{shell.notes(note)}'


def _classes(found: Inspection) -> str:
    """A row a class, with the columns of each list that hold anything."""
    kinds = [("photos", [c.images for c in found.lists])]
    kinds += [("boxes", [c.boxes for c in found.lists]), ("masks", [c.masks for c in found.lists])]
    kinds = [(kind, lists) for kind, lists in kinds if kind == "photos" or any(map(np.any, lists))]
    names = [counts.name for counts in found.lists]
    head = "".join(
        f'<th scope="col">{_text(name)} {kind}</th>' for name in names for kind, _ in kinds
    )
    rows = []
    for c, name in enumerate(found.lists[0].class_names):
        cells = "".join(
            f"<td>{int(lists[number][c]):,}</td>"
            for number in range(len(names))
            for _, lists in kinds
        )
        rows.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="classes sortable"><thead><tr><th scope="col">class</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _gallery(found: Inspection, pictures: _Pictures) -> str:
    parts = []
    for number, counts in enumerate(found.lists):
        strips = []
        for c, shown in sorted(counts.shown.items()):
            strip = pictures.strip([(number, index) for index in shown])
            if strip:
                strips.append(f"<h4>{_text(counts.class_names[c])}</h4>{strip}")
        if strips:
            parts.append(f"<h3>{_text(counts.name)}</h3>{''.join(strips)}")
    return "".join(parts)


def _text(text: str) -> str:
    return html.escape(printable(text))
