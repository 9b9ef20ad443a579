"""What the small commands share: their flags' parser, and how a mistake reaches the user."""

import argparse
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from absl import flags, logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.text import clean_record, printable
from wsol_jax.base.typed import as_typed

_RAISED = ("asyncio", "gcsfs", "s3fs", "aiobotocore", "botocore")  # they log what they raise
_LONGEST = 4000  # letters: what stands in a file of anyone may be quoted in an error


class _Short(argparse.Action):
    """Shows the usage and the flags, without the pages below them, and ends the command."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        parser.epilog = None
        parser.print_help()
        parser.exit()


class Parser(argparse.ArgumentParser):
    """argparse's, whose mistakes are UserErrors; flags are written in full.

    Beside ``--help`` there is ``--helpshort``, as the main command has it.

    Args:
      name: the command is ``python -m wsol_jax.NAME``.
      description: its docstring, whose first line ``--help`` shows.
      epilog: shown as it stands.
    """

    def __init__(self, name: str, description: str, epilog: str = ""):
        super().__init__(
            prog=f"python -m wsol_jax.{name}",
            description=description.splitlines()[0],
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        none = argparse.SUPPRESS  # it leaves nothing among the flags
        words = "show the flags alone and exit"
        self.add_argument(
            "--helpshort", action=_Short, nargs=0, dest=none, default=none, help=words
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags.")


def run(command: Callable[[], None]) -> int:
    """The exit status of a command: 0, or 2 after one sentence on what the user can mend."""
    try:
        command()
    except UserError as error:
        return fail(str(error))
    except OSError as error:
        if error.filename is None:  # no file of the user's: a defect, whose traceback is wanted
            raise
        return fail(f"{error.filename}: {error.strerror or error}.")
    except KeyboardInterrupt:
        print("stopped by SIGINT.", file=sys.stderr)
        return 130
    return 0


def end_soon(status: int, seconds: float = 5.0) -> None:
    """Ends this process in some seconds, whichever of its threads still waits for something."""
    sys.stdout.flush()
    sys.stderr.flush()
    if not seconds:
        os._exit(status)
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()


def leave(status: int) -> NoReturn:
    """Ends a command: ``sys.exit``, which waits for no thread for long where the command failed."""
    if status:
        end_soon(status)
    sys.exit(status)


def fail(text: str) -> int:
    """Prints ``error:`` and one line; the exit status of a user's mistake."""
    line = printable(as_typed(text))
    if len(line) > _LONGEST:  # of a name without end; what is wrong with it often stands behind it
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    return 2


def no_flags() -> None:
    """Parses no flags, where no command has parsed any: grain's worker processes read them."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["wsol_jax"])


def clean_logs() -> None:
    """Keeps what names of files and classes may hold, such as escape codes, out of the log.

    And the traces of asyncio's tasks and of the stores' clients: Orbax's fail many at once at a
    damaged file, of which it raises one; a store that cannot be reached is told in a sentence.
    """
    handler = logging.get_absl_handler()
    handler.addFilter(clean_record)
    handler.addFilter(lambda record: record.name.partition(".")[0] not in _RAISED)
