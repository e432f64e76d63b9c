"""Writing BGZF files: htslib says neither that a disk is full nor why else a write failed; here it is found out."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import Any

import pysam

# More than a disk that has just refused a BGZF block (64 KiB) can take.
PROBE_BYTES = 1 << 17


def write_failure(path: str | os.PathLike[str], failure: OSError) -> OSError:
    """``failure`` with the cause that the system names when something is written beside ``path``, where it names one.

    The cause is known by then or not at all: htslib has lost ``errno``.
    """
    if failure.errno is not None:
        return failure
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))) as probe:
            probe.write(b"\0" * PROBE_BYTES)
            probe.flush()
    except OSError as cause:
        return OSError(cause.errno, cause.strerror, str(path))
    return OSError(f"{path} cannot be written ({failure})")


class BgzfWriter:
    """A BGZF file to write, whose OSErrors say why: a disk that is full, a quota that is used up. Use it as a context.

    What htslib still holds when the file is closed is written then, so closing fails, too.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = str(path)
        self._file: Any = pysam.BGZFile(self.path, "wb", None)

    def __enter__(self) -> BgzfWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._drop()

    def write(self, data: bytes) -> int:
        return self._checked("write", data)

    def flush(self) -> None:
        self._checked("flush")

    def tell(self) -> int:
        """The virtual file offset of what is written next."""
        return self._checked("tell")

    def close(self) -> None:
        if self._file is not None:
            self._checked("close")

    def _checked(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._file, name)(*arguments)
        except OSError as failure:
            cause = write_failure(self.path, failure)
        self._drop()
        raise cause

    def _drop(self) -> None:
        """Lets go of a file that will not be whole; pysam tries to close it once more and complains to stderr.

        htslib leaves a file open that it could not flush: emptied, it takes no space while this process lives on.
        """
        with contextlib.suppress(OSError):
            os.truncate(self.path, 0)
        hooks = sys.unraisablehook, sys.excepthook
        verbosity = pysam.set_verbosity(0)
        silent: Any = lambda *_: None  # noqa: E731
        sys.unraisablehook = sys.excepthook = silent
        try:
            self._file = None
        finally:
            sys.unraisablehook, sys.excepthook = hooks
            pysam.set_verbosity(verbosity)
