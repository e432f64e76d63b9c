"""What the compiled loops share: the arrays they take, base codes and CIGAR operations, a hash.

Kernels take named tuples, so that no two arrays of one type can be swapped unseen. Positions are 0-based, stretches
half-open. numba's cache notices a change of a function's own file only: after a change here, touch the kernels' files.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from cnnspark.common import numba_jit  # noqa: F401  (numba's cache folder is chosen before numba is loaded)
from cnnspark.formats.reads import ReadBatch

# The code of a gap in a row (cnnspark.formats.reference); 1 to 4 are A C G T.
GAP = 6
# CIGAR operations by BAM's numbers.
MATCH, INSERTION, DELETION, SKIP, SOFT_CLIP, HARD_CLIP, PADDING, EQUAL, DIFFERENT = range(9)


class Reads(NamedTuple):
    """n reads sorted by start, as in :class:`cnnspark.formats.reads.ReadBatch`."""

    starts: np.ndarray  # int64 (n,)
    ends: np.ndarray  # int64 (n,), one past the last aligned base
    furthest_ends: np.ndarray  # int64 (n,), the largest end of this read and those before it
    flags: np.ndarray  # uint16 (n,), SAM FLAG
    mapqs: np.ndarray  # uint8 (n,), 255 unknown
    template_lengths: np.ndarray  # int32 (n,), TLEN
    name_hashes: np.ndarray  # uint64 (n,)
    base_offsets: np.ndarray  # int64 (n + 1,), where each read's bases and qualities begin
    bases: np.ndarray  # uint8 (all bases,), base codes
    quals: np.ndarray  # uint8 (all bases,), Phred
    cigar_offsets: np.ndarray  # int64 (n + 1,), where each read's operations begin
    cigar_ops: np.ndarray  # uint8 (all operations,)
    cigar_lengths: np.ndarray  # int32 (all operations,)


class Read(NamedTuple):
    """One read, as views of :class:`Reads`."""

    start: int
    bases: np.ndarray  # uint8 (length,)
    quals: np.ndarray  # uint8 (length,)
    ops: np.ndarray  # uint8 (operations,)
    lengths: np.ndarray  # int32 (operations,)


class Reference(NamedTuple):
    """A stretch of the reference."""

    codes: np.ndarray  # uint8 (bases,), base codes
    start: int  # the position of the first


class Row(NamedTuple):
    """Bases and their qualities, of a row of the tensor or of what is laid on it."""

    bases: np.ndarray  # uint8 (columns,), base codes
    quals: np.ndarray  # uint8 (columns,), Phred


class Sites(NamedTuple):
    """n records and the spans over which reads are compared with their haplotypes.

    Alleles ``allele_offsets[r]:allele_offsets[r + 1]`` are record r's scorable ALTs.
    """

    starts: np.ndarray  # int64 (n,), of REF
    ends: np.ndarray  # int64 (n,)
    span_starts: np.ndarray  # int64 (n,)
    span_ends: np.ndarray  # int64 (n,)
    has_indels: np.ndarray  # int64 (n,), 1 if a scorable ALT is not as long as REF
    hashes: np.ndarray  # uint64 (n,), for the choice of reads
    alt_counts: np.ndarray  # int64 (n,), all ALTs of the record
    allele_offsets: np.ndarray  # int64 (n + 1,)


class Haplotypes(NamedTuple):
    """REF and the scorable ALTs of n records over their spans; ``offsets[record_offsets[r]]`` begins record r's."""

    record_offsets: np.ndarray  # int64 (n + 1,)
    offsets: np.ndarray  # int64 (haplotypes + 1,), where each haplotype's bases begin
    bases: np.ndarray  # uint8 (all bases,), base codes


class Alleles(NamedTuple):
    """The scorable ALTs of all records, trimmed: bases of the reference are replaced by the allele's own."""

    types: np.ndarray  # int64 (alleles,), cnnspark.variants.alleles.VariantType
    starts: np.ndarray  # int64 (alleles,)
    ref_lengths: np.ndarray  # int64 (alleles,), bases of the reference that are replaced
    offsets: np.ndarray  # int64 (alleles + 1,), where each allele's bases begin
    bases: np.ndarray  # uint8 (all bases,), base codes


class Pairs(NamedTuple):
    """Every pair of a record and a read that overlaps its REF, in the order of the records, then of the reads."""

    offsets: np.ndarray  # int64 (records + 1,), where each record's pairs begin
    reads: np.ndarray  # int64 (pairs,), the read's number
    haplotypes: np.ndarray  # int32 (pairs,), what the read shows: 0 REF, k the k-th scorable ALT, -1 neither
    quals: np.ndarray  # float32 (pairs,), mean quality of the compared bases and anchors; -1 unknown
    left: np.ndarray  # int32 (pairs,), index in the read of the left anchor, -1 without
    right: np.ndarray  # int32 (pairs,), index in the read of the right anchor, -1 without
    mismatches: np.ndarray  # int32 (pairs,), within the record's span
    indels: np.ndarray  # int32 (pairs,), insertions and deletions within the record's span


class Pileup(NamedTuple):
    """Sums over the columns from ``start`` on, and what each whole read looks like."""

    start: int
    sums: np.ndarray  # int64 (columns + 1, 8): sums[b] - sums[a] counts columns a to b, see pileup_kernels
    reads: np.ndarray  # int32 (n, 6), see pileup_kernels


class Rows(NamedTuple):
    """The tensors of all alleles (:data:`cnnspark.tensors.schema.FIELDS`), W columns wide."""

    offsets: np.ndarray  # int64 (alleles + 1,), where each allele's rows begin
    bases: np.ndarray  # uint8 (rows, W)
    quals: np.ndarray  # uint8 (rows, W)
    flags: np.ndarray  # uint16 (rows,)
    mapqs: np.ndarray  # uint8 (rows,)
    support: np.ndarray  # uint8 (rows,)
    references: np.ndarray  # uint8 (alleles, W)
    alternates: np.ndarray  # uint8 (alleles, W)


def reads_of(batch: ReadBatch) -> Reads:
    """The arrays of a batch as the kernels take them."""
    return Reads(
        starts=batch.starts,
        ends=batch.ends,
        furthest_ends=np.maximum.accumulate(batch.ends),
        flags=batch.flags,
        mapqs=batch.mapqs,
        template_lengths=batch.template_lengths,
        name_hashes=batch.name_hashes,
        base_offsets=batch.base_offsets,
        bases=batch.bases,
        quals=batch.quals,
        cigar_offsets=batch.cigar_offsets,
        cigar_ops=batch.cigar_ops,
        cigar_lengths=batch.cigar_lengths,
    )


def kernel_part(function: Any) -> Any:
    """Marks a function that kernels call: it is compiled with each of them, and plain Python elsewhere.

    Kernels themselves are :func:`cnnspark.common.numba_jit.jit`. What Python does not call compiled needs no wrapper,
    which takes longer to compile than most of these functions.
    """
    return register_jitable(function)


def inlined(function: Any) -> Any:
    """As :func:`kernel_part`, for what is called for each read or base.

    Inlined, a named tuple costs nothing. In a call all its arrays are handed over, which takes as long as a read.
    """
    return register_jitable(forceinline=True)(function)


@inlined
def read_at(reads, i):
    """Read ``i`` of :class:`Reads`."""
    base, after_base = reads.base_offsets[i], reads.base_offsets[i + 1]
    operation, after_operation = reads.cigar_offsets[i], reads.cigar_offsets[i + 1]
    return Read(
        reads.starts[i],
        reads.bases[base:after_base],
        reads.quals[base:after_base],
        reads.cigar_ops[operation:after_operation],
        reads.cigar_lengths[operation:after_operation],
    )


@inlined
def is_aligned(operation):
    """Whether a CIGAR operation lays bases of the read on bases of the reference."""
    return operation == MATCH or EQUAL <= operation <= DIFFERENT


@inlined
def is_indel(operation):
    """Whether a CIGAR operation is an insertion or a deletion."""
    return INSERTION <= operation <= DELETION


@inlined
def is_clip(operation):
    """Whether a CIGAR operation is a soft or a hard clip."""
    return SOFT_CLIP <= operation <= HARD_CLIP


@inlined
def moves_read(operation):
    """Whether a CIGAR operation goes along the read: M, I, S, '=', X."""
    return operation <= INSERTION or operation == SOFT_CLIP or EQUAL <= operation <= DIFFERENT


@inlined
def moves_reference(operation):
    """Whether a CIGAR operation goes along the reference: M, D, N, '=', X."""
    return is_aligned(operation) or DELETION <= operation <= SKIP


@inlined
def code_at(codes, index):
    """The base code at an index, 0 outside of the codes."""
    return np.int64(codes[index]) if 0 <= index < len(codes) else np.int64(0)


@inlined
def mix(value):
    """splitmix64's finaliser (Steele, Lea and Flood 2014): every bit of the input reaches every bit of the output."""
    value = (value + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@inlined
def read_hash(reads, i, record_hash):
    """The number by which a record chooses among too many reads: the same whatever other reads there are."""
    return mix(mix(reads.name_hashes[i] ^ record_hash) ^ np.uint64(reads.flags[i]))


@kernel_part
def smallest(hashes, limit):
    """Which of uint64 (n,) are the ``limit`` smallest: int64 (min(n, limit),), ascending; of equal ones the first.

    The largest of them is found bit by bit from the highest: quicker to compile than a sort.
    """
    n = len(hashes)
    chosen = np.empty(min(n, limit), np.int64)
    if n <= limit:
        for j in range(n):
            chosen[j] = j
        return chosen
    bound = np.uint64(0)
    for shift in range(63, -1, -1):
        with_bit = bound | (np.uint64(1) << np.uint64(shift))
        below = 0
        for j in range(n):
            if hashes[j] < with_bit:
                below += 1
        if below < limit:
            bound = with_bit
    equal = limit
    for j in range(n):
        if hashes[j] < bound:
            equal -= 1
    kept = 0
    for j in range(n):
        if hashes[j] < bound or (hashes[j] == bound and equal > 0):
            if hashes[j] == bound:
                equal -= 1
            chosen[kept] = j
            kept += 1
    return chosen
