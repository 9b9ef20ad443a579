"""What stands around a page's sections: the document, headings, notes, folds."""

import base64
import hashlib
import html
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

_SCRIPTS = ("boxes.js", "picks.js", "enlarge.js", "curves.js", "tables.js")


def document(
    title: str,
    facts: str,
    body: Sequence[str],
    maps,
    thresholds: Sequence[float],
    shown: int | str,
    files: str = "",
) -> str:
    """The document: its header, sections and data.

    Args:
      thresholds: those of the sliders.
      shown: how many images, or that in words.
      files: what its buttons save, from ``downloads.payload``.
    """
    here = resources.files("wsol_jax.report")
    data = {"thresholds": [float(t) for t in thresholds], **maps.payload(), "files": files}
    # "</script" inside the JSON would end it; "<" is the only character that needs care here.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    shown = f"{shown:,} images" if isinstance(shown, int) else shown
    written = "".join(body)
    written, own = _without_styles(_contents(written) + written)
    css = f"\n{(here / 'page.css').read_text('utf-8')}{own}\n"
    script = "\n".join((here / name).read_text("utf-8") for name in ("page.js", *_SCRIPTS))
    script = f"\n{script}\n"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;\
 style-src {_hash(css)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'">
<title>{html.escape(title)}</title>
<style>{css}</style>
</head>
<body>
<main>
<header class="top"><p class="eyebrow">weakly supervised object localization</p>
<h1>{html.escape(title)}</h1>
<dl class="facts">{facts}<div><dt>Shown</dt><dd>{shown}</dd></div></dl></header>
{written}
</main>
{_DIALOG}
<script type="application/json" id="data">{text}</script>
<script>{script}</script>
</body>
</html>
"""


# Where a picture is shown large; ``enlarge.js`` fills it.
_DIALOG = (
    '<dialog id="large" aria-label="Enlarged picture"><div class="large-picture"></div>'
    '<p class="large-words"></p><p class="large-keys">'
    '<button type="button" data-step="-1" aria-label="previous picture">&larr;</button>'
    '<span class="quiet" id="large-place"></span>'
    '<button type="button" data-step="1" aria-label="next picture">&rarr;</button>'
    '<button type="button" data-step="0">Close</button></p></dialog>'
)


def _contents(body: str) -> str:
    """Links to the parts of a body that has some; no user's text holds a part's tags unescaped."""
    found = re.findall(r'<section class="part" id="([\w-]+)"><h2>(.*?)</h2>', body)
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading in found)
    return f'<nav class="contents" aria-label="Contents">{links}</nav>' if len(found) > 2 else ""


def _without_styles(body: str) -> tuple[str, str]:
    """A body whose style attributes are rules: a policy can allow these by their hash alone.

    Returns: the body, each style="..." now data-style="NUMBER", and the rules. No user's text holds
    such an attribute, as its quotes are escaped.
    """
    numbers: dict[str, int] = {}

    def numbered(found: re.Match) -> str:
        return f' data-style="{numbers.setdefault(found[1], len(numbers))}"'

    body = re.sub(r' style="([^"]*)"', numbered, body)
    # More specific than any rule of page.css, as an attribute was.
    rules = (f':root [data-style][data-style="{n}"] {{ {text} }}' for text, n in numbers.items())
    return body, "\n".join(rules)


def _hash(text: str) -> str:
    """A source of a Content-Security-Policy: the one inline element with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def part(heading: str, content: str) -> str:
    """A section with its heading; nothing without content."""
    name = re.sub(r"\W+", "-", heading.lower())
    section = f'<section class="part" id="{name}"><h2>{heading}</h2>{content}</section>'
    return section if content else ""


def links(files: Mapping[str, str]) -> str:
    """Links by name to files below the page's folder; nothing without any."""
    each = (
        f'<a href="./{html.escape(_quoted(path))}">{html.escape(name)}</a>'
        for name, path in files.items()
    )
    return f'<p class="files">{" ".join(each)}</p>' if files else ""


def _quoted(path: str) -> str:
    """A file's path as a link has it; of a name that is no UTF-8 its bytes."""
    return urllib.parse.quote(path, errors="surrogateescape")


def notes(sentences: Sequence[str], kind: str = "quiet") -> str:
    """Sentences, a paragraph each: "quiet", or a "warning"."""
    return "".join(f'<p class="{kind} note">{html.escape(n)}</p>' for n in sentences)


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
