"""numba's compiler with the settings of all kernels, and a place for its cache.

Compiling takes seconds, so compiled code is kept on disk, beside its module. If this user cannot write there (a system
installation, a read-only container), every Python worker would compile anew; then the cache is in a private folder.

Kernels are also written so that they compile quickly. They copy arrays element by element, because a copy in one
statement compiles numba's message about shapes that differ (four seconds). A function that takes a column's number is
called in a loop, because numba compiles it anew for each number that is written out.
"""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Any


def _private_cache_folder() -> str | None:
    """A folder of this user alone (mode 0700), or None if it cannot be made.

    Compiled code is loaded from it, so nobody else may be able to write there.
    """
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
    """Compiles a kernel: without Python objects, with the interpreter's lock released, cached on disk."""
    return numba.njit(cache=True, nogil=True)(function)
