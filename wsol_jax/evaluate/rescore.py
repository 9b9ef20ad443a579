"""A run's checkpoint scored on other lists, or by another threshold; its folder is only read."""

import pathlib

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.run import check_options, choose_threshold
from wsol_jax.evaluate.scores import Scores
from wsol_jax.evaluate.scoring import score_list
from wsol_jax.evaluate.stored.write import MapStore
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import open_run


def score_run(
    workdir: pathlib.Path,
    *,
    checkpoint: str = "",
    tests: str = "",
    threshold: float | None = None,
    store: pathlib.Path | None = None,
    dtype: str = "float32",
) -> tuple[dict[str, Scores], tuple[float, str], int]:
    """Scores a run's checkpoint on some lists and leaves the run's folder as it is.

    Args:
      checkpoint: "best" or "latest"; "" for the config's. tests: lists joined by "+"; "" for the
        config's. threshold: of the boxes; None chooses it as training does.
      store: a folder for score maps, one sub-folder a list (``store.MapStore``). dtype: of these.
    Returns:
      Each list's scores, the threshold and where it comes from, and the checkpoint's step.
    Raises:
      UserError: no run, no such list, or the store cannot be written.
    """
    workdir = workdirs.network_folder(workdir)
    config, _ = workdirs.load(workdir)
    if config.data.multi_label:
        raise UserError(
            f"--workdir={workdir} holds a run on images of several labels, which these metrics do "
            f"not know: --mode=evaluate of wsol_jax.main scores it."
        )
    with config.unlocked():
        config.eval.checkpoint = checkpoint or config.eval.checkpoint
        config.data.test = tests or config.data.test
        if threshold is not None:
            config.eval.threshold = threshold
    if not workdirs.has_checkpoint(workdir):
        raise UserError(f"--workdir={workdir} holds no checkpoint: train there first.")
    check_options(config.eval)
    run = open_run(config, workdir, devices=0)
    # Before an hour of scoring, not after: a folder that cannot be written says so here.
    stores = {n: MapStore(store / n, s, dtype) for n, s in run.lists.tests.items() if store}
    parts = (run.config, run.method, run.variables)
    tune = None
    if run.lists.tune is not None and config.eval.threshold < 0:
        what = f"threshold from {run.lists.tune.name}"
        tune = score_list(
            *parts, run.lists.tune, run.mesh, every_contour=False, parts=False, what=what
        )
    chosen, reason = choose_threshold(config, tune)
    if threshold is not None:
        reason = "--threshold"
    scored = {}
    for name, source in run.lists.tests.items():
        kept = stores.get(name)
        keep = kept.keep if kept else None
        what = f"evaluate {name}"
        options = dict(threshold=chosen, keep=keep, parts=False, what=what)
        scored[name] = score_list(*parts, source, run.mesh, **options)
        if kept:
            kept.finish()
    return scored, (chosen, reason), run.step
