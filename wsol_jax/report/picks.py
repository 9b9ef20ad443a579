"""The form above a gallery by which its cards are chosen and ordered; ``picks.js`` fills it."""

import html
import json
from collections.abc import Iterable

_SELECTS = (("class", "Class"), ("right", "Show"), ("order", "Order"))


def form() -> str:
    """The selects, hidden until the page's script knows what there is to choose from."""
    selects = "".join(
        f'<div class="control"><label for="pick-{name}">{label}</label>'
        f'<select id="pick-{name}"></select></div>'
        for name, label in _SELECTS
    )
    return f'<div class="picks" hidden>{selects}<p id="picked" role="status"></p></div>'


def attributes(
    name: str,
    classes: Iterable[str],
    right: bool | None = None,
    score: float | None = None,
    iou: float | None = None,
) -> str:
    """What a card says of itself to the form.

    Args:
      name: the image's id.
      classes: that it shows.
      right: whether the predicted class is.
      score: of that. iou: of a segmentation; boxes have theirs from the slider.
    """
    given = {"name": name, "classes": json.dumps(sorted(set(filter(None, classes))))}
    if right is not None:
        given["right"] = str(int(right))
    if score is not None:
        given["score"] = f"{score:.6g}"
    if iou is not None:
        given["iou"] = f"{iou:.6g}"
    return " ".join(f'data-{key}="{html.escape(value)}"' for key, value in given.items())
