"""The exceptions that reach a user as a sentence and not as a traceback."""

import signal

from wsol_jax.base.typed import as_typed

# What to do about numbers that are none.
LOWER_RATE = (
    "A lower learning rate (optimizer.backbone_lr, optimizer.head_lr) in a new workdir is the "
    "usual cure."
)


class UserError(Exception):
    """A mistake that the user can mend: its text names the file or field and what was expected.

    ``main`` prints the text after ``error:`` and exits with status 2; a library caller catches it
    like any other exception.
    """

    def __str__(self) -> str:
        return as_typed(super().__str__())


class Interrupted(BaseException):
    """The stop of a run by a signal, after what was made is whole.

    Args:
      signum: the signal's number.
      step: of the checkpoint; None where it is files that are kept.

    No Exception, like KeyboardInterrupt: nothing on the way up should take it for a failure.
    """

    def __init__(self, signum: int, step: int | None):
        after = (
            "; what is written is kept" if step is None else f" after step {step}, which is saved"
        )
        super().__init__(
            f"stopped by {signal.Signals(signum).name}{after}; the same command goes on from there."
        )
        self.signum = signum
