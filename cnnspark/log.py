"""Progress lines for a person: on stderr, so that stdout holds results alone."""

from __future__ import annotations

import sys
import time

_started = time.monotonic()
_quiet = False


def set_quiet(quiet: bool) -> None:
    """Turns progress lines off (``--json``, ``-q``) or on."""
    global _quiet
    _quiet = quiet


def progress(message: str) -> None:
    """One line with the seconds since the start."""
    if not _quiet:
        print(f"[{time.monotonic() - _started:6.1f} s] {message}", file=sys.stderr, flush=True)
