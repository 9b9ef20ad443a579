"""The one exception that reaches a user as a sentence and not as a traceback."""


class UserError(Exception):
    """Something the user can mend: its text names the file or field and what was expected.

    ``main`` prints the text after ``error:`` and exits with status 2; a library caller catches it
    like any other exception.
    """
