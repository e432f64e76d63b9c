"""numba's compiler with the settings of all kernels, and a place for its cache.

Compiling takes seconds, so compiled code is kept on disk, beside its module. If this user cannot write there (a system
installation, a read-only container), every Python worker would compile anew; then the cache is in a private folder, and
begins with what was compiled when the package was installed.

Kernels are also written so that they compile quickly. They copy arrays element by element, because a copy in one
statement compiles numba's message about shapes that differ (four seconds). A function that takes a column's number is
called in a loop, because numba compiles it anew for each number that is written out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
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


_PACKAGE = Path(__file__).resolve().parents[1]
_folder = None
if "NUMBA_CACHE_DIR" not in os.environ and not os.access(_PACKAGE / "common", os.W_OK):
    _folder = _private_cache_folder()
    if _folder is not None:
        os.environ["NUMBA_CACHE_DIR"] = _folder

import numba  # noqa: E402  (after its cache folder is known)
from numba.core.caching import _CacheLocator  # noqa: E402


def _copy_compiled(package: Path, folder: str) -> None:
    """Copies what ``cnnspark compile-kernels`` left beside the modules to a cache folder, where that has none.

    numba reads compiled code only where it can write.

    Args:
        package: the folder of cnnspark.
        folder: the cache folder.
    """
    for compiled in package.glob("*/__pycache__"):
        files = [*compiled.glob("*.nbi"), *compiled.glob("*.nbc")]
        target = os.path.join(folder, _CacheLocator.get_suitable_cache_subpath(str(compiled.parent / "module.py")))
        if files and not os.path.exists(target):
            with contextlib.suppress(OSError):  # another process was first, or the disk is full: it is compiled anew
                made = tempfile.mkdtemp(dir=folder)
                for file in files:
                    shutil.copy2(file, made)
                os.rename(made, target)


if _folder is not None:
    _copy_compiled(_PACKAGE, _folder)


def jit(function: Any) -> Any:
    """Compiles a kernel: without Python objects, with the interpreter's lock released, cached on disk."""
    return numba.njit(cache=True, nogil=True)(function)
