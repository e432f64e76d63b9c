"""Compiled loops over reads: the pileup, and which haplotype each read supports at each record.

Every function takes the flat arrays of :class:`cnnspark.formats.reads.ReadBatch`, and none calls compiled code of
another module: numba's cache notices a change of a function's own file only. Positions are 0-based. CIGAR numbers: M0
I1 D2 N3 S4 H5 P6 =7 X8.
"""

from __future__ import annotations

import numpy as np

from cnnspark.common.numba_jit import jit

# Columns of the pileup's running sums.
HET, HET_FRACTION, MISMATCHES, BASES, INDELS, CLIPS, COVER, LOW_MAPQ = range(8)
# Fractions are summed as whole numbers of this unit: sums then do not depend on where they began.
FRACTION_UNIT = 1 << 20
# A column that looks heterozygous: its most frequent base other than REF has a share within these bounds.
_HET_LOW, _HET_HIGH, _HET_MIN_DEPTH = 0.15, 0.85, 6
_LOW_MAPQ_BELOW = 10


@jit
def pileup(
    starts,
    ends,
    mapqs,
    base_offsets,
    bases,
    cigar_offsets,
    cigar_ops,
    cigar_lengths,
    reference,
    reference_start,
    core_start,
    core_end,
):
    """Running sums over the columns of [core_start, core_end), and what each whole read looks like.

    ``reference`` are the codes from ``reference_start`` on and must cover all reads. Returns ``sums`` int64
    (columns + 1, 8): ``sums[b] - sums[a]`` counts columns a to b; and int32 (n, 6) per read: mismatches, aligned bases
    (on A C G T of the reference), indel events, clipped bases, first aligned base's index in the read, one past the
    last's. An insertion counts at the position to its right, a deletion at its first base.
    """
    size = core_end - core_start
    counts = np.zeros((size, 4), np.int32)
    events = np.zeros((size + 1, 4), np.int64)  # indels, clips, and the steps of cover and low-MAPQ cover
    reads = np.zeros((len(starts), 6), np.int32)
    for i in range(len(starts)):
        low = mapqs[i] < _LOW_MAPQ_BELOW
        at = starts[i]
        query = base_offsets[i]
        first = np.int64(-1)
        last = query
        for k in range(cigar_offsets[i], cigar_offsets[i + 1]):
            operation = cigar_ops[k]
            length = np.int64(cigar_lengths[k])
            if operation == 0 or operation == 7 or operation == 8:
                if first < 0:
                    first = query
                for j in range(length):
                    expected = reference[at + j - reference_start]
                    if expected < 1 or expected > 4:
                        continue
                    base = bases[query + j]
                    if base < 1 or base > 4:
                        continue
                    reads[i, 1] += 1
                    if base != expected:
                        reads[i, 0] += 1
                    column = at + j - core_start
                    if 0 <= column < size:
                        counts[column, base - 1] += 1
                query += length
                last = query
            elif operation == 1:
                query += length
            if length > 0 and (operation == 1 or operation == 2):
                reads[i, 2] += 1
                if core_start <= at < core_end:
                    events[at - core_start, 0] += 1
            if operation == 4 or operation == 5:
                reads[i, 3] += length
                where = at if at == starts[i] else at - 1
                if length > 0 and core_start <= where < core_end:
                    events[where - core_start, 1] += 1
                if operation == 4:
                    query += length
            if operation == 0 or operation == 2 or operation == 7 or operation == 8:
                begin = min(max(at - core_start, 0), size)
                end = min(max(at + length - core_start, 0), size)
                events[begin, 2] += 1
                events[end, 2] -= 1
                if low:
                    events[begin, 3] += 1
                    events[end, 3] -= 1
            if operation == 0 or operation == 2 or operation == 3 or operation == 7 or operation == 8:
                at += length
        reads[i, 4] = max(first, base_offsets[i]) - base_offsets[i]
        reads[i, 5] = last - base_offsets[i]
    sums = np.zeros((size + 1, 8), np.int64)
    cover = np.int64(0)
    low_cover = np.int64(0)
    for column in range(size):
        cover += events[column, 2]
        low_cover += events[column, 3]
        for j in range(8):
            sums[column + 1, j] = sums[column, j]
        after = sums[column + 1]
        after[INDELS] += events[column, 0]
        after[CLIPS] += events[column, 1]
        after[COVER] += cover
        after[LOW_MAPQ] += low_cover
        position = column + core_start - reference_start
        expected = reference[position] if 0 <= position < len(reference) else 0
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
    return sums, reads


@jit
def _matching_haplotype(read, haplotype_offsets, haplotypes, first, last):
    """The number, from 0, of the one of haplotypes ``first`` to ``last`` that the read's bases match best, or -1.

    Of equal length and at most length // 8 mismatches; fewest mismatches win, a tie matches none.
    """
    best = -1
    fewest = np.int64(1) << 40
    for h in range(first, last):
        length = haplotype_offsets[h + 1] - haplotype_offsets[h]
        if length != len(read):
            continue
        mismatches = np.int64(0)
        for k in range(length):
            expected = haplotypes[haplotype_offsets[h] + k]
            if read[k] != expected or expected > 4:
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


@jit
def observe(
    starts,
    ends,
    furthest_ends,
    base_offsets,
    bases,
    quals,
    cigar_offsets,
    cigar_ops,
    cigar_lengths,
    reference,
    reference_start,
    record_starts,
    record_ends,
    span_starts,
    span_ends,
    has_indels,
    record_haplotypes,
    haplotype_offsets,
    haplotypes,
):
    """Every pair of a record and a read that overlaps its REF, and which haplotype the read shows there.

    ``furthest_ends[i]`` is the largest end of reads 0 to i. Record ``r`` compares over [span_start, span_end) with
    haplotypes ``record_haplotypes[r]:record_haplotypes[r + 1]``, REF first; with ``has_indels`` the read must have the
    bases on both sides of the span aligned, else those at its ends. Returns offsets int64 (records + 1,) and per pair:
    the read int64, the haplotype int32 (0 REF, k the k-th ALT, -1 none), the mean quality float32 over the compared
    bases and the anchors (-1 where there is none), and int32 (pairs, 4): index in the read of the left and the right
    anchor (-1 without), mismatches and indel events within the record's own span.
    """
    n = len(record_starts)
    offsets = np.zeros(n + 1, np.int64)
    for r in range(n):
        begin = np.searchsorted(furthest_ends, record_starts[r], side="right")
        end = np.searchsorted(starts, record_ends[r], side="left")
        count = 0
        for i in range(begin, end):
            if ends[i] > record_starts[r]:
                count += 1
        offsets[r + 1] = offsets[r] + count
    pairs = offsets[n]
    pair_reads = np.empty(pairs, np.int64)
    pair_haplotypes = np.empty(pairs, np.int32)
    pair_quals = np.empty(pairs, np.float32)
    pair_sites = np.empty((pairs, 4), np.int32)
    for r in range(n):
        begin = np.searchsorted(furthest_ends, record_starts[r], side="right")
        end = np.searchsorted(starts, record_ends[r], side="left")
        span_start = span_starts[r]
        span_end = span_ends[r]
        indel = np.int64(has_indels[r])
        left = span_start - indel
        right = span_end - 1 + indel
        own_end = span_end + indel
        pair = offsets[r]
        for i in range(begin, end):
            if ends[i] <= record_starts[r]:
                continue
            at = starts[i]
            query = base_offsets[i]
            left_query = np.int64(-1)
            right_query = np.int64(-1)
            skipped = False
            own_mismatches = 0
            own_indels = 0
            for k in range(cigar_offsets[i], cigar_offsets[i + 1]):
                if at > right and at >= own_end:
                    break
                operation = cigar_ops[k]
                length = np.int64(cigar_lengths[k])
                if operation == 0 or operation == 7 or operation == 8:
                    if at <= left < at + length:
                        left_query = query + left - at
                    if at <= right < at + length:
                        right_query = query + right - at
                    for position in range(max(at, span_start), min(at + length, span_end)):
                        base = bases[query + position - at]
                        expected = reference[position - reference_start]
                        if base != expected and 1 <= base <= 4 and 1 <= expected <= 4:
                            own_mismatches += 1
                    query += length
                    at += length
                elif operation == 1:
                    if length > 0 and span_start <= at < own_end:
                        own_indels += 1
                    query += length
                elif operation == 2:
                    if length > 0 and span_start <= at < own_end:
                        own_indels += 1
                    at += length
                elif operation == 3:
                    if at < right and at + length > left:
                        skipped = True
                    at += length
                elif operation == 4:
                    query += length
            haplotype = -1
            quality = np.float32(-1)
            if left_query >= 0 and right_query >= left_query and not skipped:
                haplotype = _matching_haplotype(
                    bases[left_query + indel : right_query + 1 - indel],
                    haplotype_offsets,
                    haplotypes,
                    record_haplotypes[r],
                    record_haplotypes[r + 1],
                )
                total = np.int64(0)
                for k in range(left_query, right_query + 1):
                    total += quals[k]
                if total > 0:
                    quality = np.float32(total / (right_query - left_query + 1))
            pair_reads[pair] = i
            pair_haplotypes[pair] = haplotype
            pair_quals[pair] = quality
            pair_sites[pair, 0] = left_query - base_offsets[i] if left_query >= 0 else -1
            pair_sites[pair, 1] = right_query - base_offsets[i] if right_query >= 0 else -1
            pair_sites[pair, 2] = own_mismatches
            pair_sites[pair, 3] = own_indels
            pair += 1
    return offsets, pair_reads, pair_haplotypes, pair_quals, pair_sites
