"""Compiled loops over reads: the pileup, and which haplotype each read supports at each record."""

from __future__ import annotations

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.tensors.kernel_tools import (
    DELETION,
    INSERTION,
    SKIP,
    SOFT_CLIP,
    Pairs,
    Pileup,
    code_at,
    inlined,
    is_aligned,
    is_clip,
    is_indel,
    kernel_part,
    moves_read,
    moves_reference,
    read_at,
)

# Columns of a pileup's running sums.
HET, HET_FRACTION, MISMATCHES, BASES, INDELS, CLIPS, COVER, LOW_MAPQ = range(8)
# Columns of its table of reads: bases that differ from A C G T of the reference, all bases on such, indels, clipped
# bases, the first aligned base's index in the read, one past the last's.
READ_MISMATCHES, READ_ALIGNED, READ_INDELS, READ_CLIPPED, READ_FIRST, READ_LAST = range(6)
# Fractions are summed as whole numbers of this unit: sums then do not depend on where they began.
FRACTION_UNIT = 1 << 20
# A column that looks heterozygous: its most frequent base other than REF has a share within these bounds.
_HET_LOW, _HET_HIGH, _HET_MIN_DEPTH = 0.15, 0.85, 6
_LOW_MAPQ_BELOW = 10
# Columns of the counts of events: the last two are steps, +1 where a read begins to cover and -1 where it ends.
_INDELS, _CLIPS, _COVER_STEPS, _LOW_MAPQ_STEPS = range(4)


@jit
def pileup(reads, reference, core_start, core_end):
    """Counts along the columns of [core_start, core_end), and what each whole read looks like.

    An insertion counts at the position to its right, a deletion at its first base.

    Args:
        reads: Reads.
        reference: Reference; must cover all reads.
        core_start: int, the position of the first column.
        core_end: int, one past the last.

    Returns:
        Pileup: sums by the columns HET to LOW_MAPQ, reads by READ_MISMATCHES to READ_LAST.
    """
    size = core_end - core_start
    counts = np.zeros((size, 4), np.int32)
    events = np.zeros((size + 1, 4), np.int64)
    table = np.zeros((len(reads.starts), 6), np.int32)
    for i in range(len(reads.starts)):
        read = read_at(reads, i)
        _count_bases(read, reference, core_start, counts, table[i])
        _count_events(read, reads.mapqs[i] < _LOW_MAPQ_BELOW, core_start, events, table[i])
    return Pileup(core_start, _running_sums(counts, events, reference, core_start), table)


@inlined
def _count_bases(read, reference, core_start, counts, looks):
    """Adds a read's aligned bases to ``counts`` int32 (columns, 4) and sets its row ``looks`` of the table of reads."""
    at = read.start
    query = np.int64(0)
    first = np.int64(-1)
    last = np.int64(0)
    aligned = 0
    mismatches = 0
    for k in range(len(read.ops)):
        operation = read.ops[k]
        length = np.int64(read.lengths[k])
        if is_aligned(operation):
            if first < 0:
                first = query
            for j in range(length):
                expected = reference.codes[at + j - reference.start]
                if expected < 1 or expected > 4:
                    continue
                base = read.bases[query + j]
                if base < 1 or base > 4:
                    continue
                aligned += 1
                if base != expected:
                    mismatches += 1
                column = at + j - core_start
                if 0 <= column < len(counts):
                    counts[column, base - 1] += 1
            at += length
            query += length
            last = query
        elif moves_reference(operation):
            at += length
        elif moves_read(operation):
            query += length
    looks[READ_MISMATCHES] = mismatches
    looks[READ_ALIGNED] = aligned
    looks[READ_FIRST] = max(first, 0)
    looks[READ_LAST] = last


@inlined
def _count_events(read, is_low_mapq, core_start, events, looks):
    """Adds a read's indels, clips and cover to ``events``, and its indels and clips to ``looks``.

    ``events`` is int64 (columns + 1, 4).
    """
    size = len(events) - 1
    at = read.start
    for k in range(len(read.ops)):
        operation = read.ops[k]
        length = np.int64(read.lengths[k])
        if length > 0 and is_indel(operation):
            looks[READ_INDELS] += 1
            if 0 <= at - core_start < size:
                events[at - core_start, _INDELS] += 1
        if is_clip(operation):
            looks[READ_CLIPPED] += length
            column = (at if at == read.start else at - 1) - core_start
            if length > 0 and 0 <= column < size:
                events[column, _CLIPS] += 1
        if is_aligned(operation) or operation == DELETION:
            begin = min(max(at - core_start, 0), size)
            end = min(max(at + length - core_start, 0), size)
            events[begin, _COVER_STEPS] += 1
            events[end, _COVER_STEPS] -= 1
            if is_low_mapq:
                events[begin, _LOW_MAPQ_STEPS] += 1
                events[end, _LOW_MAPQ_STEPS] -= 1
            at += length
        elif operation == SKIP:
            at += length


@kernel_part
def _running_sums(counts, events, reference, core_start):
    """The sums of a pileup, int64 (columns + 1, 8), from its counts of bases and of events."""
    codes = reference.codes
    size = len(counts)
    sums = np.zeros((size + 1, 8), np.int64)
    cover = np.int64(0)
    low_cover = np.int64(0)
    for column in range(size):
        cover += events[column, _COVER_STEPS]
        low_cover += events[column, _LOW_MAPQ_STEPS]
        for j in range(8):
            sums[column + 1, j] = sums[column, j]
        after = sums[column + 1]
        after[INDELS] += events[column, _INDELS]
        after[CLIPS] += events[column, _CLIPS]
        after[COVER] += cover
        after[LOW_MAPQ] += low_cover
        expected = code_at(codes, column + core_start - reference.start)
        if expected < 1 or expected > 4:
            continue
        depth = np.int64(0)
        top = np.int64(0)
        for j in range(4):
            depth += counts[column, j]
            if j != expected - 1:
                top = max(top, np.int64(counts[column, j]))
        after[BASES] += depth
        after[MISMATCHES] += depth - counts[column, expected - 1]
        if depth >= _HET_MIN_DEPTH:
            fraction = top / depth
            if _HET_LOW <= fraction <= _HET_HIGH:
                after[HET] += 1
                after[HET_FRACTION] += np.int64(fraction * FRACTION_UNIT + 0.5)
    return sums


@jit
def observe(reads, reference, sites, haplotypes):
    """Pairs every record with the reads that overlap its REF, and says which haplotype each read shows there.

    A record compares over [span_start, span_end). If one of its ALTs is an indel the read must have the bases on both
    sides of the span aligned, otherwise those at its ends: the anchors.

    Args:
        reads: Reads.
        reference: Reference; must cover all reads.
        sites: Sites.
        haplotypes: Haplotypes of the sites.

    Returns:
        Pairs.
    """
    pairs = _pair(reads, sites)
    bases = reads.bases
    quals = reads.quals
    for r in range(len(sites.starts)):
        indel = sites.has_indels[r]
        for pair in range(pairs.offsets[r], pairs.offsets[r + 1]):
            i = pairs.reads[pair]
            left, right, skipped, mismatches, indels = _walk(
                reads, i, reference, sites.span_starts[r], sites.span_ends[r], indel
            )
            haplotype = -1
            quality = np.float32(-1)
            if left >= 0 and right >= left and not skipped:
                haplotype = _matching_haplotype(bases[left + indel : right + 1 - indel], haplotypes, r)
                total = np.int64(0)
                for k in range(left, right + 1):
                    total += quals[k]
                if total > 0:
                    quality = np.float32(total / (right - left + 1))
            pairs.haplotypes[pair] = haplotype
            pairs.quals[pair] = quality
            pairs.left[pair] = left - reads.base_offsets[i] if left >= 0 else -1
            pairs.right[pair] = right - reads.base_offsets[i] if right >= 0 else -1
            pairs.mismatches[pair] = mismatches
            pairs.indels[pair] = indels
    return pairs


@kernel_part
def _pair(reads, sites):
    """The pairs of records and reads, without what the reads show."""
    n = len(sites.starts)
    first = np.empty(n, np.int64)
    last = np.empty(n, np.int64)
    offsets = np.zeros(n + 1, np.int64)
    for r in range(n):
        first[r] = np.searchsorted(reads.furthest_ends, sites.starts[r], side="right")
        last[r] = np.searchsorted(reads.starts, sites.ends[r], side="left")
        count = 0
        for i in range(first[r], last[r]):
            if reads.ends[i] > sites.starts[r]:
                count += 1
        offsets[r + 1] = offsets[r] + count
    total = offsets[n]
    paired = np.empty(total, np.int64)
    for r in range(n):
        pair = offsets[r]
        for i in range(first[r], last[r]):
            if reads.ends[i] > sites.starts[r]:
                paired[pair] = i
                pair += 1
    return Pairs(
        offsets,
        paired,
        np.empty(total, np.int32),
        np.empty(total, np.float32),
        np.empty(total, np.int32),
        np.empty(total, np.int32),
        np.empty(total, np.int32),
        np.empty(total, np.int32),
    )


@inlined
def _walk(reads, i, reference, span_start, span_end, indel):
    """Goes along read ``i``'s CIGAR over a span; ``indel`` is 1 if the anchors are the bases beside it, else 0.

    Returns the index in ``reads.bases`` of the left and of the right anchor (-1 if not aligned), whether the read
    skips (CIGAR N) bases between them, and its mismatches and indels within the span.
    """
    # Named once, arrays are not counted as in use for each read: that takes as long as the walk.
    bases, ops, lengths, codes = reads.bases, reads.cigar_ops, reads.cigar_lengths, reference.codes
    left = span_start - indel
    right = span_end - 1 + indel
    own_end = span_end + indel
    at = reads.starts[i]
    query = reads.base_offsets[i]
    left_query = np.int64(-1)
    right_query = np.int64(-1)
    skipped = False
    mismatches = 0
    indels = 0
    for k in range(reads.cigar_offsets[i], reads.cigar_offsets[i + 1]):
        if at > right and at >= own_end:
            break
        operation = ops[k]
        length = np.int64(lengths[k])
        if is_aligned(operation):
            if at <= left < at + length:
                left_query = query + left - at
            if at <= right < at + length:
                right_query = query + right - at
            for position in range(max(at, span_start), min(at + length, span_end)):
                base = bases[query + position - at]
                expected = codes[position - reference.start]
                if base != expected and 1 <= base <= 4 and 1 <= expected <= 4:
                    mismatches += 1
            query += length
            at += length
        elif is_indel(operation):
            if length > 0 and span_start <= at < own_end:
                indels += 1
            if operation == INSERTION:
                query += length
            else:
                at += length
        elif operation == SKIP:
            if at < right and at + length > left:
                skipped = True
            at += length
        elif operation == SOFT_CLIP:
            query += length
    return left_query, right_query, skipped, mismatches, indels


@inlined
def _matching_haplotype(bases, haplotypes, r):
    """The number, from 0, of the haplotype of record ``r`` that a read's bases match best, or -1.

    Of equal length and at most length // 8 mismatches; fewest mismatches win, a tie matches no haplotype.
    """
    best = -1
    fewest = np.int64(1) << 40
    first = haplotypes.record_offsets[r]
    for h in range(first, haplotypes.record_offsets[r + 1]):
        begin = haplotypes.offsets[h]
        length = haplotypes.offsets[h + 1] - begin
        if length != len(bases):
            continue
        mismatches = np.int64(0)
        for k in range(length):
            expected = haplotypes.bases[begin + k]
            if bases[k] != expected or expected > 4:
                mismatches += 1
                if mismatches > length // 8:
                    break
        if mismatches > length // 8:
            continue
        if mismatches < fewest:
            best = h - first
            fewest = mismatches
        elif mismatches == fewest:
            best = -1
    return best
