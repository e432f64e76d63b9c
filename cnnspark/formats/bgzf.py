"""Reads and writes BGZF where htslib falls short: it crashes, hides records, or does not say that a disk is full."""

from __future__ import annotations

import contextlib
import gzip
import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pysam

from cnnspark.formats.htslib import open_input

# Bytes of a trial write: more than a disk can take that has just refused a BGZF block (64 KiB).
PROBE_BYTES = 1 << 17
_BLOCK_HEAD_BYTES = 18


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


class BgzfReader:
    """The uncompressed content of a BGZF file, read from virtual offsets.

    Its methods raise ValueError if the file has no block or no record where they are to read, or a block is damaged.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._at, self._rest = 0, b""

    def seek(self, virtual_offset: int) -> None:
        """Goes to a virtual offset: of a block in the file, then within the block's content."""
        self._at, within = virtual_offset >> 16, virtual_offset & 0xFFFF
        if self._at > self.size:
            raise ValueError("the file is shorter")
        self._rest = self._block()
        if within > len(self._rest):
            raise ValueError("no record of the file begins where it says")
        self._rest = self._rest[within:]

    def _block(self) -> bytes:
        """The content of the next block; empty at the end."""
        if self._at >= self.size:
            return b""
        self._file.seek(self._at)
        head = self._file.read(_BLOCK_HEAD_BYTES)
        if len(head) < _BLOCK_HEAD_BYTES or head[:4] != b"\x1f\x8b\x08\x04" or head[12:14] != b"BC":
            raise ValueError("no block of the file begins where it says")
        size = int.from_bytes(head[16:18], "little") + 1
        self._at += size
        try:
            return zlib.decompress(self._file.read(size - _BLOCK_HEAD_BYTES)[:-8], -zlib.MAX_WBITS)
        except zlib.error:
            raise ValueError(f"the block that ends at byte {self._at} of the file is damaged") from None

    def read(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        while len(self._rest) < size and self._at < self.size:
            self._rest += self._block()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def line(self) -> bytes:
        """The next line with its end; empty at the end."""
        while b"\n" not in self._rest and self._at < self.size:
            self._rest += self._block()
        found, end, self._rest = self._rest.partition(b"\n")
        return found + end
