"""A run's checkpoint scored on other lists, or by another threshold; its folder is only read."""

import pathlib
from collections.abc import Sequence

from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Source, has_masks
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.evaluate.kind import QUICK, Task
from wsol_jax.evaluate.score import score_list
from wsol_jax.evaluate.stored.summary import NEED_BOXES, NEED_MASKS
from wsol_jax.evaluate.stored.write import MapStore
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import open_run


def rescore(
    workdir: pathlib.Path,
    *,
    checkpoint: str = "",
    tests: str = "",
    metrics: Sequence[str] = (),
    threshold: float | None = None,
    store: pathlib.Path | None = None,
    dtype: str = "float32",
) -> tuple[dict[str, BoxScores], tuple[float, str], int]:
    """Scores a run's checkpoint on some lists and leaves the run's folder as it is.

    Args:
      checkpoint: "best" or "latest"; "" for the config's. tests: lists joined by "+"; "" for the
        config's. metrics: the ones asked for, of ``METRICS``; every list must have their truth.
      threshold: of the boxes; None chooses it as training does.
      store: a folder for score maps, one sub-folder a list (``MapStore``). dtype: of these.
    Returns:
      Each list's scores, the threshold and where it comes from, and the checkpoint's step.
    Raises:
      UserError: no run, no such list, a list without a metric's truth, a run that is not scored by
        boxes, or the store cannot be written.
    """
    workdir = workdirs.network_folder(workdir)
    config, class_names = workdirs.load_to_run(workdir)
    with config.unlocked():
        config.eval.checkpoint = checkpoint or config.eval.checkpoint
        config.data.test = tests or config.data.test
        if threshold is not None:
            config.eval.threshold = threshold
    if not workdirs.has_checkpoint(workdir):
        raise UserError(f"--workdir={workdir} holds no checkpoint: train there first.")
    kinds.check_options(config, class_names)
    run = open_run(config, workdir, devices=0)
    kind = kinds.of(run)
    if kind.results is not BoxScores:
        raise UserError(
            f"--workdir={workdir} holds a run that is measured by {kind.name}, which these metrics "
            f"do not know: --mode=evaluate of wsol_jax.main scores it."
        )
    # Before an hour of scoring, not after: a list without truth, a folder that cannot be written.
    for source in run.lists.tests.values():
        _check_truth(source, metrics)
    stores = {n: MapStore(store / n, s, dtype) for n, s in run.lists.tests.items() if store}
    tune = None
    if run.lists.tune is not None and config.eval.threshold < 0:
        what = f"threshold from {run.lists.tune.name}"
        tune = score_list(run, run.lists.tune, kind, QUICK, what=what)
    chosen, reason = kind.choose_threshold(tune, run.lists.describe_tune())
    if threshold is not None:
        reason = "--threshold"
    scored = {}
    for name, source in run.lists.tests.items():
        kept = stores.get(name)
        keep = kept.keep if kept else None
        task = Task(thresholds={"": chosen}, keep=keep, parts=False)
        scored[name] = score_list(run, source, kind, task, what=f"evaluate {name}")
        if kept:
            kept.finish()
    return scored, (chosen, reason), run.step


def _check_truth(source: Source, metrics: Sequence[str]) -> None:
    """Raises UserError for a metric that a list has no truth for."""
    for name in metrics:
        if name in NEED_BOXES:
            kind, known = "boxes", any(len(source[i].boxes) for i in range(len(source)))
        elif name in NEED_MASKS:
            kind, known = "masks", has_masks(source)
        else:
            continue
        if not known:
            raise UserError(f"--metrics={name}: no image of {source.name} has {kind} to score by.")
