"""What is measured on each list, on its way into metrics.json and scores/."""

import functools
import pathlib
from typing import Any

import jax

from wsol_jax.evaluate.score_files import AnyScores


def add_tests(figures: dict[str, Any], scored: dict[str, AnyScores], workdir: pathlib.Path) -> None:
    """Figures and files of each test list, and of all together where there are several."""
    everything = dict(scored)
    if len(scored) > 1:
        everything["+".join(scored)] = functools.reduce(lambda a, b: a.merge(b), scored.values())
    for name, scores in everything.items():
        add_list(figures, "test", name, scores)
        if jax.process_index() == 0:
            for part, own in {"": scores, **scores.parts}.items():
                own.save(workdir / "scores" / part / f"{name}.npz")


def add_list(figures: dict[str, Any], kind: str, name: str, scores: AnyScores) -> None:
    """Writes a list's figures under figures[kind], those of its parts under parts/PART/kind."""
    figures.setdefault(kind, {})[name] = scores.figures(figures["threshold"])
    for part, own in scores.parts.items():
        entry = figures.setdefault("parts", {}).setdefault(part, {})
        threshold = entry.setdefault("threshold", figures["threshold"])
        entry.setdefault(kind, {})[name] = own.figures(threshold)
