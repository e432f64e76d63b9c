"""Compiled loops that compute the site features of :mod:`cnnspark.tensors.site_features`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.tensors.kernel_tools import code_at, inlined, kernel_part
from cnnspark.tensors.pileup_kernels import (
    BASES,
    CLIPS,
    COVER,
    FRACTION_UNIT,
    HET,
    HET_FRACTION,
    INDELS,
    LOW_MAPQ,
    MISMATCHES,
    READ_ALIGNED,
    READ_CLIPPED,
    READ_FIRST,
    READ_INDELS,
    READ_LAST,
    READ_MISMATCHES,
)
from cnnspark.tensors.site_features import (
    CALL_DISTANCES,
    DEPTH_DISTANCES,
    DIFFERENCES,
    GROUP,
    NEIGHBOURHOOD,
    PILEUP_DISTANCES,
    SITE_FEATURES,
)
from cnnspark.variants.repeats import longest_repeat

_GROUP_SIZE = len(GROUP)
_F1R2_SHARE = GROUP.index("f1r2_fraction")
_DIFFERENCE_OF = np.array(DIFFERENCES, np.int64)
_PILEUP = np.array(PILEUP_DISTANCES, np.int64)
_PILEUP_SIZE = len(NEIGHBOURHOOD)
_DEPTH = np.array(DEPTH_DISTANCES, np.int64)
_CALLS = np.array(CALL_DISTANCES, np.int64)
_AT_DEPTH = SITE_FEATURES.index(f"depth_ratio_{DEPTH_DISTANCES[0]}")
_AT_REF = SITE_FEATURES.index(f"ref_{GROUP[0]}")
_AT_ALT = _AT_REF + _GROUP_SIZE
_AT_DIFFERENCE = _AT_REF + 2 * _GROUP_SIZE
_AT_STRANDS = SITE_FEATURES.index("strand_odds_ratio")
_AT_PILEUP = SITE_FEATURES.index(f"pileup_{NEIGHBOURHOOD[0]}_{PILEUP_DISTANCES[0]}")
_AT_CONTEXT = SITE_FEATURES.index("homopolymer")
_AT_TYPE = SITE_FEATURES.index("is_snv")
_AT_TRANSITION = SITE_FEATURES.index("is_transition")
_AT_SUBSTITUTION = SITE_FEATURES.index("is_c_to_a")
_AT_PYRIMIDINE = SITE_FEATURES.index("alt_f1r2_fraction_of_pyrimidine")
_AT_LENGTH = SITE_FEATURES.index("length_change")
_AT_ALTS = SITE_FEATURES.index("alt_alleles")
_AT_CALLS = SITE_FEATURES.index(f"calls_{CALL_DISTANCES[0]}")
_FEATURES = len(SITE_FEATURES)

_NEAR_END = 5
_CONTEXT = 32

# Sums per haplotype while the reads are gone through.
_N, _FORWARD, _MAPQ_N, _MAPQ, _MAPQ0, _BQ_N, _BQ, _CYCLE, _END, _NEAR, _MISMATCH = range(11)
_CLIPPED, _INDEL, _PAIRED, _PROPER, _INSERT_N, _INSERT, _STARTS, _LAST_START, _F1R2, _SUMS = range(11, 21)


class _Groups(NamedTuple):
    """The reads of each haplotype of a record, added up."""

    sums: np.ndarray  # float64 (haplotypes, _SUMS)
    mapqs: np.ndarray  # int32 (haplotypes, 61), reads by mapping quality
    quals: np.ndarray  # int32 (haplotypes, 256), reads by mean base quality


@jit
def site_features(reads, reference, sites, alleles, pairs, pileup, contig_length, calls):
    """The features of every allele.

    Args:
        reads: Reads.
        reference: Reference.
        sites: Sites.
        alleles: Alleles of the sites.
        pairs: Pairs of the sites and the reads.
        pileup: Pileup of the reads.
        contig_length: int, bases.
        calls: int64 (calls,), the sorted starts of the callset's records.

    Returns:
        float32 (alleles, len(SITE_FEATURES)); NaN if undefined.
    """
    features = np.full((len(alleles.starts), _FEATURES), np.nan, np.float32)
    counted = np.empty(pileup.sums.shape[1], np.int64)
    for r in range(len(sites.starts)):
        groups = _read_sums(reads, pairs, pileup, r, sites.allele_offsets[r + 1] - sites.allele_offsets[r] + 1)
        shared = np.full(_FEATURES, np.nan, np.float64)  # what all ALTs of the record have in common
        _depth_features(pileup, sites.starts[r], contig_length, shared)
        _pileup_features(pileup, sites, r, counted, shared)
        _context_features(reference, sites, r, shared)
        _call_features(calls, sites.starts[r], shared)
        shared[_AT_ALTS] = sites.alt_counts[r]
        depth = pairs.offsets[r + 1] - pairs.offsets[r]
        for a in range(sites.allele_offsets[r], sites.allele_offsets[r + 1]):
            out = shared.copy()
            _support_features(groups, a - sites.allele_offsets[r] + 1, depth, out)
            _allele_features(reference, alleles, a, out)
            for k in range(_FEATURES):
                features[a, k] = out[k]
    return features


@kernel_part
def _read_sums(reads, pairs, pileup, r, haplotypes):
    """The reads of record ``r`` added up by the haplotype that they show; reads that show none are left out."""
    groups = _Groups(
        np.zeros((haplotypes, _SUMS), np.float64),
        np.zeros((haplotypes, 61), np.int32),
        np.zeros((haplotypes, 256), np.int32),
    )
    groups.sums[:, _LAST_START] = -1
    table = pileup.reads
    for pair in range(pairs.offsets[r], pairs.offsets[r + 1]):
        haplotype = pairs.haplotypes[pair]
        if haplotype < 0:
            continue
        i = pairs.reads[pair]
        flag = reads.flags[i]
        sums = groups.sums[haplotype]
        sums[_N] += 1
        forward = flag & 0x10 == 0
        if forward:
            sums[_FORWARD] += 1
        mapq = reads.mapqs[i]
        if mapq != 255:
            sums[_MAPQ_N] += 1
            sums[_MAPQ] += min(mapq, 60)
            groups.mapqs[haplotype, min(mapq, 60)] += 1
        if mapq == 0:
            sums[_MAPQ0] += 1
        if pairs.quals[pair] >= 0:
            sums[_BQ_N] += 1
            sums[_BQ] += pairs.quals[pair]
            groups.quals[haplotype, np.int64(pairs.quals[pair] + 0.5)] += 1
        if flag & 0x1:
            sums[_PAIRED] += 1
            if flag & 0x2:
                sums[_PROPER] += 1
            # First of the pair forward, or second reverse.
            if (flag & 0x40 != 0) == forward:
                sums[_F1R2] += 1
        if reads.template_lengths[i] != 0:
            sums[_INSERT_N] += 1
            sums[_INSERT] += np.log10(np.float64(abs(np.int64(reads.template_lengths[i]))))
        if sums[_LAST_START] != reads.starts[i]:
            sums[_STARTS] += 1
            sums[_LAST_START] = reads.starts[i]
        _add_place(reads, pairs, pair, table, forward, sums)
    return groups


@inlined
def _add_place(reads, pairs, pair, table, forward, sums):
    """Adds where a read has the allele, and what else is odd about it; ``table`` is the pileup's table of reads."""
    i = pairs.reads[pair]
    length = reads.base_offsets[i + 1] - reads.base_offsets[i]
    left = pairs.left[pair]
    cycle = left if forward else length - 1 - left
    sums[_CYCLE] += cycle / max(length - 1, 1)
    first = table[i, READ_FIRST]
    last = table[i, READ_LAST]
    end = max(min(left - first, last - 1 - pairs.right[pair]), 0)
    sums[_END] += end / max(last - first, 1)
    if end < _NEAR_END:
        sums[_NEAR] += 1
    sums[_MISMATCH] += 100.0 * (table[i, READ_MISMATCHES] - pairs.mismatches[pair]) / max(table[i, READ_ALIGNED], 1)
    if table[i, READ_CLIPPED] > 0:
        sums[_CLIPPED] += 1
    if table[i, READ_INDELS] > pairs.indels[pair]:
        sums[_INDEL] += 1


@inlined
def _ratio(part, whole):
    return part / whole if whole > 0 else np.nan


@inlined
def _rows(pileup, begin, end):
    """The rows of the running sums between which positions [begin, end) are counted, cut at the sums' ends."""
    last = len(pileup.sums) - 1
    first = min(max(begin - pileup.start, 0), last)
    return first, min(max(end - pileup.start, first), last)


@inlined
def _cover(pileup, begin, end):
    """The reads' bases and deletions that cover positions [begin, end)."""
    first, after = _rows(pileup, begin, end)
    return np.float64(pileup.sums[after, COVER] - pileup.sums[first, COVER])


@inlined
def _depth_features(pileup, start, contig_length, out):
    """Depth at ``start`` against the mean depth around, and the second furthest distance against the furthest."""
    cover = _cover(pileup, start, start + 1)
    around = np.nan
    for k in range(len(_DEPTH)):
        nearer = around
        begin = max(start - _DEPTH[k], 0)
        end = min(start + _DEPTH[k] + 1, contig_length)
        around = _ratio(_cover(pileup, begin, end), np.float64(end - begin))
        out[_AT_DEPTH + k] = np.log1p(cover / around) if around > 0 else np.nan
        # In the end: the last but one distance against the last.
        out[_AT_DEPTH + len(_DEPTH)] = np.log1p(nearer / around) if around > 0 else np.nan


@inlined
def _pileup_features(pileup, sites, r, counted, out):
    """How the columns around record ``r`` look, without its own span; ``counted`` int64 (8,) is overwritten."""
    start = sites.starts[r]
    own_start = sites.span_starts[r]
    own_end = sites.span_ends[r] + sites.has_indels[r]
    sums = pileup.sums
    for k in range(len(_PILEUP)):
        begin = start - _PILEUP[k]
        end = start + _PILEUP[k] + 1
        first, after = _rows(pileup, begin, end)
        own_begin = max(begin, own_start)
        own_first, own_after = _rows(pileup, own_begin, max(own_begin, min(end, own_end)))
        for column in range(len(counted)):
            own = sums[own_after, column] - sums[own_first, column]
            counted[column] = sums[after, column] - sums[first, column] - own
        at = _AT_PILEUP + _PILEUP_SIZE * k
        bases = np.float64(counted[BASES])
        out[at] = counted[HET]
        out[at + 1] = _ratio(counted[HET_FRACTION] / FRACTION_UNIT, counted[HET])
        out[at + 2] = _ratio(counted[MISMATCHES], bases)
        out[at + 3] = _ratio(counted[INDELS], bases)
        out[at + 4] = _ratio(counted[CLIPS], bases)
        out[at + 5] = _ratio(counted[LOW_MAPQ], np.float64(counted[COVER]))


@kernel_part
def _context_features(reference, sites, r, out):
    """Repeats that touch the span of record ``r``, and GC content and distinct 3-mers around its POS."""
    first_index = sites.span_starts[r] - 1 - reference.start
    last_index = sites.span_ends[r] - reference.start
    longest = 0
    for unit in range(1, 5):
        repeat = longest_repeat(reference.codes, first_index, last_index, unit)
        if unit == 1:
            out[_AT_CONTEXT] = repeat
        else:
            longest = max(longest, repeat)
    out[_AT_CONTEXT + 1] = longest
    codes = reference.codes
    known = 0
    gc = 0
    kmers = np.uint64(0)  # those seen, a bit for each
    distinct = 0
    at = sites.starts[r] - reference.start
    for index in range(at - _CONTEXT, at + _CONTEXT + 1):
        code = code_at(codes, index)
        if 1 <= code <= 4:
            known += 1
            if code == 2 or code == 3:
                gc += 1
        if index <= at + _CONTEXT - 2:
            second = code_at(codes, index + 1)
            third = code_at(codes, index + 2)
            if 1 <= code <= 4 and 1 <= second <= 4 and 1 <= third <= 4:
                kmer = np.uint64(1) << np.uint64((code - 1) * 16 + (second - 1) * 4 + third - 1)
                if kmers & kmer == 0:
                    kmers |= kmer
                    distinct += 1
    out[_AT_CONTEXT + 2] = _ratio(np.float64(gc), np.float64(known))
    out[_AT_CONTEXT + 3] = distinct / (2 * _CONTEXT - 1)


@kernel_part
def _call_features(calls, start, out):
    """How many other records of the callset are near."""
    for k in range(len(_CALLS)):
        begin = np.searchsorted(calls, start - _CALLS[k], side="left")
        end = np.searchsorted(calls, start + _CALLS[k], side="right")
        out[_AT_CALLS + k] = np.log1p(np.float64(max(end - begin - 1, 0)))


@kernel_part
def _lower_quartile(histogram):
    """The smallest value that at least a quarter of the counted values do not exceed; NaN without values."""
    total = np.int64(0)
    for value in range(len(histogram)):
        total += histogram[value]
    if total == 0:
        return np.nan
    seen = np.int64(0)
    for value in range(len(histogram)):
        seen += histogram[value]
        if 4 * seen >= total:
            return np.float64(value)
    return np.nan


@kernel_part
def _group_features(groups, haplotype, out):
    """The features of the reads of one haplotype, in the order of ``GROUP``."""
    sums = groups.sums[haplotype]
    n = sums[_N]
    out[0] = _ratio(sums[_FORWARD], n)
    out[1] = _ratio(sums[_MAPQ], 60.0 * sums[_MAPQ_N])
    out[2] = _lower_quartile(groups.mapqs[haplotype]) / 60.0
    out[3] = _ratio(sums[_MAPQ0], n)
    out[4] = _ratio(sums[_BQ], sums[_BQ_N])
    out[5] = _lower_quartile(groups.quals[haplotype])
    out[6] = _ratio(sums[_CYCLE], n)
    out[7] = _ratio(sums[_END], n)
    out[8] = _ratio(sums[_NEAR], n)
    out[9] = _ratio(sums[_MISMATCH], n)
    out[10] = _ratio(sums[_CLIPPED], n)
    out[11] = _ratio(sums[_INDEL], n)
    out[12] = _ratio(sums[_PROPER], sums[_PAIRED])
    out[13] = _ratio(sums[_INSERT], sums[_INSERT_N])
    out[14] = _ratio(sums[_STARTS], n)
    out[15] = _ratio(sums[_F1R2] + 0.5, sums[_PAIRED] + 1) if sums[_PAIRED] > 0 else np.nan


@kernel_part
def _support_features(groups, number, depth, out):
    """Shares of REF and ALT among the reads, how the reads of each look, and whether strands differ between them."""
    n_ref = groups.sums[0, _N]
    n_alt = groups.sums[number, _N]
    supporting_alts = np.float64(0)
    for h in range(1, len(groups.sums)):
        supporting_alts += groups.sums[h, _N]
    out[0] = _ratio(n_ref, depth)
    out[1] = _ratio(n_alt, depth)
    out[2] = _ratio(supporting_alts - n_alt, depth)
    out[3] = _ratio(depth - n_ref - supporting_alts, depth)
    out[4] = _ratio(n_alt, n_ref + n_alt)
    for k in range(2):  # REF, then the ALT: with numbers written out it would be compiled twice
        begin = _AT_REF + _GROUP_SIZE * k
        _group_features(groups, k * number, out[begin : begin + _GROUP_SIZE])
    for k in range(len(_DIFFERENCE_OF)):
        out[_AT_DIFFERENCE + k] = out[_AT_ALT + _DIFFERENCE_OF[k]] - out[_AT_REF + _DIFFERENCE_OF[k]]
    ref_forward = groups.sums[0, _FORWARD] + 1
    ref_reverse = n_ref - groups.sums[0, _FORWARD] + 1
    alt_forward = groups.sums[number, _FORWARD] + 1
    alt_reverse = n_alt - groups.sums[number, _FORWARD] + 1
    odds = ref_forward * alt_reverse / (ref_reverse * alt_forward)
    ref_ratio = min(ref_forward, ref_reverse) / max(ref_forward, ref_reverse)
    alt_ratio = min(alt_forward, alt_reverse) / max(alt_forward, alt_reverse)
    out[_AT_STRANDS] = np.log(odds + 1 / odds) + np.log(ref_ratio) - np.log(alt_ratio)


@kernel_part
def _allele_features(reference, alleles, a, out):
    """The type of an allele, the kind of its substitution, and its change of length."""
    for k in range(5):
        out[_AT_TYPE + k] = 1.0 if alleles.types[a] == k else 0.0
    bases = alleles.offsets[a + 1] - alleles.offsets[a]
    out[_AT_TRANSITION:_AT_PYRIMIDINE] = 0.0
    if bases == 1 and alleles.ref_lengths[a] == 1:
        alt = np.int64(alleles.bases[alleles.offsets[a]])
        ref = code_at(reference.codes, alleles.starts[a] - reference.start)
        if 1 <= alt <= 4 and 1 <= ref <= 4:
            # A G and C T: codes that differ by two.
            if abs(alt - ref) == 2:
                out[_AT_TRANSITION] = 1.0
            share = out[_AT_ALT + _F1R2_SHARE]
            if ref == 1 or ref == 3:
                ref, alt, share = 5 - ref, 5 - alt, 1 - share
            out[_AT_SUBSTITUTION + (3 if ref == 4 else 0) + alt - (1 if alt > ref else 0) - 1] = 1.0
            out[_AT_PYRIMIDINE] = share
    change = bases - alleles.ref_lengths[a]
    out[_AT_LENGTH] = np.sign(change) * np.log1p(np.float64(abs(change)))
