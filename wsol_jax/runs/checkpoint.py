"""Checkpoints on Orbax: atomic, asynchronous, the latest and the best kept."""

import json
import math
import pathlib
import re
from collections.abc import Mapping

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.base.types import Json
from wsol_jax.runs.state import TrainState

NOT_MEASURED = -1.0  # stands for the tune metric, a fraction, where it was not measured


def check_choice(which: str) -> None:
    """Raises UserError where ``eval.checkpoint`` is neither "latest" nor "best"."""
    if which not in ("latest", "best"):
        raise UserError(f"eval.checkpoint: {which!r} is not one of 'latest', 'best'.")


class Checkpoints:
    """The checkpoints of one run, under ``workdir/checkpoints``.

    A checkpoint is the state tree and ``data``, a small JSON of where the input stood. It is
    written beside and renamed when whole, so a killed save leaves the one before it.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int = 2, read_only: bool = False):
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        # Orbax' own best_fn with max_to_keep would delete the newest checkpoint when it is not
        # among the best; so latest and best are two policies, either of which keeps.
        best = checkpoint_managers.BestN(
            get_metric_fn=lambda metrics: metrics["best"],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(max(keep, 1)), best]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics["best"],
            best_mode="max",
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_names=("state", "data")
        )

    def latest_step(self) -> int | None:
        """Steps done at the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Steps done at the checkpoint with the highest tune metric; the latest where none has."""
        best = self._manager.best_step()
        return self.latest_step() if best is None else best

    def choose(self, which: str) -> int | None:
        """The step that ``eval.checkpoint`` means, "latest" or "best"; None where none is saved.

        Raises:
          UserError: another word.
        """
        check_choice(which)
        return self.best_step() if which == "best" else self.latest_step()

    def is_measured(self, step: int) -> bool:
        """Whether a step's checkpoint has its tune metric."""
        metrics = self._manager.metrics(step)
        return metrics is not None and metrics["best"] != NOT_MEASURED

    def measure(self, step: int, best: float) -> None:
        """Gives a checkpoint the tune metric that a signal kept from being measured.

        Orbax has no such call: saving a step again would mean to delete it first. So its file of
        metrics, a JSON, is replaced, which happens whole or not at all.
        """
        file = self.folder / str(step) / "metrics" / "metrics"
        if jax.process_index() == 0:
            write_whole(file, json.dumps({"best": best}))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"measured_{step}")
        self._manager.reload()

    def save(
        self, step: int, state: TrainState, data: Mapping[str, Json], best: float | None = None
    ) -> None:
        """Starts a save; the state is copied before this returns, the writing goes on behind.

        Args:
          step: steps done.
          state: a tree of global arrays.
          data: JSON of the input's position.
          best: the tune metric that ``best_step`` compares, if it was measured at this step.

        Raises:
          UserError: this save or the one before it could not be written.
        """
        # Always a metric: Orbax warns of each save without one, and NOT_MEASURED is never best.
        metrics = {"best": NOT_MEASURED if best is None or not math.isfinite(best) else best}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(dict(data))
        )
        try:
            # force: a save at every step asked for, also when one is going on.
            self._manager.save(step, args=args, metrics=metrics, force=True)
        except Exception as error:
            raise self._failed(step, error) from error

    def wait(self) -> None:
        """Until every save is whole on disk.

        Raises:
          UserError: one could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(None, error) from error

    def _failed(self, step: int | None, error: Exception) -> UserError:
        whole = [s for s in self._manager.all_steps(read=True) if s != step]
        kept = f"step {max(whole)} is whole and kept" if whole else "no earlier one exists"
        reason = _first_line(error)
        return UserError(
            f"a checkpoint could not be written to {self.folder} ({reason}); {kept}. "
            "Free some space and run the same command to go on."
        )

    def restore(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Json]]:
        """The state and ``data`` of a step.

        Args:
          step: from ``latest_step`` or ``best_step``.
          template: arrays or ShapeDtypeStructs with the shardings to restore to.

        Raises:
          UserError: the checkpoint does not fit the template.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=args)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.folder / str(step)} does not fit this config's network, or is damaged: "
                f"{_first_line(error)}"
            ) from error
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{self.folder / str(step)} cannot be read ({_first_line(error)}); remove that "
                "folder to go on from the checkpoint before it."
            ) from error
        return restored.state, restored.data

    def reached_preemption(self, step: int) -> bool:
        """Whether the cluster asked all processes to stop; needs ``jax.distributed``."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits for the last save.

        Raises:
          UserError: it could not be written.
        """
        try:
            self._manager.close()
        except Exception as error:
            raise self._failed(None, error) from error


def _first_line(error: Exception) -> str:
    # tensorstore wraps what the system said in the paths of all its layers.
    system = re.findall(r"([^:\[\]]+) \[os_error_code=", str(error))
    if system:
        return system[-1].strip()
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
