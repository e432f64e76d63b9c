"""Merges the tabix indexes (TBI or CSI) of shards whose BGZF blocks follow each other in one file.

An index points into its file by virtual offsets: the compressed offset of a BGZF block in the upper 48 bits, the
position in the block's content in the lower 16. If a shard's blocks are copied to another position, one number is added
to all its offsets, and no record has to be read. Formats: hts-specs, "The Tabix index file format" and "Coordinate
Sorted Index".
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# A TBI index holds positions up to 2**29; longer contigs need CSI (tabix specification).
TBI_MAX_BASES = 2**29
TBI, CSI = b"TBI\1", b"CSI\1"
_TBI_MIN_SHIFT, _TBI_DEPTH = 14, 5  # leaf bins of 2**14 bases under 5 levels
_CHUNK_WORDS = 4  # two virtual offsets of 8 bytes, in words of 4


@dataclass
class ContigIndex:
    """The index of one contig; offsets are virtual."""

    name: bytes
    bins: np.ndarray  # int64 (chunks,): the bin of each chunk
    chunks: np.ndarray  # int64 (chunks, 2): begin and end
    linear: np.ndarray  # int64 (windows,): no record that reaches into or past the window begins before; empty in a CSI
    span: tuple[int, int] | None  # offsets at which the contig's records begin and end
    records: tuple[int, int]  # placed and unplaced


@dataclass
class Index:
    """A tabix index; ``columns`` are the format's six numbers, which say where contig and position are in a line."""

    magic: bytes
    min_shift: int
    depth: int
    columns: tuple[int, ...]
    contigs: list[ContigIndex]
    without_coordinate: int = 0

    @property
    def records(self) -> int:
        """The number of records of the file, as the index counts them."""
        return sum(sum(contig.records) for contig in self.contigs) + self.without_coordinate


def pseudo_bin(depth: int) -> int:
    """The number of the bin that holds a contig's span and counts instead of chunks."""
    return ((1 << (3 * (depth + 1))) - 1) // 7 + 1


def parse_index(compressed: bytes) -> Index:
    """Reads the content of a ``.tbi`` or ``.csi`` of a VCF.

    Raises:
        ValueError: if it is not a whole tabix index.
    """
    try:
        return _parse(gzip.decompress(compressed))
    except (OSError, EOFError, zlib.error, struct.error, IndexError) as error:
        raise ValueError(f"not a whole index: {error}") from None


def _parse(data: bytes) -> Index:
    magic, min_shift, depth = data[:4], _TBI_MIN_SHIFT, _TBI_DEPTH
    if magic == TBI:
        contig_count, *columns, name_bytes = struct.unpack_from("<8i", data, 4)
        at = 36 + name_bytes
        names = data[36:at]
    elif magic == CSI:
        min_shift, depth, extra_bytes = struct.unpack_from("<3i", data, 4)
        *columns, name_bytes = struct.unpack_from("<7i", data, 16)
        names = data[44 : 44 + name_bytes]
        (contig_count,) = struct.unpack_from("<i", data, 16 + extra_bytes)
        at = 20 + extra_bytes
    else:
        raise ValueError("it begins neither as a TBI nor as a CSI index")
    # After the names, everything is a multiple of four bytes long.
    words = np.frombuffer(data, "<u4", (len(data) - at) // 4, at)
    contigs, place = [], 0
    for name in names.split(b"\0")[:contig_count]:
        contig, place = _parse_contig(words, place, name, magic, depth)
        contigs.append(contig)
    if len(contigs) != contig_count:
        raise ValueError("it has fewer names than contigs")
    rest = words[place : place + 2].view("<i8") if len(words) >= place + 2 else ()
    return Index(magic, min_shift, depth, tuple(columns), contigs, int(sum(rest)))


def _parse_contig(words: np.ndarray, place: int, name: bytes, magic: bytes, depth: int) -> tuple[ContigIndex, int]:
    """The index of one contig, which begins at ``place`` in ``words``, and the place after it."""
    head = 2 if magic == TBI else 4  # words before a bin's chunks: number, (loffset,) count
    bin_count = int(words[place])
    place += 1
    numbers, starts, counts = [], [], []
    span, records = None, (0, 0)
    for _ in range(bin_count):
        number, count = int(words[place]), int(words[place + head - 1])
        start = place + head
        place = start + _CHUNK_WORDS * count
        if number == pseudo_bin(depth):
            begin, end, placed, unplaced = words[start:place].view("<i8").tolist()
            span, records = (begin, end), (placed, unplaced)
            continue
        numbers.append(number)
        starts.append(start)
        counts.append(count)
    if place > len(words):
        raise ValueError("it ends within a bin")
    bins = np.repeat(np.array(numbers, np.int64), counts)
    at = np.repeat(np.array(starts, np.int64), counts) + _CHUNK_WORDS * _ranks(counts)
    chunks = words[at[:, None] + np.arange(_CHUNK_WORDS)].view("<i8").astype(np.int64)  # (chunks, 2)
    linear = np.empty(0, np.int64)
    if magic == TBI:
        windows = int(words[place])
        place += 1 + 2 * windows
        if place > len(words):
            raise ValueError("it ends within the linear index")
        linear = words[place - 2 * windows : place].view("<i8").astype(np.int64)
    return ContigIndex(name, bins, chunks, linear, span, records), place


def _ranks(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """0, 1, ... within each group, one group after the other: int64 (sum of ``counts``,)."""
    counts = np.asarray(counts, np.int64)
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


@dataclass
class _GrowingContig:
    """What the shards so far have of the contig that is being merged."""

    name: bytes
    bins: list[np.ndarray] = field(default_factory=list)
    chunks: list[np.ndarray] = field(default_factory=list)
    linear: list[np.ndarray] = field(default_factory=list)
    windows: int = 0
    begin: int = 0
    end: int = 0
    placed: int = 0
    unplaced: int = 0


class IndexMerger:
    """Merges the shards' indexes, given in the order of their blocks.

    It holds one contig, and the encoded bytes of those before it.
    """

    def __init__(self) -> None:
        self._kind: tuple[bytes, int, int, tuple[int, ...]] | None = None
        self._names: list[bytes] = []
        self._encoded = bytearray()
        self._contig: _GrowingContig | None = None
        self._without_coordinate = 0

    def add(self, index: Index, shift_bytes: int) -> None:
        """Adds the index of the next shard.

        Args:
            index: the shard's index.
            shift_bytes: how much further on the shard's BGZF blocks are in the merged file than in the shard.

        Raises:
            ValueError: if the index is of another kind than those before, or a contig comes a second time.
        """
        if not index.contigs:  # no records; then a CSI's depth is arbitrary
            return
        kind = index.magic, index.min_shift, index.depth, index.columns
        if self._kind is None:
            self._kind = kind
        if kind != self._kind:
            raise ValueError("it is of another kind than those of the shards before")
        shift = shift_bytes << 16
        for part in index.contigs:
            self._add_contig(part, shift)
        self._without_coordinate += index.without_coordinate

    def _add_contig(self, part: ContigIndex, shift: int) -> None:
        contig = self._contig
        if contig is None or contig.name != part.name:
            if part.name in self._names:
                raise ValueError(f"contig {part.name.decode('latin-1')} comes a second time")
            self._finish_contig()
            self._names.append(part.name)
            contig = self._contig = _GrowingContig(part.name, begin=-1)
        contig.bins.append(part.bins)
        contig.chunks.append(part.chunks + shift)
        if part.span:
            begin, end = part.span[0] + shift, part.span[1] + shift
            contig.begin = begin if contig.begin < 0 else contig.begin
            contig.end = end
        contig.placed += part.records[0]
        contig.unplaced += part.records[1]
        # Records of earlier shards reach the windows up to here; in later windows this shard's are the first.
        if len(part.linear) > contig.windows:
            first = part.span[0] if part.span else 0
            contig.linear.append(np.maximum(part.linear[contig.windows :], first) + shift)
            contig.windows = len(part.linear)

    def _finish_contig(self) -> None:
        contig, self._contig = self._contig, None
        if contig is None:
            return
        assert self._kind is not None
        magic, _, depth, _ = self._kind
        bins, chunks = _join_chunks(np.concatenate(contig.bins), np.concatenate(contig.chunks))
        numbers, first, counts = np.unique(bins, return_index=True, return_counts=True)
        has_counts = contig.begin >= 0
        self._encoded += struct.pack("<i", len(numbers) + has_counts)
        head = 2 if magic == TBI else 4
        sizes = head + _CHUNK_WORDS * counts
        starts = np.cumsum(sizes) - sizes
        words = np.empty(int(sizes.sum()), "<u4")
        words[starts] = numbers
        words[starts + head - 1] = counts
        if magic == CSI:
            offsets = lowest_offsets(numbers, bins, chunks, depth).astype("<i8")
            words[starts[:, None] + (1, 2)] = offsets.view("<u4").reshape(-1, 2)
        at = np.repeat(starts + head, counts) + _CHUNK_WORDS * (np.arange(len(bins)) - np.repeat(first, counts))
        words[at[:, None] + np.arange(_CHUNK_WORDS)] = chunks.astype("<i8").view("<u4").reshape(-1, _CHUNK_WORDS)
        self._encoded += words.tobytes()
        if has_counts:
            self._encoded += struct.pack("<I", pseudo_bin(depth))
            if magic == CSI:
                self._encoded += struct.pack("<q", 0)
            self._encoded += struct.pack("<i4q", 2, contig.begin, contig.end, contig.placed, contig.unplaced)
        if magic == TBI:
            self._encoded += struct.pack("<i", contig.windows)
            self._encoded += np.concatenate([*contig.linear, np.empty(0, np.int64)]).astype("<i8").tobytes()

    def content(self) -> bytes | None:
        """The merged index, uncompressed; None if no shard had a record. Nothing can be added afterwards."""
        self._finish_contig()
        if self._kind is None:
            return None
        magic, min_shift, depth, columns = self._kind
        names = b"".join(name + b"\0" for name in self._names)
        described = struct.pack("<7i", *columns, len(names)) + names
        count = struct.pack("<i", len(self._names))
        if magic == TBI:
            head = magic + count + described
        else:
            head = magic + struct.pack("<3i", min_shift, depth, len(described)) + described + count
        return head + bytes(self._encoded) + struct.pack("<q", self._without_coordinate)


def _join_chunks(bins: np.ndarray, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts chunks by bin and offset, and joins two of one bin that meet in one BGZF block, as htslib's indexer does.

    Args:
        bins: int64 (chunks,), the bin of each chunk.
        chunks: int64 (chunks, 2), begin and end.

    Returns:
        Both, shorter by the joined chunks.
    """
    order = np.lexsort((chunks[:, 0], bins))
    bins, chunks = bins[order], chunks[order]
    apart = np.ones(len(bins), bool)
    apart[1:] = (bins[1:] != bins[:-1]) | (chunks[1:, 0] >> 16 > chunks[:-1, 1] >> 16)
    first = np.flatnonzero(apart)
    last = np.append(first[1:], len(bins)) - 1
    return bins[first], np.column_stack((chunks[first, 0], chunks[last, 1]))


def lowest_offsets(numbers: np.ndarray, bins: np.ndarray, chunks: np.ndarray, depth: int) -> np.ndarray:
    """The ``loffset`` of bins of a CSI: an offset before which no record reaches into or past the bin.

    A shard's own value does not account for a long deletion in an earlier shard. A CSI does not say how far a record
    reaches, but the record is in a bin that reaches as far. So this is the first chunk of all bins that end after this
    bin's start. With coarse bins it can be earlier than necessary, which costs a query time but never a record.

    Args:
        numbers: int64 (n,), the bins whose value is wanted.
        bins: int64 (chunks,), the bin of each chunk.
        chunks: int64 (chunks, 2), begin and end.
        depth: levels of bins above the leaves.

    Returns:
        int64 (n,), virtual offsets.
    """
    _, ends = _leaves(bins, depth)
    order = np.argsort(ends, kind="stable")
    lowest = np.minimum.accumulate(chunks[order, 0][::-1])[::-1]  # over all that end here or later
    starts, _ = _leaves(numbers, depth)
    return lowest[np.searchsorted(ends[order], starts, side="right")]


def _leaves(bins: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The first leaf bin that each bin covers, and one past the last, counted from the contig's start: int64 (n,)."""
    level_starts = np.array([((1 << (3 * level)) - 1) // 7 for level in range(depth + 1)], np.int64)
    levels = np.searchsorted(level_starts, bins, side="right") - 1
    shift = 3 * (depth - levels)
    first = (bins - level_starts[levels]) << shift
    return first, first + (np.int64(1) << shift)
