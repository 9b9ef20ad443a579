"""Per-image results of made-up images, and the plain arrays that they were made of."""

import numpy as np

from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.metrics.boxes import THRESHOLDS
from wsol_jax.report.example import Run

TAU = float(THRESHOLDS[300])


class Made:
    """Scores of n images of c classes, and the plain arrays that they were made of."""

    def __init__(self, n=40, c=5, seed=0, prefix="i", boxes=True, masks=True, empty=()):
        rng = np.random.default_rng(seed)
        self.ids = [f"{prefix}{k:04}" for k in range(n)]
        have = [k for k in range(c) if k not in empty]
        self.labels = np.array([have[k % len(have)] for k in range(n)])  # the same for all seeds
        self.right = rng.random(n) < 0.7
        self.ious = rng.random((n, len(THRESHOLDS)))
        self.counts = rng.integers(0, 50, (n, 2, 1001)) if masks else None
        self.sure = rng.random(n).astype(np.float32)
        self.said = np.where(self.right, self.labels, (self.labels + 1) % c)
        self.scores = BoxScores(class_names=tuple(f"class {k}" for k in range(c)))
        s = self.scores
        for k, name in enumerate(self.ids):
            if boxes:
                s.boxes.update([name], self.ious[k : k + 1], self.ious[k : k + 1])
                s.ious.update([name], self.ious[k : k + 1, 300])
            if masks:
                s.pixels.images.update([name], self.counts[k : k + 1])
            s.hits.update(name, {"top1_acc": self.right[k]})
            s.classes.update([name], np.array([[self.labels[k], self.said[k]]]))
            s.confidence.update([name], self.sure[k : k + 1])
            s.truth.update([name], [np.array([[20, 30, 120, 150]])])

    def run(self, name="test", **changes):
        figures = {"test": {name: self.scores.figures(TAU, intervals=False)}, "threshold": TAU}
        given = dict(figures=figures, examples=[], threshold=TAU, scores={name: self.scores})
        return Run(**{**given, **changes})
