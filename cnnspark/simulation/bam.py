"""Pairs of aligned reads as a coordinate-sorted, indexed BAM, written as bytes: a million reads a minute."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

from cnnspark.common.numba_jit import jit
from cnnspark.errors import RunError
from cnnspark.formats.bgzf import create_bgzf
from cnnspark.formats.reference import ReferenceSource
from cnnspark.simulation.alignment import Alignments
from cnnspark.simulation.sequencing import RawReads

PAIRED, PROPER, UNMAPPED, MATE_UNMAPPED, REVERSE, MATE_REVERSE, READ1, READ2 = (1 << i for i in range(8))
DUPLICATE = 0x400
READ_GROUP = "rg1"
# No read begins so far before the first placed base of its fragment: what is aligned beyond a flank or an adapter.
SLACK_BASES = 600
_NAME_BYTES = 14  # "sim", ten digits, NUL
_TAGS = np.frombuffer(b"NMC\0RGZ" + READ_GROUP.encode() + b"\0", dtype=np.uint8)
# BAM's four-bit codes of the bases by cnnspark's (SAM specification 4.2.3).
_NIBBLES = np.array([15, 1, 2, 4, 8, 15, 15], dtype=np.uint8)
_MD5_BASES = 1 << 24


@dataclass(frozen=True)
class PairedReads:
    """Both reads of n fragments: index 0 is the left, forward one, index 1 the right, reverse one."""

    raw: tuple[RawReads, RawReads]
    alignments: tuple[Alignments, Alignments]
    mapqs: np.ndarray  # uint8 (2, n)
    read1_left: np.ndarray  # bool (n,)
    is_duplicate: np.ndarray  # bool (n,)

    def __len__(self) -> int:
        return len(self.is_duplicate)


class _Fields(NamedTuple):
    """What the BAM records of both reads of n pairs say, besides bases, qualities and CIGAR."""

    position: np.ndarray  # int64 (2, n), on the piece
    placed: np.ndarray  # bool (2, n)
    flags: np.ndarray  # int64 (2, n), SAM FLAG
    template_lengths: np.ndarray  # int64 (2, n), TLEN
    mapqs: np.ndarray  # uint8 (2, n)
    names: np.ndarray  # uint8 (n, letters), ASCII


def make_header(reference: ReferenceSource, simulated: Collection[str], sample: str) -> pysam.AlignmentHeader:
    """Makes the header of a coordinate-sorted BAM with one read group.

    Args:
        reference: gives the contigs, all of which stand in the header.
        simulated: the names of the simulated contigs, which get the MD5 of their sequence.
        sample: SM of the read group.

    Returns:
        The header.

    Raises:
        InputError: if the reference cannot be read.
    """
    contigs = []
    for name, length in reference.lengths.items():
        contigs.append({"SN": name, "LN": length})
        if name in simulated:
            digest = hashlib.md5(usedforsecurity=False)
            for at in range(0, length, _MD5_BASES):
                digest.update(reference.sequence(name, at, at + _MD5_BASES).encode("ascii"))
            contigs[-1]["M5"] = digest.hexdigest()
    return pysam.AlignmentHeader.from_dict(
        {
            "HD": {"VN": "1.6", "SO": "coordinate"},
            "SQ": contigs,
            "RG": [{"ID": READ_GROUP, "SM": sample, "LB": "lib1", "PL": "ILLUMINA"}],
        }
    )


class BamWriter:
    """Writes reads in the order of their positions.

    Reads must come roughly in this order: those that a later read may still precede are kept in memory.
    """

    def __init__(self, path: Path, header: pysam.AlignmentHeader):
        """Opens the file and writes the header."""
        self._path = path
        self._out = create_bgzf(path)
        text = str(header).encode("ascii")
        chunks = [b"BAM\1", struct.pack("<i", len(text)), text, struct.pack("<i", header.nreferences)]
        for name, length in zip(header.references, header.lengths, strict=True):
            encoded = name.encode("ascii") + b"\0"
            chunks += [struct.pack("<i", len(encoded)), encoded, struct.pack("<i", length)]
        self._out.write(b"".join(chunks))
        self._contigs = {name: number for number, name in enumerate(header.references)}
        # Of reads not yet written: contig number and position, and their records.
        self._keys = np.empty(0, np.int64)
        self._records: list[bytes] = []
        self._written = -1
        self._fragments = 0

    def add(self, contig: str, offset: int, pairs: PairedReads) -> None:
        """Takes in reads whose positions count from ``offset`` on the contig; fragments are named by their number."""
        number = self._contigs[contig]
        starts, records, sizes = _encode_pairs(pairs, self._fragments, number, offset)
        self._fragments += len(pairs)
        ends = np.cumsum(sizes)
        stream = records.tobytes()
        self._records += [stream[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
        self._keys = np.concatenate([self._keys, (number << 32) + offset + starts])

    def flush(self, contig: str, position: int) -> None:
        """Writes all reads that start before ``position`` on the contig, those of one position as they were added.

        Raises:
            RunError: if a read comes before one that is written already.
        """
        self._write_before((self._contigs[contig] << 32) + position)

    def _write_before(self, key: int) -> None:
        order = np.argsort(self._keys, kind="stable")
        order = order[: np.searchsorted(self._keys[order], key)]
        if not len(order):
            return
        if self._keys[order[0]] < self._written:
            raise RunError("a simulated read came too late to be sorted; report it with the command line")
        self._written = int(self._keys[order[-1]])
        self._out.write(b"".join([self._records[i] for i in order.tolist()]))
        kept = np.ones(len(self._keys), dtype=bool)
        kept[order] = False
        self._keys = self._keys[kept]
        self._records = [self._records[i] for i in np.flatnonzero(kept).tolist()]

    def close(self) -> None:
        """Writes the remaining reads and the index."""
        self._write_before(1 << 62)
        self._out.close()
        pysam.index(str(self._path))


def _encode_pairs(
    pairs: PairedReads, first_number: int, contig: int, offset: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The BAM records of the pairs of which at least one read is placed.

    Args:
        pairs: n pairs.
        first_number: number of the first fragment, from which names count.
        contig: number of the contig.
        offset: where the piece begins on the contig.

    Returns:
        Positions on the piece int64 (m,), the bytes of all records uint8 (total,) and their sizes int64 (m,).
    """
    left, right = pairs.alignments
    fields = _fields(pairs, first_number)
    rows = np.flatnonzero((left.start >= 0) | (right.start >= 0))
    sides = [
        _encode(rows, side, contig, offset, fields, raw, alignment)
        for side, (raw, alignment) in enumerate(zip(pairs.raw, pairs.alignments, strict=True))
    ]
    streams, sizes = zip(*sides, strict=True)
    return fields.position[:, rows].ravel(), np.concatenate(streams), np.concatenate(sizes)


def _fields(pairs: PairedReads, first_number: int) -> _Fields:
    """The fields of all pairs. A read that is not placed stands where its mate does (SAM, recommended practice 2)."""
    left, right = pairs.alignments
    starts = np.stack([left.start, right.start])  # (2, n)
    ends = np.stack([left.end, right.end])
    placed = starts >= 0
    n = starts.shape[1]
    position = np.where(placed, starts, starts[::-1])
    outer = ends.max(axis=0) - np.minimum(position[0], position[1])
    leftmost = np.stack([position[0] <= position[1], position[1] < position[0]])
    side = np.arange(2)[:, None]
    # Side 1 is the reverse one. An unplaced read is stored as the machine read it.
    flags = PAIRED | np.where(placed.all(axis=0), PROPER, 0) | np.where(placed, 0, UNMAPPED)
    flags = flags | np.where(placed[::-1], 0, MATE_UNMAPPED)
    flags |= np.where((side == 1) & placed, REVERSE, 0) | np.where((side == 0) & placed[1], MATE_REVERSE, 0)
    flags |= np.where((side == 0) == pairs.read1_left, READ1, READ2) | np.where(pairs.is_duplicate, DUPLICATE, 0)
    numbers = first_number + np.arange(n)
    digits = numbers[:, None] // 10 ** np.arange(9, -1, -1) % 10 + ord("0")
    return _Fields(
        position,
        placed,
        flags,
        template_lengths=np.where(placed.all(axis=0), np.where(leftmost, outer, -outer), 0),
        mapqs=pairs.mapqs,
        names=np.concatenate([np.tile(np.frombuffer(b"sim", np.uint8), (n, 1)), digits], axis=1).astype(np.uint8),
    )


@jit
def _put(out, at, value, n_bytes):
    """A little-endian integer."""
    for b in range(n_bytes):
        out[at + b] = (value >> (8 * b)) & 255
    return at + n_bytes


@jit
def _bin(begin, end):
    """The BAI bin of [begin, end) (SAM specification 5.3)."""
    end -= 1
    for shift, first in ((14, 4681), (17, 585), (20, 73), (23, 9), (26, 1)):
        if begin >> shift == end >> shift:
            return first + (begin >> shift)
    return 0


@jit
def _put_sequence(out, at, bases, quals, turned):
    """Bases in four bits each, then base qualities; ``turned`` writes the other strand. Returns where they end."""
    read_length = len(bases)
    for j in range(read_length):
        base = bases[read_length - 1 - j] if turned else bases[j]
        if turned and base <= 4:
            base = 5 - base
        out[at + j // 2] |= _NIBBLES[base] << (0 if j % 2 else 4)
    at += (read_length + 1) // 2
    for j in range(read_length):
        out[at + j] = quals[read_length - 1 - j] if turned else quals[j]
    return at + read_length


@jit
def _put_tags(out, at, placed, edit_distance):
    """The read group, before it NM if the read is placed. Returns where they end."""
    first = 0 if placed else 4
    for j in range(first, len(_TAGS)):
        out[at + j - first] = _TAGS[j]
    if placed:
        out[at + 3] = min(edit_distance, 255)
    return at + len(_TAGS) - first


@jit
def _record_sizes(rows, placed, n_cigar, read_length):
    """Size in bytes of each record, int64 (m,)."""
    sizes = np.empty(len(rows), np.int64)
    for r in range(len(rows)):
        here = placed[rows[r]]
        ops = n_cigar[rows[r]] if here else 0
        tags = len(_TAGS) if here else len(_TAGS) - 4
        sizes[r] = 36 + _NAME_BYTES + 4 * ops + (read_length + 1) // 2 + read_length + tags
    return sizes


@jit
def _encode(rows, side, contig, offset, fields, reads, alignments):
    """BAM records (SAM specification 4.2) of one side's reads.

    Args:
        rows: int64 (m,), the pairs to encode.
        side: 0 or 1, the read of each pair.
        contig: number of the contig.
        offset: where the piece begins on the contig.
        fields: _Fields of all pairs.
        reads: RawReads of this side.
        alignments: their Alignments.

    Returns:
        The records, uint8 (total,), and their sizes in bytes, int64 (m,).
    """
    read_length = reads.bases.shape[1]
    placed, position, mate_position = fields.placed[side], fields.position[side], fields.position[1 - side]
    sizes = _record_sizes(rows, placed, alignments.n_cigar, read_length)
    out = np.zeros(sizes.sum(), np.uint8)
    at = 0
    for r in range(len(rows)):
        i = rows[r]
        here = placed[i]
        ops = alignments.n_cigar[i] if here else 0
        begin = position[i] + offset
        at = _put(out, at, sizes[r] - 4, 4)
        at = _put(out, at, contig, 4)
        at = _put(out, at, begin, 4)
        out[at] = _NAME_BYTES
        out[at + 1] = fields.mapqs[side, i] if here else 0
        at = _put(out, at + 2, _bin(begin, alignments.end[i] + offset if here else begin + 1), 2)
        at = _put(out, at, ops, 2)
        at = _put(out, at, fields.flags[side, i], 2)
        at = _put(out, at, read_length, 4)
        at = _put(out, at, contig, 4)
        at = _put(out, at, mate_position[i] + offset, 4)
        at = _put(out, at, fields.template_lengths[side, i], 4)
        for j in range(_NAME_BYTES - 1):
            out[at + j] = fields.names[i, j]
        at += _NAME_BYTES
        for k in range(ops):
            at = _put(out, at, np.int64(alignments.cigars[i, k]), 4)
        at = _put_sequence(out, at, reads.bases[i], reads.quals[i], side == 1 and not here)
        at = _put_tags(out, at, here, alignments.edit_distance[i])
    return out, sizes
