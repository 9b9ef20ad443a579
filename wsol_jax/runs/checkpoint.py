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
from wsol_jax.base.types import Config, Json
from wsol_jax.runs import lock, mirror, older, workdirs
from wsol_jax.runs.state import TrainState, fingerprint

NOT_MEASURED = -1.0  # stands for the tune metric, a fraction, where it was not measured

# What is said of a checkpoint that may be whole.
_NO_DAMAGE = "RESOURCE_EXHAUSTED|PERMISSION_DENIED|Permission denied|Input/output error"


class _Damaged(UserError):
    """A checkpoint that is not whole."""


def check_choice(which: str) -> None:
    """Raises UserError where ``eval.checkpoint`` is neither "latest" nor "best"."""
    if which not in ("latest", "best"):
        raise UserError(f"eval.checkpoint: {which!r} is not one of 'latest', 'best'.")


class Checkpoints:
    """The checkpoints of one run, under ``workdir/checkpoints``.

    A checkpoint is the state tree and ``data``, a small JSON: where the input stood, the config,
    and a hash of the state. It is written beside and renamed when whole, so a killed save leaves
    the one before it.

    Args:
      config: the run's; a checkpoint of another one is not restored.
      read_only: nothing is saved or removed.
    """

    def __init__(self, workdir: pathlib.Path, config: Config, *, read_only: bool = False):
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        self._config, keep = config, config.train.keep
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
        try:
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=("state", "data")
            )
        except Exception as error:  # whatever a damaged file raises on its way through Orbax
            raise self._odd(error) from error

    def latest_step(self) -> int | None:
        """Steps done at the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Steps done at the checkpoint with the highest tune metric; the latest where none has."""
        try:
            best = self._manager.best_step()
        except Exception as error:
            raise self._odd(error) from error
        return self.latest_step() if best is None else best

    def _odd(self, error: Exception) -> UserError:
        """A sentence of what keeps the folder from being opened, most likely a step's metrics."""
        for path in sorted(self.folder.glob("*/metrics/metrics")):
            try:
                float(json.loads(path.read_text())["best"])
            except Exception:  # of many kinds
                return UserError(f'{path} is damaged: write {{"best": -1}} there, not measured.')
        return UserError(f"{self.folder} cannot be opened: {_first_line(error)}.")

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
        mirror.before_save(self.folder.parent, self.wait)
        # Always a metric: Orbax warns of each save without one, and NOT_MEASURED is never best.
        metrics = {"best": NOT_MEASURED if best is None or not math.isfinite(best) else best}
        workdirs.check_there(self.folder.parent)
        lock.check_held(self.folder.parent)
        data = {**data, "config": self._config.to_dict()}
        if self._config.train.checksum:
            data["sha256"] = _checksum(state)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data))
        try:
            # force: a save at every step asked for, also when one is going on.
            self._manager.save(step, args=args, metrics=metrics, force=True)
        except Exception as error:
            raise self._failed(step, error) from error

    def is_saving(self) -> bool:
        """Whether a save goes on, or what it makes needless is being removed."""
        return self._manager.is_saving_in_progress()

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
          UserError: the checkpoint is damaged, does not fit the template, or is another config's.
        """
        try:
            state, data = self._read(step, template)
        except _Damaged as error:
            raise UserError(f"{error} {self._way_out(step, template)}") from error.__cause__
        if "config" in data:  # not in those of earlier days
            self._check_config(step, data["config"])
        return state, data

    def _read(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Json]]:
        """Raises _Damaged where a step is not whole, UserError where it cannot be read now."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
        )
        for path in (self.folder / str(step)).rglob("*"):
            if not path.is_file() and not path.is_dir():  # a pipe would keep its reader waiting
                raise _Damaged(f"{path} is no regular file.")
        try:
            found = self._manager.restore(step, args=args)
        except Exception as error:  # whatever a damaged file raises on its way through Orbax
            place, why = self.folder / str(step), f"({_first_line(error)})."
            if isinstance(error, PermissionError) or re.search(_NO_DAMAGE, str(error)):
                raise UserError(f"{place} cannot be read {why}") from error
            raise _Damaged(
                f"{place} is damaged, or does not fit this config's network {why}"
            ) from error
        if not isinstance(found.data, dict):
            raise _Damaged(f"{self.folder / str(step)} is damaged: its data is no JSON object.")
        known = found.data.get("sha256")
        if self._config.train.checksum and known and known != _checksum(found.state):
            raise _Damaged(
                f"{self.folder / str(step)} is damaged: its arrays are not those that were saved."
            )
        return found.state, found.data

    def _way_out(self, step: int, template: TrainState) -> str:
        """What to do about a damaged step: the newest other one that is whole."""
        others = sorted((s for s in self._manager.all_steps() if s != step), reverse=True)
        if jax.process_count() > 1:  # the others would wait for this one's reading
            return f"Other steps: {', '.join(map(str, others)) or 'none'}."
        for other in others:
            try:
                self._read(other, template)
            except UserError:
                continue
            if other > step:
                return f"Step {other} is whole: --config.eval.checkpoint=latest takes it."
            return f"Step {other} is whole: remove {self.folder / str(step)} to go on from there."
        return "No other step is whole: the run must begin anew, in another workdir."

    def _check_config(self, step: int, saved: Json) -> None:
        try:
            before, now = (older.with_newer_fields(x) for x in (saved, self._config.to_dict()))
        except (AttributeError, TypeError, KeyError) as error:
            place = self.folder / str(step)
            raise UserError(f"{place} is damaged: what it says of its config is none.") from error
        name = workdirs.difference(before, now)
        if name:
            raise UserError(
                f"{self.folder / str(step)} was saved by a run with another {name} than "
                f"{self.folder.parent / workdirs.CONFIG} says: put that file back, or train again "
                "in another workdir."
            )

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


def _checksum(state: TrainState) -> str:
    """A hash of every bit of a state."""
    return fingerprint(state.replace(rng=jax.random.key_data(state.rng)))


def _first_line(error: Exception) -> str:
    # tensorstore wraps what the system said in the paths of all its layers.
    system = re.findall(r"([^:\[\]]+) \[os_error_code=", str(error))
    if system:
        return system[-1].strip()
    said = str(error).strip().splitlines() or [type(error).__name__]
    # Orbax's message is at times the trace of an error in one of its threads, which ends with it.
    return said[-1 if "Traceback" in said[0] else 0].strip()[:300]
