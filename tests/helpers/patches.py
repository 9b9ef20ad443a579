"""Patches of the package: functions that tiny.Run calls in its process before the command."""

import collections
import os
import pathlib
import resource
import signal
import time

import jax

from helpers import runs
from wsol_jax.base import files
from wsol_jax.base.errors import UserError
from wsol_jax.evaluate import boxes, score
from wsol_jax.runs import checkpoint, history, workdirs
from wsol_jax.stages import label, train


def stop_in_tune():
    """SIGINT arrives in the middle of the second evaluation of the tune list."""
    score_list, calls = score.score_list, []

    def interrupted(*args, **kwargs):
        calls.append(0)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return score_list(*args, **kwargs)

    score.score_list = interrupted


def stop_at_the_last_step():
    """SIGTERM arrives while the last step's row is written."""
    write = history.MetricWriter.write_scalars

    def interrupted(self, step, scalars):
        write(self, step, scalars)
        if step == runs.LAST and "train/loss" in scalars:
            os.kill(os.getpid(), signal.SIGTERM)

    history.MetricWriter.write_scalars = interrupted


def stop_in_final_evaluation():
    """SIGTERM arrives when the tests are scored."""
    boxes.fit_central_box = lambda source: os.kill(os.getpid(), signal.SIGTERM)


def count_compilations():
    """Each row of the history says how many programs were compiled before it."""
    compiled = []

    def listener(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listener)
    write = history.MetricWriter.write_scalars

    def counted(self, step, scalars):
        write(self, step, {**scalars, "compiled": len(compiled)})

    history.MetricWriter.write_scalars = counted


def fill_disk_after_two_saves():
    """No file may have more than 4 kB from the third save on."""
    save, calls = checkpoint.Checkpoints.save, []

    def limited(self, *args):
        calls.append(0)
        if len(calls) == 3:
            self.wait()
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        save(self, *args)

    checkpoint.Checkpoints.save = limited


def fill_disk_for_claim():
    """The disk is full when the run's folder is made, and only then: stderr is a file."""
    claim = workdirs.claim

    def limited(*args):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))
        try:
            claim(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    workdirs.claim = limited


def die_in_the_sixth_cue():
    """SIGKILL with the sixth picture written and not yet renamed."""
    replace, seen = os.replace, []

    def dies(source, target):
        if str(target).endswith(".png"):
            seen.append(target)
        if len(seen) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    files.os.replace = dies


def die_once_in_each_stage(among=()):
    """SIGKILL in the fourth step of each training, and in the seventh picture of each label stage.

    ``among``: stages to be killed; () for all. WORKDIR/killed names the stages where that has
    happened, which are left in peace then.
    """
    replace, write = os.replace, history.MetricWriter.write_scalars
    seen = collections.Counter()  # pictures, by stage

    def die_in(stage, due):
        killed = stage.parent / "killed" / stage.name
        if due and not killed.exists() and (not among or stage.name in among):
            killed.parent.mkdir(exist_ok=True)
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def replaced(source, target):
        if str(target).endswith(".png"):
            for folder in pathlib.Path(target).parents:
                if (folder / "inputs.json").is_file():
                    seen[folder] += 1
                    die_in(folder, seen[folder] == 7)
        replace(source, target)

    def written(self, step, scalars):
        die_in(self._history.parent, step == 4)
        write(self, step, scalars)

    files.os.replace = replaced
    history.MetricWriter.write_scalars = written


# Of each kind one, and a training that goes on from an earlier one.
MCOF = ("superpixels", "saliency", "seeds", "region_1", "objects_1", "refined_1", "pixel_2")


def die_once_in_each_kind_of_mcofs_stages():
    """As ``die_once_in_each_stage``, in those of MCOF."""
    die_once_in_each_stage((*MCOF, "masks_1"))


def _fails(module, name, times=1):
    """The function raises a UserError at its ``times``-th call."""
    function, calls = getattr(module, name), []

    def failing(*args, **kwargs):
        calls.append(0)
        if len(calls) == times:
            raise UserError("the photos of this machine are gone.")
        return function(*args, **kwargs)

    setattr(module, name, failing)


def fail_in_training():
    """A UserError in the fifth step, after two saves."""
    _fails(train._Loop, "_after_step", times=5)


def fail_in_labels():
    """A UserError with three photos' labels made."""
    _fails(label, "_finished", times=4)


def fail_in_evaluation():
    """A UserError when the test list is scored."""
    _fails(boxes, "fit_central_box")


def wait_in_evaluation():
    """The process waits when the test list is scored, until it is killed."""
    boxes.fit_central_box = lambda source: time.sleep(600)


def wait_in_labels():
    """The process waits with three photos' labels made, until it is killed."""
    made, finished = [], label._finished

    def waiting(*args):
        made.append(0)
        if len(made) == 4:
            time.sleep(600)
        return finished(*args)

    label._finished = waiting
