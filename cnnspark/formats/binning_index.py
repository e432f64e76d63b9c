"""How many reads or records each stretch of a contig has, estimated from an index alone.

``.bai``, ``.tbi`` and ``.csi`` (SAM specification 5.2, tabix and CSI specifications) hold, for each window of a contig,
the virtual offset of its first record, and the contig's number of records; the windows share that number in proportion
to their bytes. ``.crai`` (CRAM specification 12) holds the span and size of each slice. No Spark, no TensorFlow.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnspark.errors import InputError
from cnnspark.formats.htslib import open_input

# The windows of .bai and .tbi; the offsets of a finer or coarser .csi are converted to them.
WINDOW_BASES = 1 << 14
# BGZF blocks that are read to learn how well the file compresses, and the ratio if none can be read.
_SAMPLED_BLOCKS = 16
_USUAL_COMPRESSION = 0.3


@dataclass(frozen=True)
class IndexedContig:
    """One contig of an index.

    Attributes:
        window_bytes: (windows,) float64, compressed bytes of the records that begin in each window of WINDOW_BASES.
        records: how many records are placed on the contig (mapped reads), None if the index does not say.
        begin: virtual offset of the contig's first record, -1 if it has none.
        end: virtual offset behind its last record, -1 if it has none.
    """

    window_bytes: np.ndarray
    records: int | None
    begin: int = -1
    end: int = -1

    @property
    def window_records(self) -> np.ndarray:
        """(windows,) float64: ``records``, shared among the windows in proportion to their bytes."""
        total = self.window_bytes.sum()
        return self.window_bytes * ((self.records or 0) / total) if total else self.window_bytes


@dataclass(frozen=True)
class CramSlice:
    """One line of a ``.crai``.

    Attributes:
        contig: number of the contig in the header, from 0.
        start: 0-based.
        span: in bases.
        container: offset of the slice's container in the file.
        slice_bytes: size of the slice.
    """

    contig: int
    start: int
    span: int
    container: int
    slice_bytes: int


def find_index(path: str, suffixes: Sequence[str]) -> str | None:
    """The index beside a local file: ``reads.bam.bai``, else ``reads.bai``, in the order of ``suffixes``; or None."""
    stem = os.path.splitext(path)[0]
    for suffix in suffixes:
        for candidate in (path + suffix, stem + suffix):
            if os.path.isfile(candidate):
                return candidate
    return None


def read_binning_index(path: str, data: str) -> tuple[list[str], list[IndexedContig]]:
    """Reads a ``.bai``, ``.tbi`` or ``.csi``.

    Args:
        path: the index, a local file.
        data: the file that it indexes, a path or URL; some of its blocks are read.

    Returns:
        The contigs' names (empty if the index has none, as a ``.bai``), and the contigs in the order of the index.

    Raises:
        InputError: if the index cannot be read.
    """
    names, found = _contigs(path)
    ratio = _compression(data, [offset >> 16 for contig in found for offset in contig.offsets[:1].tolist()])
    with _explained(path):
        return names, [_contig(contig, ratio) for contig in found]


def require_readable(path: str) -> None:
    """Reads an index to its end, before htslib does: a damaged one may crash it.

    Args:
        path: a ``.bai``, ``.tbi``, ``.csi`` or ``.crai``, a local file.

    Raises:
        InputError: if the index cannot be read.
    """
    if path.endswith(".crai"):
        last_container(path)
    else:
        _contigs(path)


def indexed_records(path: str) -> int:
    """The number of records by an index of today's htslib, which counts them.

    A whole genome has hundreds of thousands of bins; this looks at nothing else, ten times faster than
    :func:`read_binning_index`.

    Raises:
        InputError: if the index cannot be read.
    """
    with _explained(path):
        content = _content(path)
        reader = _Reader(content)
        head = _read_head(reader)
        at, total = reader.at, 0
        bin_head = struct.Struct("<IQi" if head.is_csi else "<Ii")
        for _ in range(head.contigs):
            (bins,) = struct.unpack_from("<i", content, at)
            at += 4
            for _ in range(bins):
                number, *_, chunks = bin_head.unpack_from(content, at)
                at += bin_head.size
                if number == head.pseudo_bin:
                    total += int(struct.unpack_from("<Q", content, at + 16)[0])
                at += 16 * chunks
            if not head.is_csi:  # the linear index
                at += 4 + 8 * struct.unpack_from("<i", content, at)[0]
        return total


def read_crai(path: str) -> list[CramSlice]:
    """The mapped slices of a ``.crai``, a local file.

    Raises:
        InputError: if the index cannot be read.
    """
    with _explained(path):
        rows = [[int(value) for value in line.split(b"\t")] for line in _content(path).splitlines() if line]
        return [CramSlice(row[0], row[1] - 1, row[2], row[3], row[5]) for row in rows if row[0] >= 0 and row[2] > 0]


def last_container(path: str) -> int:
    """Where the last container begins that a ``.crai`` names, of reads without a place as well; -1 if it names none.

    Raises:
        InputError: if the index cannot be read.
    """
    with _explained(path):
        return max((int(line.split(b"\t")[3]) for line in _content(path).splitlines() if line), default=-1)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turns what a damaged index leads to into an InputError."""
    try:
        yield
    except (OSError, EOFError, ValueError, IndexError, OverflowError, MemoryError, zlib.error, struct.error) as error:
        data = os.path.splitext(path)[0]
        tool = "tabix -f -p vcf" if path.endswith((".tbi", ".vcf.gz.csi")) else "samtools index"
        command = f"{tool} {data}" if os.path.exists(data) else tool
        raise InputError(f"the index {path} cannot be read ({error}); make it again with '{command}'") from None


def _content(path: str) -> bytes:
    content = Path(path).read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


class _Head(NamedTuple):
    """What an index says before its contigs."""

    is_csi: bool
    shift: int  # log2 of the bases of a leaf bin
    depth: int  # levels of bins above the leaves
    names: list[str]  # of the contigs; a .bai has none
    contigs: int

    @property
    def pseudo_bin(self) -> int:
        """The number of the bin that holds a contig's offsets and counts instead of records."""
        return ((1 << 3 * (self.depth + 1)) - 1) // 7 + 1


def _read_head(reader: _Reader) -> _Head:
    magic = reader.take(4)
    if magic == b"BAI\1":
        return _Head(False, 14, 5, [], reader.int32())
    if magic == b"TBI\1":
        contigs = reader.int32()
        reader.skip(24)
        return _Head(False, 14, 5, _names(reader.take(reader.int32())), contigs)
    if magic == b"CSI\1":
        shift, depth = reader.int32(), reader.int32()
        aux = reader.take(reader.int32())
        return _Head(True, shift, depth, _names(aux[28:]), reader.int32())
    raise ValueError("its first bytes are not those of an index")


class _Reader:
    """Reads little-endian values one after the other; EOFError at the end."""

    def __init__(self, content: bytes):
        self.content = content
        self.at = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.content):
            raise EOFError("it is truncated")
        self.at += size
        return self.content[self.at - size : self.at]

    def skip(self, size: int) -> None:
        self.take(size)

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def uint64(self, count: int) -> np.ndarray:
        return np.frombuffer(self.take(8 * count), "<u8")


def _contigs(path: str) -> tuple[list[str], list[_ReadContig]]:
    """The names of an index's contigs, and what it has of each."""
    with _explained(path):
        reader = _Reader(_content(path))
        head = _read_head(reader)
        return head.names, [_read_contig(reader, head) for _ in range(head.contigs)]


def _names(text: bytes) -> list[str]:
    return [name.decode("latin-1") for name in text.split(b"\0") if name]


class _ReadContig(NamedTuple):
    """One contig as an index has it."""

    starts: np.ndarray  # int64 (n,), ascending positions; the last is where the contig's data end
    offsets: np.ndarray  # int64 (n,), virtual offset of the first record at or after each
    records: int | None  # None if the index does not say
    begin: int  # virtual offsets of the first record and behind the last one, -1 without records
    end: int


def _read_contig(reader: _Reader, head: _Head) -> _ReadContig:
    """Reads one contig of an index; ``reader`` stands at its number of bins."""
    shift, depth, is_csi, pseudo = head.shift, head.depth, head.is_csi, head.pseudo_bin
    first_leaf = ((1 << 3 * depth) - 1) // 7
    points: list[tuple[int, int]] = []  # (position, offset) of a .csi's bins
    leaves: set[int] = set()
    begin, end, records = 0, 0, None
    first, behind = -1, -1
    for _ in range(reader.int32()):
        number = reader.int32() & 0xFFFFFFFF
        loffset = int(reader.uint64(1)[0]) if is_csi else 0
        chunks = reader.uint64(2 * reader.int32())
        if number == pseudo:
            begin, end, records = int(chunks[0]), int(chunks[1]), int(chunks[2])
            continue
        if not len(chunks):
            continue
        last = int(chunks[1::2].max())
        end, behind = max(end, last), max(behind, last)
        first = min(int(chunks[::2].min()), first) if first >= 0 else int(chunks[::2].min())
        if number >= first_leaf:
            leaves.add(number - first_leaf)
        if is_csi:
            level, leftmost = depth, first_leaf
            while number < leftmost:
                level, leftmost = level - 1, (leftmost - 1) // 8
            span = 1 << (shift + 3 * (depth - level))
            start = (number - leftmost) * span
            points.append((start, loffset))
            if number >= first_leaf:
                # If the next bin is empty, only this point shows it.
                points.append((start + span, last))
    if is_csi:
        if not points:
            return _ReadContig(np.zeros(0, np.int64), np.zeros(0, np.int64), records, first, behind)
        points.sort()
        starts, offsets = (np.array(column, np.int64) for column in zip(*points, strict=True))
        offsets[offsets == 0] = begin
        starts, offsets = np.append(starts, starts[-1] + (1 << shift)), np.append(offsets, end)
        return _ReadContig(starts, np.maximum.accumulate(offsets), records, first, behind)
    linear = reader.uint64(reader.int32()).astype(np.int64)
    if not len(linear):
        return _ReadContig(np.zeros(0, np.int64), np.zeros(0, np.int64), records, first, behind)
    linear = np.append(_without_fillers(linear, leaves, begin), end)
    starts = np.arange(len(linear), dtype=np.int64) << shift
    return _ReadContig(starts, np.maximum.accumulate(linear), records, first, behind)


def _without_fillers(linear: np.ndarray, leaves: set[int], begin: int) -> np.ndarray:
    """The offsets of a linear index, (n,) int64, with empty windows set to the offset of the next record.

    Today's htslib writes them so; htsjdk and older versions of htslib repeat the offset before, and the first windows
    may hold 0. The leaf bins (``leaves``) tell which of several windows with one offset holds the records.
    """
    linear = np.maximum.accumulate(np.where(linear == 0, begin, linear))
    changes = np.flatnonzero(np.diff(linear)) + 1
    for first, stop in zip([0, *changes.tolist()], changes.tolist(), strict=False):
        if stop - first > 1:
            held = next((i for i in range(first, stop) if i in leaves), stop - 1)
            linear[held + 1 : stop] = linear[stop]
    return linear


def _contig(read: _ReadContig, ratio: float) -> IndexedContig:
    starts, offsets = read.starts, read.offsets
    if len(starts) < 2:
        return IndexedContig(np.zeros(0), read.records, read.begin, read.end)
    # A virtual offset has the position of the BGZF block in the file, and a position in the block's content.
    at = (offsets >> 16) + (offsets & 0xFFFF) * ratio
    windows = int(-(-starts[-1] // WINDOW_BASES))
    edges = np.arange(windows + 1, dtype=np.float64) * WINDOW_BASES
    window_bytes = np.maximum(np.diff(np.interp(edges, starts, np.maximum.accumulate(at))), 0.0)
    return IndexedContig(window_bytes, read.records, read.begin, read.end)


def _compression(path: str, block_starts: Sequence[int]) -> float:
    """Compressed bytes for each byte of the content, measured on some of the file's BGZF blocks."""
    starts = sorted(set(block_starts))
    packed = unpacked = 0
    try:
        with open_input(path) as file:
            for start in starts[:: max(1, len(starts) // _SAMPLED_BLOCKS)]:
                file.seek(start)
                head = file.read(18)
                if head[:4] != b"\x1f\x8b\x08\x04" or head[12:14] != b"BC":
                    continue
                size_bytes = int.from_bytes(head[16:18], "little") + 1
                file.seek(start + size_bytes - 4)
                packed += size_bytes
                unpacked += int.from_bytes(file.read(4), "little")
    except OSError:
        return _USUAL_COMPRESSION
    return packed / unpacked if unpacked else _USUAL_COMPRESSION
