"""The command line. ``jobs/*.py`` are the same commands for spark-submit.

Heavy packages are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from cnnspark._version import __version__
from cnnspark.cli import models, pipeline, reporting, samples, scoring
from cnnspark.common.error_translation import explain
from cnnspark.common.log import fail, set_format
from cnnspark.execution.tensorflow_setup import own_process

EXIT_CODES = """\b
Exit codes: 0 done, 2 usage or configuration, 3 the inputs do not fit (preflight),
4 failed and resumable (--if-exists resume), 5 not good enough (--strict)."""


class NaturalOrderGroup(click.Group):
    """Lists the commands in the order in which the data goes through them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names, in the order in which they were added."""
        return list(self.commands)


@click.group(cls=NaturalOrderGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cnnspark")
def cli() -> None:
    """Filter variant callsets with a convolutional network, distributed on Apache Spark.

    Start with 'cnnspark demo'. A usual run: 'tensors' on a sample with a truth set, 'train', then 'score' and
    'filter' on every callset; or all of it with 'run'.
    """


# In the order in which the data goes through them.
for command in (
    samples.simulate,
    samples.candidates,
    samples.tensors,
    models.pretrain,
    models.train,
    models.cascade,
    scoring.plan,
    scoring.score,
    scoring.filter_,
    reporting.evaluate,
    reporting.report,
    reporting.show_,
    reporting.explain_,
    models.import_gatk,
    models.model_summary,
    pipeline.run_,
    pipeline.demo,
    pipeline.compile_kernels,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; every failure becomes one sentence on stderr."""
    if arguments is None:
        own_process()
        _have_stderr()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    set_format("text")  # until the command's own options are known
    try:
        with _ended_by_sigterm():
            cli.main(arguments, prog_name="cnnspark", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.Abort:
        return _fail("interrupted; run again with --if-exists resume", 130)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return _fail("interrupted; run again with --if-exists resume", 130)
    except Exception as error:
        if "--debug" in arguments:
            raise
        explained = explain(error)
        return _fail(str(explained), explained.exit_code)
    return 0


def _have_stderr() -> None:
    """Gives a process without stderr (``2>&-``) one that goes nowhere; else the next file that is opened becomes it."""
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != 2:
            os.dup2(nowhere, 2)
            os.close(nowhere)
        sys.stderr = os.fdopen(2, "w", closefd=False)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, by which YARN and Kubernetes end a driver, as an exception: temporary folders are then removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, code: int) -> int:
    fail(message, code)
    return code
