"""The lines that a run writes on stderr while it works; stdout holds results alone.

They are text for a person, or with ``--log-format json`` one JSON object a line. A message that begins with
``warning:`` is a warning in both.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, TextIO

FORMATS = ("text", "json")
_WARNING = "warning: "
_ERASE_LINE = "\r\x1b[2K"  # ECMA-48: erase in line

_started = time.monotonic()
_quiet = False
_format = "text"
_live = False  # whether the terminal's last line is one that the next line overwrites
_unsilenced: TextIO | None = None  # a copy of the process's stderr while quiet_stderr sends all other lines nowhere
_lock = threading.Lock()  # the driver's main thread writes lines, and so do the threads that follow the work
_fields: ContextVar[Mapping[str, Any]] = ContextVar("fields", default={})  # noqa: B039 (never changed in place)


def set_quiet(quiet: bool) -> None:
    """Turns progress lines and warnings off (``--json``, ``-q``) or on; a failure is still reported."""
    global _quiet
    _quiet = quiet


def set_format(name: str) -> None:
    """Chooses how lines are written: one of FORMATS."""
    global _format
    _format = name


def is_quiet() -> bool:
    """Whether only failures are reported."""
    return _quiet


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Says what the work within is about: its stage, its sample, its callset of a sheet.

    The fields become part of this thread's JSON lines and of the names of Spark's jobs. Lines of text begin with the
    callset, because the lines of several callsets come mixed. It is a context manager and a decorator.

    Args:
        fields: names and values; empty values are left out, and inner contexts add to outer ones.
    """
    token = _fields.set({**_fields.get(), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _fields.reset(token)


def subject() -> Mapping[str, Any]:
    """The fields of the :func:`about` contexts that this thread is in."""
    return _fields.get()


def progress(message: str, **fields: Any) -> None:
    """Writes one line: as text with the seconds since the start, as JSON with ``fields`` and those of :func:`about`."""
    if _quiet:
        return
    if _format == "json":
        level = "warning" if message.startswith(_WARNING) else "info"
        _write(_json_line(level, message.removeprefix(_WARNING), fields))
    else:
        prefix = f"{callset}: " if (callset := _fields.get().get("callset")) else ""
        _write(f"[{time.monotonic() - _started:6.1f} s] {prefix}{message}")


def fail(message: str, code: int) -> None:
    """Writes the sentence that a failed run ends with, even with ``-q``; ``code`` is the exit code."""
    _write(_json_line("error", message, {"exit_code": code}) if _format == "json" else f"cnnspark: {message}")


def has_terminal() -> bool:
    """Whether a person watches, so that :func:`live` is of use."""
    return _format == "text" and _stderr().isatty() and os.environ.get("TERM") != "dumb"


def live(text: str) -> None:
    """Shows ``text`` as the terminal's last line, which the next line overwrites; an empty text removes it."""
    global _live
    if _quiet:
        return
    width = shutil.get_terminal_size().columns - 1  # a line that wraps is not erased as one
    with _lock:
        _put(_ERASE_LINE + text[:width])
        _live = bool(text)


def _write(line: str) -> None:
    global _live
    with _lock:
        _put(f"{_ERASE_LINE if _live else ''}{line}\n")
        _live = False


def _put(text: str) -> None:
    """Writes to stderr. If nobody can read it (a full disk, a closed pipe) the lines are lost, and the work goes on."""
    stderr = _stderr()
    try:
        stderr.write(text)
        stderr.flush()
    except (OSError, ValueError):
        # What is still buffered would fail again at the end of the process.
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stderr.fileno())


def _stderr() -> TextIO:
    """The stream for lines; :func:`quiet_stderr` does not silence the stderr that a test or a notebook has put in."""
    if _unsilenced is None or sys.stderr is not sys.__stderr__:
        return sys.stderr
    return _unsilenced


def _json_line(level: str, message: str, fields: Mapping[str, Any]) -> str:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": now, "level": level, "message": message, **_fields.get(), **fields}
    return json.dumps(line | {"elapsed_seconds": round(time.monotonic() - _started, 3)}, default=str)


def listed(names: Sequence[object], at_most: int = 8, letters: int | None = 40) -> str:
    """Names in a sentence: ``a, b, c and 4 more``; empty if there are none.

    Args:
        names: what to name; each is shown as ``str`` gives it.
        at_most: how many are shown; the others are counted.
        letters: where a long name (an ALT of thousands of bases) is cut; None shows all of it.
    """
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(str(name)[:letters] for name in names[:at_most]) + more


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Lets only this module's lines reach the process's stderr.

    TensorFlow writes lines when it is loaded that no log level holds back. Exceptions pass through unchanged.
    """
    global _unsilenced
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "w") as kept:
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            # Without Spark, other threads go on writing lines.
            with _lock:
                _unsilenced = kept
            yield
        finally:
            sys.stderr.flush()
            with _lock:
                os.dup2(kept.fileno(), 2)
                _unsilenced = None
