"""What stands around a page's sections: the document, headings, notes, folds."""

import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources


def document(title: str, facts: str, body: Sequence[str], maps, thresholds, shown: int) -> str:
    """The document: its header, sections and data; thresholds are those of the sliders."""
    here = resources.files("wsol_jax.report")
    data = {"thresholds": [float(t) for t in thresholds], **maps.payload()}
    # "</script" inside the JSON would end it; "<" is the only character that needs care here.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;\
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{html.escape(title)}</title>
<style>
{(here / "page.css").read_text("utf-8")}
</style>
</head>
<body>
<main>
<header class="top"><p class="eyebrow">weakly supervised object localization</p>
<h1>{html.escape(title)}</h1>
<dl class="facts">{facts}<div><dt>Shown</dt><dd>{shown} images</dd></div></dl></header>
{"".join(body)}
</main>
<script type="application/json" id="data">{text}</script>
<script>
{(here / "page.js").read_text("utf-8")}
</script>
</body>
</html>
"""


def part(heading: str, content: str) -> str:
    """A section with its heading; nothing without content."""
    return f'<section class="part"><h2>{heading}</h2>{content}</section>' if content else ""


def notes(sentences: Sequence[str]) -> str:
    """Quiet sentences, a paragraph each."""
    return "".join(f'<p class="quiet note">{html.escape(n)}</p>' for n in sentences)


def named(contents: Iterable[tuple[str, str]], lists: int) -> str:
    """What each list shows, under its name where there are several lists."""
    return "".join(
        (f"<h3>{html.escape(name)}</h3>" if lists > 1 else "") + text
        for name, text in contents
        if text
    )


def folded(summary: str, text: str) -> str:
    """Text behind a summary; nothing without text."""
    if not text:
        return ""
    head = f"<summary>{html.escape(summary)}</summary>"
    return f"<details>{head}<pre>{html.escape(text)}</pre></details>"
