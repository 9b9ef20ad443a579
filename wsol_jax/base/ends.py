"""How the main command ends: the sentence and the status of what went wrong, a log of its own."""

import errno
import os
import pathlib
import re
import signal
import sys

from absl import flags

from wsol_jax.base import commands
from wsol_jax.base.errors import UserError

OF_FLAGS = (
    UserError, flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError, ImportError,
    SyntaxError,
)  # fmt: skip
"""What parsing the flags raises where a flag, or the config that it names, is at fault."""

_PACKAGE = str(pathlib.Path(__file__).resolve().parents[1]) + os.sep

# Of a write to an open file, which names none: the disk is full, or broken.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def status(error: BaseException, workdir: str | None) -> int | None:
    """The exit status of what went wrong, after a sentence; None where nobody foresaw it."""
    if isinstance(error, UserError):
        return commands.fail(str(error))
    if isinstance(error, KeyboardInterrupt):
        print("stopped by SIGINT; what was saved is kept.", file=sys.stderr)
        return 128 + signal.SIGINT
    if isinstance(error, OSError) and error.filename is not None:
        return commands.fail(f"{error.filename}: {error.strerror or error}.")
    if isinstance(error, OSError) and error.errno in _DISK:
        return commands.fail(f"--workdir={workdir}: {error.strerror}; what was saved is kept.")
    return None


def sentence(error: Exception, path: str) -> str:
    """What is wrong with a flag, or with the config at ``path``, in one sentence."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, flags.Error):
        text = re.sub(r"invalid literal for int.*?: ", "expected a whole number, got ", str(error))
        text = re.sub("could not convert string to float: ", "expected a number, got ", text)
        if "flag 'config." in text and not path:
            text += ": fields are set after --config=FILE, which is missing"
        return text
    if isinstance(error, AttributeError | KeyError):
        if "get_config" in str(error):
            return f"--config={path}: expected a file with get_config(), such as configs/cam.py"
        # ml_collections names the nearest field on a second line, quoted once too often.
        text = str(error.args[0] if error.args else error).strip("\"'")
        text = text.replace("\\n", ". ").replace("\n", ". ").replace("\\'", "'").lstrip("'")
        return "--config has no field '" + text + "'" * ("'" not in text)
    if isinstance(error, OSError) and not pathlib.Path(path.partition(":")[0]).is_file():
        return f"--config={path}: there is no such file."
    return f"--config={path}: {error}"


def report_unraisable(unraisable) -> None:
    """``sys.unraisablehook``, but for the threads of a save that failed.

    They report that nobody waits for them any more, one by one.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def is_ours(record) -> bool:
    """Whether a log record is told: this package's, and others' warnings but for Orbax's."""
    if f"{os.sep}orbax{os.sep}" in record.pathname:
        return False  # what fails there is raised as well, and becomes a sentence
    # Not any folder of this name: a clone called wsol_jax holds every library in its .venv.
    return record.levelno >= 30 or record.pathname.startswith(_PACKAGE)
