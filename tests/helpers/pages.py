"""Pages of a report: an example for one, its elements, and what a browser makes of it."""

import html.parser
import re
import subprocess

import cv2
import numpy as np

from wsol_jax.report import page

HOSTILE = '<script>alert("x")</script>&\'"'


def example(name="a", iou=0.6, split="test", side=40, **changes):
    rng = np.random.default_rng(len(name))
    score = cv2.GaussianBlur(rng.random((side, side), np.float32), (0, 0), 4)
    score = (score - score.min()) / (score.max() - score.min())
    given = {
        "image_id": name,
        "image": rng.integers(0, 256, (30, 50, 3)).astype(np.uint8),
        "score_map": score,
        "true_boxes": np.array([[0.1, 0.2, 0.5, 0.9]], np.float32),
        "box": np.array([0.2, 0.2, 0.6, 0.8], np.float32),
        "iou": iou,
        "label": "cat",
        "predicted": "dog",
        "split": split,
    }
    return page.Example(**{**given, **changes})


class Balance(html.parser.HTMLParser):
    """Counts open elements; raises where an end tag closes another element than the last."""

    VOID = {"meta", "img", "input", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(text):
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    return parser


QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--virtual-time-budget=10000",
]


class Panels(html.parser.HTMLParser):
    """Panels of a dumped page by image id: their data, our rectangle and the badge's text."""

    def __init__(self):
        super().__init__()
        self.found, self.name, self.inside, self.attributes = {}, None, None, {}

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        kind = attrs.get("class", "")
        self.inside = "code" if tag == "code" else "badge" if "badge" in kind.split() else None
        if tag == "panel" or kind == "panel":
            self.found[self.name] = {k: v for k, v in attrs.items() if k.startswith("data-")}
        if tag == "rect" and kind == "ours":
            rect = [float(attrs[k]) for k in ("x", "y", "width", "height")]
            self.found[self.name]["rect"] = rect
        if tag == "body":
            self.attributes = attrs

    def handle_data(self, data):
        if self.inside == "code":
            self.name = data
        elif self.inside == "badge":
            self.found[self.name]["badge"] = data
        self.inside = None


def without_policy(path):
    """A page's text, free to run a test's script: its policy lets none run but its own."""
    text = path.read_text("utf-8")
    assert "Content-Security-Policy" in text
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)


def dump(browser, path, fragment, profile, *flags):
    """The page's elements after its script has run."""
    command = [
        browser,
        *QUIET,
        *flags,
        f"--user-data-dir={profile}",
        "--dump-dom",
        f"file://{path}{fragment}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    panels = Panels()
    panels.feed(done.stdout)
    return panels, done.stdout
