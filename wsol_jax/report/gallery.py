"""The gallery of photos under heat: its legend, the sliders that move the boxes, its shelves."""

import html
from collections.abc import Mapping, Sequence

from wsol_jax.report import cards, encode, picks, shell
from wsol_jax.report.example import Run


def part(sections: Sequence[str], runs: Mapping[str, Run], command: str = "") -> str:
    """The part of the page with the cards, and the sliders that move their boxes.

    Args:
      sections: shelves, from ``cards.section``.
      command: what uses a threshold, with "{threshold}" for it; "" shows none.
    """
    if not sections:
        return shell.part("Gallery", '<p class="quiet">No examples were given.</p>')
    sliders = "".join(_slider(i, n, r.threshold) for i, (n, r) in enumerate(runs.items()))
    has_masks = any(
        encode.is_mask(p) for r in runs.values() for e in r.examples for p in e.pictures.values()
    )
    controls = (
        f'<form class="controls" aria-label="Gallery controls" hidden>{sliders}'
        '<div class="control heat-control"><label for="heat">Photo</label>'
        '<input type="range" id="heat" min="0" max="100" step="5" value="40" '
        'aria-label="Heat map opacity in per cent"><span aria-hidden="true">Heat</span>'
        f"</div>{picks.form()}</form>"
        "<noscript><p>Without JavaScript the boxes stay at the chosen threshold.</p></noscript>"
    )
    has_truth = any(len(e.true_boxes) for r in runs.values() for e in r.examples)
    head = cards.legend(has_masks, has_truth) + controls + _command(command, runs)
    return shell.part("Gallery", head + "".join(sections))


def _command(command: str, runs: Mapping[str, Run]) -> str:
    """A command line that follows the first run's slider."""
    if not command:
        return ""
    threshold = f"{next(iter(runs.values())).threshold:.3g}"
    shown = html.escape(command.replace("{threshold}", threshold))
    return (
        '<p class="command"><span class="quiet">These boxes by command:</span> '
        f'<code data-command="{html.escape(command)}">{shown}</code></p>'
    )


def _slider(index: int, name: str, threshold: float) -> str:
    label = f"Threshold τ{' ' + html.escape(name) if name else ''}"
    return (
        f'<div class="control"><label for="tau-{index}">{label}</label>'
        f'<input type="range" id="tau-{index}" min="0" max="0.99" step="0.01" '
        f'value="{threshold:.2f}" data-run="{index}">'
        f'<output id="tau-{index}-value" for="tau-{index}">{threshold:.3g}</output>'
        f'<button type="button" data-reset="{index}" title="back to the run\'s threshold">'
        f"run {threshold:.3g}</button>"
        f'<span class="share" id="share-{index}" role="status"></span></div>'
    )
