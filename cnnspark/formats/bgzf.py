"""Writes BGZF files, and finds out why a write failed: htslib does not even say that a disk is full."""

from __future__ import annotations

import contextlib
import gzip
import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pysam

from cnnspark.formats.htslib import open_input

# Bytes of a trial write: more than a disk can take that has just refused a BGZF block (64 KiB).
PROBE_BYTES = 1 << 17


def write_failure(path: str | os.PathLike[str], failure: OSError) -> OSError:
    """The error to raise for a failed write: with its cause, if a trial write beside ``path`` shows it.

    Args:
        path: the file that htslib failed to write.
        failure: htslib's error, which has usually lost its ``errno``.

    Returns:
        ``failure`` itself if it has an ``errno``, else the error of the trial write, else one that names ``path``.
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


@contextlib.contextmanager
def open_bgzf(path: str | os.PathLike[str]) -> Iterator[Iterator[bytes]]:
    """Opens a bgzipped, gzipped or plain file, a path or a URL, to read its lines without their ends.

    Not pysam's BGZFile: that crashes the process if the file cannot be opened, and ends at the first empty line.

    Raises:
        OSError: if it cannot be opened, or while it is read, if it is truncated or damaged.
    """
    with open_input(str(path)) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        yield _lines(gzip.GzipFile(fileobj=raw) if packed else raw)


def _lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    try:
        for line in stream:
            yield line.rstrip(b"\r\n")
    except (EOFError, zlib.error) as error:
        raise OSError(f"it is truncated or damaged: {error}") from None


def create_bgzf(path: str | os.PathLike[str]) -> pysam.BGZFile:
    """Opens a local file to write BGZF; an existing one is overwritten.

    Raises:
        OSError: if it cannot be written; pysam alone would crash the process.
    """
    open(path, "wb").close()
    return pysam.BGZFile(str(path), "wb", None)


class BgzfWriter:
    """A BGZF file to write, whose errors name the cause: a full disk, an exhausted quota. It is a context manager.

    Every method raises OSError if writing fails; so does :meth:`close`, which writes what htslib still holds.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens ``path``; an existing file is overwritten."""
        self.path = str(path)
        self._file: Any = create_bgzf(self.path)

    def __enter__(self) -> BgzfWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._drop()

    def write(self, data: bytes) -> int:
        """Compresses and writes; returns the number of bytes taken, all of them."""
        return self._checked("write", data)

    def flush(self) -> None:
        """Ends the current BGZF block and writes it."""
        self._checked("flush")

    def tell(self) -> int:
        """The virtual file offset at which the next byte will be written."""
        return self._checked("tell")

    def close(self) -> None:
        """Writes what is left and the empty block that ends a BGZF file; closing twice does nothing."""
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
        """Gives up a file that will not be whole.

        htslib keeps a file open that it could not flush; once truncated, it takes no space while this process lives.
        pysam tries to close it once more and would complain on stderr, so its messages are suppressed.
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
