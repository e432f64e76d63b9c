"""Site features: named numbers that say how the reads at a site look, whatever the depth: shares, means, ratios. The
odds ratio of strands and the shares of F1R2 are surer of more reads.

Densities by support and strand follow the idea of the Campagne laboratory's mappers (counts and distributions of
quality, position and mismatches per allele); the pileup neighbourhood shows collapsed paralogs and bad mapping. All
are computed from every usable read that overlaps REF, not only from the rows of the tensor. NaN: undefined here (no
read supports the allele, no pair, no qualities).

The order of :data:`SITE_FEATURES` is the order of the array, and part of the dataset's format.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.errors import InputError
from cnnspark.variants.repeats import _code, longest_repeat

# Distances of the pileup neighbourhood and of the density of neighbouring calls, in bases to each side of POS.
PILEUP_DISTANCES = (50, 150, 500, 1000)
# Depth is set against a stretch longer than most collapsed repeats too: over 1,000 bases such a one looks even.
DEPTH_DISTANCES = (150, 1000, 10_000)
CALL_DISTANCES = (50, 150, 1000)
# How far from POS reads play a part, and how far other records of the callset do.
READ_REACH = max(*DEPTH_DISTANCES, *PILEUP_DISTANCES)
FURTHEST = max(CALL_DISTANCES)

_GROUP = (
    "forward_fraction",  # on the forward strand
    "mapq_mean",  # mapping quality / 60, cut at 1; unknown (255) left out
    "mapq_lower_quartile",
    "mapq0_fraction",
    "base_quality_mean",  # Phred, over the allele's bases; reads without qualities left out
    "base_quality_lower_quartile",
    "cycle_mean",  # position in the read as sequenced, 0 first base, 1 last
    "end_distance_mean",  # to the nearer end of the aligned part, by its length
    "near_end_fraction",  # within 5 bases of an end of the aligned part
    "mismatch_rate",  # other mismatches per 100 aligned bases, mean of the reads
    "clipped_fraction",  # soft or hard clipped
    "other_indel_fraction",  # with an insertion or a deletion elsewhere
    "proper_pair_fraction",  # of the paired reads
    "insert_log10",  # mean log10 |TLEN| where it is not 0
    "distinct_start_fraction",  # distinct starts by number of reads
    # (F1R2 + 1/2) / (paired + 1): with the halves 9 of 9 says more than 1 of 1. What damages one strand of a molecule
    # before it is copied (oxidation, deamination) is in F1R2 or in F2R1 fragments alone, on whichever strand they are.
    "f1r2_fraction",
)
_DIFFERENCES = (0, 1, 4, 6, 7, 9, 10, 13)
_SUBSTITUTIONS = (("c", "a"), ("c", "g"), ("c", "t"), ("t", "a"), ("t", "c"), ("t", "g"))
_NEIGHBOURHOOD = ("het_columns", "het_fraction", "mismatch_rate", "indel_rate", "clip_rate", "low_mapq_rate")

SITE_FEATURES: tuple[str, ...] = (
    # shares of the reads that overlap REF
    "ref_fraction",
    "alt_fraction",
    "other_alt_fraction",
    "neither_fraction",
    "alt_balance",  # ALT / (REF + ALT)
    *(f"depth_ratio_{distance}" for distance in DEPTH_DISTANCES),  # ln(1 + depth / mean depth around)
    "region_depth_ratio",  # ln(1 + mean depth within 1,000 / mean depth within 10,000 bases)
    *(f"{group}_{name}" for group in ("ref", "alt") for name in _GROUP),
    *(f"difference_{_GROUP[k]}" for k in _DIFFERENCES),  # ALT - REF
    "strand_odds_ratio",  # GATK's SOR: ln(R + 1/R) + ln(REF ratio) - ln(ALT ratio), counts + 1
    *(f"pileup_{name}_{distance}" for distance in PILEUP_DISTANCES for name in _NEIGHBOURHOOD),
    "homopolymer",  # longest run that touches the span
    "tandem_repeat",  # longest repeat of a unit of 2-4 bases that touches the span
    "gc_32",  # share of G and C within 32 bases
    "distinct_3mers_32",  # distinct 3-mers within 32 bases, by their number
    "is_snv",
    "is_mnv",
    "is_insertion",
    "is_deletion",
    "is_mixed",
    "is_transition",
    # of which kind a single-base substitution is, REF being the pyrimidine of its pair: C>A is G>T, too. Damage, motifs
    # and true variants have kinds of their own.
    *(f"is_{ref}_to_{alt}" for ref, alt in _SUBSTITUTIONS),
    # alt_f1r2_fraction on the strand where REF is the pyrimidine, so that one kind of damage lies on one side; NaN but
    # for single-base substitutions
    "alt_f1r2_fraction_of_pyrimidine",
    "length_change",  # sign x ln(1 + |bases inserted or deleted|)
    "alt_alleles",  # ALTs of the record
    *(f"calls_{distance}" for distance in CALL_DISTANCES),  # ln(1 + other records of the callset)
)


def feature_columns(names: Sequence[str], whose: str) -> list[int]:
    """Where the named site features, those of a model's card, stand in the array of all.

    Raises InputError where there is no such feature; ``whose`` names the model then.
    """
    columns = {name: column for column, name in enumerate(SITE_FEATURES)}
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise InputError(
            f"{whose} expects the site feature '{unknown[0]}', which this version does not build; install the version "
            "that trained it or train it again"
        )
    return [columns[name] for name in names]


_GROUP_SIZE = len(_GROUP)
_F1R2_SHARE = _GROUP.index("f1r2_fraction")
_DIFFERENCE_OF = np.array(_DIFFERENCES, np.int64)
_PILEUP = np.array(PILEUP_DISTANCES, np.int64)
_DEPTH = np.array(DEPTH_DISTANCES, np.int64)
_CALLS = np.array(CALL_DISTANCES, np.int64)
_AT_DEPTH = SITE_FEATURES.index(f"depth_ratio_{DEPTH_DISTANCES[0]}")
_AT_REF = SITE_FEATURES.index(f"ref_{_GROUP[0]}")
_AT_DIFFERENCE = _AT_REF + 2 * _GROUP_SIZE
_AT_PILEUP = SITE_FEATURES.index(f"pileup_{_NEIGHBOURHOOD[0]}_{PILEUP_DISTANCES[0]}")
_AT_CONTEXT = SITE_FEATURES.index("homopolymer")
_AT_TYPE = SITE_FEATURES.index("is_snv")
_AT_TRANSITION = SITE_FEATURES.index("is_transition")
_AT_SUBSTITUTION = SITE_FEATURES.index("is_c_to_a")
_AT_PYRIMIDINE = SITE_FEATURES.index("alt_f1r2_fraction_of_pyrimidine")
_AT_LENGTH = SITE_FEATURES.index("length_change")
_AT_ALTS = SITE_FEATURES.index("alt_alleles")
_AT_CALLS = SITE_FEATURES.index(f"calls_{CALL_DISTANCES[0]}")
_FEATURES = len(SITE_FEATURES)

# Columns of cnnspark.tensors.pileup_kernels.pileup's sums, and its unit of fractions.
_HET, _HET_FRACTION, _MISMATCHES, _BASES, _INDELS, _CLIPS, _COVER, _LOW_MAPQ = range(8)
_FRACTION_UNIT = 1 << 20
_NEAR_END = 5
_CONTEXT = 32

# Sums per haplotype while the reads are gone through.
_N, _FORWARD, _MAPQ_N, _MAPQ, _MAPQ0, _BQ_N, _BQ, _CYCLE, _END, _NEAR, _MISMATCH = range(11)
_CLIPPED, _INDEL, _PAIRED, _PROPER, _INSERT_N, _INSERT, _STARTS, _LAST_START, _F1R2, _SUMS = range(11, 21)


@jit
def _ratio(part, whole):
    return part / whole if whole > 0 else np.nan


@jit
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


@jit
def _group_features(sums, mapq_histogram, quality_histogram, out):
    """The features of the reads of one haplotype, in the order of ``_GROUP``."""
    n = sums[_N]
    out[0] = _ratio(sums[_FORWARD], n)
    out[1] = _ratio(sums[_MAPQ], 60.0 * sums[_MAPQ_N])
    out[2] = _lower_quartile(mapq_histogram) / 60.0
    out[3] = _ratio(sums[_MAPQ0], n)
    out[4] = _ratio(sums[_BQ], sums[_BQ_N])
    out[5] = _lower_quartile(quality_histogram)
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


@jit
def _rows(sums, core_start, begin, end):
    """The rows of the running sums between which positions ``begin`` to ``end`` are counted, cut at the sums' ends."""
    last = len(sums) - 1
    first = min(max(begin - core_start, 0), last)
    return first, min(max(end - core_start, first), last)


@jit
def _count_around(sums, core_start, begin, end, own_start, own_end, counted):
    """Sets ``counted`` to what each column of the running sums counts from position ``begin`` to ``end``, without the
    allele's own."""
    first, after = _rows(sums, core_start, begin, end)
    own_begin = max(begin, own_start)
    own_first, own_after = _rows(sums, core_start, own_begin, max(own_begin, min(end, own_end)))
    for column in range(len(counted)):
        own = sums[own_after, column] - sums[own_first, column]
        counted[column] = sums[after, column] - sums[first, column] - own


@jit
def _cover(sums, core_start, begin, end):
    """The reads' bases and deletions that cover position ``begin`` to ``end``."""
    first, after = _rows(sums, core_start, begin, end)
    return np.float64(sums[after, _COVER] - sums[first, _COVER])


@jit
def site_features(
    starts,
    flags,
    mapqs,
    template_lengths,
    base_offsets,
    read_table,
    sums,
    core_start,
    contig_length,
    reference,
    reference_start,
    record_starts,
    span_starts,
    span_ends,
    has_indels,
    alt_counts,
    pair_offsets,
    pair_reads,
    pair_haplotypes,
    pair_quals,
    pair_sites,
    allele_offsets,
    allele_types,
    edit_starts,
    edit_ref_lengths,
    edit_offsets,
    edit_bases,
    calls,
):
    """The features of every allele: float32 (alleles, len(SITE_FEATURES)).

    ``read_table`` and ``sums`` are what :func:`cnnspark.tensors.pileup_kernels.pileup` returns, ``pair_*`` what
    ``observe`` returns; ``calls`` are the sorted starts of the callset's records.
    """
    features = np.full((allele_offsets[len(record_starts)], _FEATURES), np.nan, np.float32)
    kmers = np.empty(64, np.bool_)
    counted = np.empty(sums.shape[1], np.int64)
    for r in range(len(record_starts)):
        haplotypes = allele_offsets[r + 1] - allele_offsets[r] + 1
        groups = np.zeros((haplotypes, _SUMS), np.float64)
        groups[:, _LAST_START] = -1
        mapq_histograms = np.zeros((haplotypes, 61), np.int32)
        quality_histograms = np.zeros((haplotypes, 256), np.int32)
        depth = pair_offsets[r + 1] - pair_offsets[r]
        for pair in range(pair_offsets[r], pair_offsets[r + 1]):
            haplotype = pair_haplotypes[pair]
            if haplotype < 0:
                continue
            read = pair_reads[pair]
            group = groups[haplotype]
            group[_N] += 1
            forward = flags[read] & 0x10 == 0
            if forward:
                group[_FORWARD] += 1
            mapq = mapqs[read]
            if mapq != 255:
                group[_MAPQ_N] += 1
                group[_MAPQ] += min(mapq, 60)
                mapq_histograms[haplotype, min(mapq, 60)] += 1
            if mapq == 0:
                group[_MAPQ0] += 1
            if pair_quals[pair] >= 0:
                group[_BQ_N] += 1
                group[_BQ] += pair_quals[pair]
                quality_histograms[haplotype, np.int64(pair_quals[pair] + 0.5)] += 1
            length = base_offsets[read + 1] - base_offsets[read]
            cycle = pair_sites[pair, 0] if forward else length - 1 - pair_sites[pair, 0]
            group[_CYCLE] += cycle / max(length - 1, 1)
            first = read_table[read, 4]
            last = read_table[read, 5]
            end = max(min(pair_sites[pair, 0] - first, last - 1 - pair_sites[pair, 1]), 0)
            group[_END] += end / max(last - first, 1)
            if end < _NEAR_END:
                group[_NEAR] += 1
            group[_MISMATCH] += 100.0 * (read_table[read, 0] - pair_sites[pair, 2]) / max(read_table[read, 1], 1)
            if read_table[read, 3] > 0:
                group[_CLIPPED] += 1
            if read_table[read, 2] > pair_sites[pair, 3]:
                group[_INDEL] += 1
            if flags[read] & 0x1:
                group[_PAIRED] += 1
                if flags[read] & 0x2:
                    group[_PROPER] += 1
                # First of the pair forward, or second reverse.
                if (flags[read] & 0x40 != 0) == forward:
                    group[_F1R2] += 1
            if template_lengths[read] != 0:
                group[_INSERT_N] += 1
                group[_INSERT] += np.log10(np.float64(abs(np.int64(template_lengths[read]))))
            if group[_LAST_START] != starts[read]:
                group[_STARTS] += 1
                group[_LAST_START] = starts[read]
        supporting_alts = np.float64(0)
        for h in range(1, haplotypes):
            supporting_alts += groups[h, _N]

        start = record_starts[r]
        own_start = span_starts[r]
        own_end = span_ends[r] + has_indels[r]
        shared = np.full(_FEATURES, np.nan, np.float64)  # what all ALTs of the record have in common
        cover = _cover(sums, core_start, start, start + 1)
        around = np.nan
        for k in range(len(_DEPTH)):
            nearer = around
            begin = max(start - _DEPTH[k], 0)
            end = min(start + _DEPTH[k] + 1, contig_length)
            around = _ratio(_cover(sums, core_start, begin, end), np.float64(end - begin))
            shared[_AT_DEPTH + k] = np.log1p(cover / around) if around > 0 else np.nan
            # In the end: the last but one distance against the last.
            shared[_AT_DEPTH + len(_DEPTH)] = np.log1p(nearer / around) if around > 0 else np.nan
        for k in range(len(_PILEUP)):
            begin = start - _PILEUP[k]
            end = start + _PILEUP[k] + 1
            at = _AT_PILEUP + 6 * k
            _count_around(sums, core_start, begin, end, own_start, own_end, counted)
            bases = np.float64(counted[_BASES])
            shared[at] = counted[_HET]
            shared[at + 1] = _ratio(counted[_HET_FRACTION] / _FRACTION_UNIT, counted[_HET])
            shared[at + 2] = _ratio(counted[_MISMATCHES], bases)
            shared[at + 3] = _ratio(counted[_INDELS], bases)
            shared[at + 4] = _ratio(counted[_CLIPS], bases)
            shared[at + 5] = _ratio(counted[_LOW_MAPQ], np.float64(counted[_COVER]))
        first_index = own_start - 1 - reference_start
        last_index = span_ends[r] - reference_start
        longest = 0
        for unit in range(1, 5):
            repeat = longest_repeat(reference, first_index, last_index, unit)
            if unit == 1:
                shared[_AT_CONTEXT] = repeat
            else:
                longest = max(longest, repeat)
        shared[_AT_CONTEXT + 1] = longest
        known = 0
        gc = 0
        kmers[:] = False
        distinct = 0
        for position in range(start - _CONTEXT, start + _CONTEXT + 1):
            code = _code(reference, position - reference_start)
            if 1 <= code <= 4:
                known += 1
                if code == 2 or code == 3:
                    gc += 1
            if position <= start + _CONTEXT - 2:
                second = _code(reference, position + 1 - reference_start)
                third = _code(reference, position + 2 - reference_start)
                if 1 <= code <= 4 and 1 <= second <= 4 and 1 <= third <= 4:
                    kmer = (code - 1) * 16 + (second - 1) * 4 + third - 1
                    if not kmers[kmer]:
                        kmers[kmer] = True
                        distinct += 1
        shared[_AT_CONTEXT + 2] = _ratio(np.float64(gc), np.float64(known))
        shared[_AT_CONTEXT + 3] = distinct / (2 * _CONTEXT - 1)
        shared[_AT_ALTS] = alt_counts[r]
        for k in range(len(_CALLS)):
            begin = np.searchsorted(calls, start - _CALLS[k], side="left")
            end = np.searchsorted(calls, start + _CALLS[k], side="right")
            shared[_AT_CALLS + k] = np.log1p(np.float64(max(end - begin - 1, 0)))

        for a in range(allele_offsets[r], allele_offsets[r + 1]):
            out = shared.copy()
            this = a - allele_offsets[r] + 1
            n_ref = groups[0, _N]
            n_alt = groups[this, _N]
            out[0] = _ratio(n_ref, depth)
            out[1] = _ratio(n_alt, depth)
            out[2] = _ratio(supporting_alts - n_alt, depth)
            out[3] = _ratio(depth - n_ref - supporting_alts, depth)
            out[4] = _ratio(n_alt, n_ref + n_alt)
            ref_at = _AT_REF
            alt_at = _AT_REF + _GROUP_SIZE
            _group_features(groups[0], mapq_histograms[0], quality_histograms[0], out[ref_at:alt_at])
            _group_features(groups[this], mapq_histograms[this], quality_histograms[this], out[alt_at:_AT_DIFFERENCE])
            for k in range(len(_DIFFERENCE_OF)):
                out[_AT_DIFFERENCE + k] = out[alt_at + _DIFFERENCE_OF[k]] - out[ref_at + _DIFFERENCE_OF[k]]
            ref_forward = groups[0, _FORWARD] + 1
            ref_reverse = n_ref - groups[0, _FORWARD] + 1
            alt_forward = groups[this, _FORWARD] + 1
            alt_reverse = n_alt - groups[this, _FORWARD] + 1
            odds = ref_forward * alt_reverse / (ref_reverse * alt_forward)
            ref_ratio = min(ref_forward, ref_reverse) / max(ref_forward, ref_reverse)
            alt_ratio = min(alt_forward, alt_reverse) / max(alt_forward, alt_reverse)
            out[_AT_PILEUP - 1] = np.log(odds + 1 / odds) + np.log(ref_ratio) - np.log(alt_ratio)
            for k in range(5):
                out[_AT_TYPE + k] = 1.0 if allele_types[a] == k else 0.0
            bases = edit_offsets[a + 1] - edit_offsets[a]
            out[_AT_TRANSITION:_AT_PYRIMIDINE] = 0.0
            if bases == 1 and edit_ref_lengths[a] == 1:
                alt = np.int64(edit_bases[edit_offsets[a]])
                ref = _code(reference, edit_starts[a] - reference_start)
                if 1 <= alt <= 4 and 1 <= ref <= 4:
                    # A G and C T: codes that differ by two.
                    if abs(alt - ref) == 2:
                        out[_AT_TRANSITION] = 1.0
                    share = out[alt_at + _F1R2_SHARE]
                    if ref == 1 or ref == 3:
                        ref, alt, share = 5 - ref, 5 - alt, 1 - share
                    out[_AT_SUBSTITUTION + (3 if ref == 4 else 0) + alt - (1 if alt > ref else 0) - 1] = 1.0
                    out[_AT_PYRIMIDINE] = share
            change = bases - edit_ref_lengths[a]
            out[_AT_LENGTH] = np.sign(change) * np.log1p(np.float64(abs(change)))
            for k in range(_FEATURES):
                features[a, k] = out[k]
    return features
