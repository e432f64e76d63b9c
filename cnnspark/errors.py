"""Exceptions, grouped by who has to act; each class carries the exit code of the command line.

A message is one sentence that names the thing and ends with a remedy.
"""


class CnnsparkError(Exception):
    """Any failure that cnnspark explains; the command line prints it as one sentence."""

    exit_code = 4


class UsageError(CnnsparkError):
    """The command line or the configuration asks for something impossible: the user changes the command."""

    exit_code = 2


class InputError(CnnsparkError):
    """An input is missing, damaged or does not fit the others: the user gives another file."""

    exit_code = 3


class RunError(CnnsparkError):
    """The run failed underway: the same command with ``--if-exists resume`` continues it."""

    exit_code = 4


class QualityError(CnnsparkError):
    """The work was done, but its result is not what the user asked for; the message says what was kept."""

    exit_code = 5
