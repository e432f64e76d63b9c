"""What can go wrong, by whose turn it is to act; each class carries the exit code of the command line.

A message is one sentence that names the thing and ends with a remedy.
"""


class CnnsparkError(Exception):
    """Any failure that cnnspark explains; the command line prints it as one sentence."""

    exit_code = 4


class UsageError(CnnsparkError):
    """The command line or the configuration asks for something that cannot be."""

    exit_code = 2


class InputError(CnnsparkError):
    """An input is missing, broken or does not fit the others (preflight)."""

    exit_code = 3


class RunError(CnnsparkError):
    """The run failed underway; running the same command with ``--if-exists resume`` goes on."""

    exit_code = 4


class QualityError(CnnsparkError):
    """The work was done but does not meet the quality that was asked for; what is left is said."""

    exit_code = 5
