"""numba's compiler with the settings of all kernels, and a place for its cache.

Compiling takes seconds, so compiled code is kept on disk. A package folder that this user cannot write to (a system
installation, a read-only container) would make every Python worker compile anew; a private folder takes its place.

Kernels are written for quick compiling, too: arrays are copied one by one, for a copy in one statement brings numba's
message of shapes that differ (four seconds), and what takes a column's number is called in a loop, for each number
written out is compiled by itself.
"""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Any


def _private_cache_folder() -> str | None:
    """A folder of this user alone (mode 0700), or None where that cannot be had: code is loaded from it."""
    folder = os.path.join(tempfile.gettempdir(), f"cnnspark-numba-{os.getuid()}")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        status = os.lstat(folder)
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return folder if private else None


if "NUMBA_CACHE_DIR" not in os.environ and not os.access(os.path.dirname(os.path.abspath(__file__)), os.W_OK):
    _folder = _private_cache_folder()
    if _folder is not None:
        os.environ["NUMBA_CACHE_DIR"] = _folder

import numba  # noqa: E402  (after its cache folder is known)


def jit(function: Any) -> Any:
    """Compiles a kernel: no Python objects inside, the interpreter's lock released, the result cached on disk."""
    return numba.njit(cache=True, nogil=True)(function)
