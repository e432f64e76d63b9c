"""Compiled loops of :mod:`cnnspark.variants.candidates`: counting over reads, and the statistics of one allele."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnnspark.common.numba_jit import jit

_OP_I, _OP_D, _OP_N, _OP_S, _OP_H = 1, 2, 3, 4, 5
_REVERSE = 0x10
# Columns of what :func:`observe` returns.
SITE, READ, BASE, QUALITY, END_DISTANCE, GOES_ON = range(6)


class AlignedReads(NamedTuple):
    """n reads as the kernels walk them: fields of :class:`cnnspark.formats.reads.ReadBatch`."""

    starts: np.ndarray  # int64 (n,), 0-based
    ends: np.ndarray  # int64 (n,), one past the last aligned base
    base_offsets: np.ndarray  # int64 (n + 1,)
    bases: np.ndarray  # uint8 (total bases,), base codes
    quals: np.ndarray  # uint8 (total bases,)
    cigar_offsets: np.ndarray  # int64 (n + 1,)
    cigar_ops: np.ndarray  # uint8 (total operations,), BAM's numbers
    cigar_lengths: np.ndarray  # int32 (total operations,)


@jit
def _is_match(op):
    return op in (0, 7, 8)


@jit
def _count_indels(cigar_ops):
    """The number of insertions and deletions of all reads."""
    n = 0
    for k in range(len(cigar_ops)):
        if cigar_ops[k] in (_OP_I, _OP_D):
            n += 1
    return n


@jit
def pile_up(reads, begin, end, min_base_quality):
    """Counts over the positions [begin, end), and the indels of all reads wherever they stand.

    An indel counts if aligned bases stand directly on both sides.

    Args:
        reads: AlignedReads.
        begin: first position, 0-based.
        end: one past the last position.
        min_base_quality: bases of a lower quality are not counted.

    Returns:
        ``base_counts`` int32 (end - begin, 6): bases by code. ``events`` int64 (m, 4): read, reference position of the
        first deleted base or of the base behind the insertion, length (deletions negative), index in ``bases`` of the
        base behind the anchor.
    """
    base_counts = np.zeros((end - begin, 6), np.int32)
    events = np.empty((_count_indels(reads.cigar_ops), 4), np.int64)
    n_events = 0
    ops = reads.cigar_ops
    for read in range(len(reads.starts)):
        at = reads.starts[read]
        base = reads.base_offsets[read]
        first, last = reads.cigar_offsets[read], reads.cigar_offsets[read + 1]
        for k in range(first, last):
            op, length = ops[k], np.int64(reads.cigar_lengths[k])
            if _is_match(op):
                for p in range(max(at, begin), min(at + length, end)):
                    i = base + p - at
                    if reads.quals[i] >= min_base_quality:
                        base_counts[p - begin, reads.bases[i]] += 1
                at += length
                base += length
            elif op in (_OP_I, _OP_D):
                if k > first and k + 1 < last and _is_match(ops[k - 1]) and _is_match(ops[k + 1]):
                    events[n_events, 0] = read
                    events[n_events, 1] = at
                    events[n_events, 2] = length if op == _OP_I else -length
                    events[n_events, 3] = base
                    n_events += 1
                if op == _OP_I:
                    base += length
                else:
                    at += length
            elif op == _OP_N:
                at += length
            elif op == _OP_S:
                base += length
    return base_counts, events[:n_events]


@jit
def _aligned_parts(reads):
    """Indices in ``bases`` of each read's first base that is not soft-clipped and of one past the last, int64 (n, 2).

    For all reads in one call: one call a read, with all their arrays, costs half of :func:`observe`'s time.
    """
    parts = np.empty((len(reads.starts), 2), np.int64)
    for read in range(len(reads.starts)):
        begin, end = reads.base_offsets[read], reads.base_offsets[read + 1]
        first, last = reads.cigar_offsets[read], reads.cigar_offsets[read + 1]
        for k in range(first, last):
            if reads.cigar_ops[k] == _OP_S:
                begin += reads.cigar_lengths[k]
            elif reads.cigar_ops[k] != _OP_H:
                break
        for k in range(last - 1, first - 1, -1):
            if reads.cigar_ops[k] == _OP_S:
                end -= reads.cigar_lengths[k]
            elif reads.cigar_ops[k] != _OP_H:
                break
        parts[read, 0], parts[read, 1] = begin, end
    return parts


@jit
def observe(reads, begin, site_of_pos, n_expected):
    """What each read shows at chosen positions.

    Args:
        reads: AlignedReads.
        begin: position that ``site_of_pos`` begins at, 0-based.
        site_of_pos: int32 (positions,), the number of the site at each position, -1 without a site.
        n_expected: an upper bound of the observations.

    Returns:
        int64 (observations, 6), reads in order; the columns SITE, READ, BASE (code), QUALITY, END_DISTANCE (bases
        from the nearer end of the read's aligned part), GOES_ON (1 if the alignment goes on behind the position).
    """
    observations = np.empty((n_expected, 6), np.int64)
    n = 0
    end = begin + len(site_of_pos)
    parts = _aligned_parts(reads)
    for read in range(len(reads.starts)):
        aligned_begin, aligned_end = parts[read, 0], parts[read, 1]
        at = reads.starts[read]
        base = reads.base_offsets[read]
        for k in range(reads.cigar_offsets[read], reads.cigar_offsets[read + 1]):
            op, length = reads.cigar_ops[k], np.int64(reads.cigar_lengths[k])
            if _is_match(op):
                for p in range(max(at, begin), min(at + length, end)):
                    site = site_of_pos[p - begin]
                    if site >= 0:
                        i = base + p - at
                        observations[n, SITE] = site
                        observations[n, READ] = read
                        observations[n, BASE] = reads.bases[i]
                        observations[n, QUALITY] = reads.quals[i]
                        observations[n, END_DISTANCE] = min(i - aligned_begin, aligned_end - 1 - i)
                        observations[n, GOES_ON] = 1 if p + 1 < reads.ends[read] else 0
                        n += 1
                at += length
                base += length
            elif op in (_OP_I, _OP_S):
                base += length
            elif op in (_OP_D, _OP_N):
                at += length
    return observations[:n]


@jit
def rank_sum_z(alternate, reference):
    """The z of the Mann-Whitney test (normal approximation with tie correction), as in GATK's RankSumTest annotations.

    Args:
        alternate: int64 (n,), values of the reads that show ALT.
        reference: int64 (m,), values of the reads that show REF.

    Returns:
        z, positive if ALT has the higher values; 0 if all values are equal, NaN if a side is empty.
    """
    n1, n2 = len(alternate), len(reference)
    if n1 == 0 or n2 == 0:
        return np.nan
    n = n1 + n2
    values = np.empty(n, np.int64)
    for i in range(n1):  # one at a time: a copy in one statement takes five seconds to compile
        values[i] = alternate[i]
    for i in range(n2):
        values[n1 + i] = reference[i]
    order = np.argsort(values, kind="mergesort")
    rank_sum, ties = 0.0, 0.0
    i = 0
    while i < n:
        j = i
        while j < n and values[order[j]] == values[order[i]]:
            j += 1
        size = float(j - i)
        ties += size * size * size - size
        for k in range(i, j):
            if order[k] < n1:
                rank_sum += (i + j + 1) / 2.0
        i = j
    variance = n1 * n2 / 12.0 * ((n + 1) - ties / (n * (n - 1.0)))
    if variance <= 0:
        return 0.0
    return (rank_sum - n1 * (n1 + 1) / 2.0 - n1 * n2 / 2.0) / math.sqrt(variance)


@jit
def _log_choose(n, k):
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)


@jit
def fisher_strand(ref_forward, ref_reverse, alt_forward, alt_reverse):
    """FS: Phred-scaled two-sided P of Fisher's exact test on the 2x2 table of allele and strand."""
    forward = ref_forward + alt_forward
    reverse = ref_reverse + alt_reverse
    alt = alt_forward + alt_reverse
    total = _log_choose(forward + reverse, alt)
    observed = _log_choose(forward, alt_forward) + _log_choose(reverse, alt_reverse) - total
    p_value = 0.0
    for k in range(max(0, alt - reverse), min(forward, alt) + 1):
        log_p = _log_choose(forward, k) + _log_choose(reverse, alt - k) - total
        # Tables as likely as the observed one count in spite of rounding (R's fisher.test has the same tolerance).
        if log_p <= observed + 1e-7:
            p_value += math.exp(log_p)
    return max(0.0, -10.0 * math.log10(min(1.0, max(p_value, 1e-320))))


@jit
def strand_odds_ratio(ref_forward, ref_reverse, alt_forward, alt_reverse):
    """SOR as GATK's StrandOddsRatio has it: ln(R + 1/R) + ln(refRatio) - ln(altRatio), 1 added to each count.

    R is the odds ratio, refRatio and altRatio the smaller over the larger strand's count of each allele.
    """
    rf, rr, af, ar = ref_forward + 1.0, ref_reverse + 1.0, alt_forward + 1.0, alt_reverse + 1.0
    ratio = (rf * ar) / (rr * af)
    return math.log(ratio + 1.0 / ratio) + math.log(min(rf, rr) / max(rf, rr)) - math.log(min(af, ar) / max(af, ar))


@jit
def allele_statistics(is_alt, is_ref, seen, mapqs, flags):
    """Statistics of one allele over the reads at its site.

    Mapping quality 255 is unknown and left out of MQ and MQRankSum.

    Args:
        is_alt: bool (m,), the observations that show ALT.
        is_ref: bool (m,), the observations that show REF.
        seen: int64 (m, 6), the site's rows of :func:`observe`.
        mapqs: uint8 (n,), mapping qualities of all reads.
        flags: uint16 (n,), SAM FLAGs of all reads.

    Returns:
        float64 (6,): MQ (root mean square over all observations, NaN if none is known), FS, SOR, MQRankSum,
        BaseQRankSum, ReadPosRankSum.
    """
    counts = np.zeros((2, 2), np.int64)
    squares, known = 0.0, 0
    of_seen = np.empty(len(seen), np.int64)
    for i in range(len(seen)):
        read = seen[i, READ]
        strand = 1 if flags[read] & _REVERSE else 0
        if is_ref[i]:
            counts[0, strand] += 1
        elif is_alt[i]:
            counts[1, strand] += 1
        of_seen[i] = mapqs[read]
        if of_seen[i] != 255:
            squares += float(of_seen[i]) * float(of_seen[i])
            known += 1
    has_mapq = of_seen != 255
    statistics = np.empty(6, np.float64)
    statistics[0] = math.sqrt(squares / known) if known else np.nan
    statistics[1] = fisher_strand(counts[0, 0], counts[0, 1], counts[1, 0], counts[1, 1])
    statistics[2] = strand_odds_ratio(counts[0, 0], counts[0, 1], counts[1, 0], counts[1, 1])
    statistics[3] = rank_sum_z(of_seen[is_alt & has_mapq], of_seen[is_ref & has_mapq])
    statistics[4] = rank_sum_z(seen[:, QUALITY][is_alt], seen[:, QUALITY][is_ref])
    statistics[5] = rank_sum_z(seen[:, END_DISTANCE][is_alt], seen[:, END_DISTANCE][is_ref])
    return statistics
