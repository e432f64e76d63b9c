"""Progress lines for a person: on stderr, so that stdout holds results alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_started = time.monotonic()
_quiet = False
_subject: ContextVar[str] = ContextVar("subject", default="")


def set_quiet(quiet: bool) -> None:
    """Turns progress lines off (``--json``, ``-q``) or on."""
    global _quiet
    _quiet = quiet


def progress(message: str) -> None:
    """One line with the seconds since the start."""
    if not _quiet:
        whose = f"{_subject.get()}: " if _subject.get() else ""
        print(f"[{time.monotonic() - _started:6.1f} s] {whose}{message}", file=sys.stderr, flush=True)


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Progress lines within, of this thread, begin with the subject: a callset of a sheet."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Nothing reaches the process's stderr: TensorFlow writes lines when it is loaded that no log level holds back.

    Exceptions are raised as ever.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
