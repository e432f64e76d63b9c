"""Site features: named numbers that say how the reads at a site look, whatever the depth: shares, means, ratios.

The odds ratio of strands and the shares of F1R2 are more certain with more reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from cnnspark.errors import InputError

# Distances of the pileup neighbourhood and of the density of neighbouring calls, in bases to each side of POS.
PILEUP_DISTANCES = (50, 150, 500, 1000)
# Depth is also set against a stretch longer than most collapsed repeats: over 1,000 bases such a one looks even.
DEPTH_DISTANCES = (150, 1000, 10_000)
CALL_DISTANCES = (50, 150, 1000)
# How far from POS reads play a part, and how far other records of the callset do.
READ_REACH = max(*DEPTH_DISTANCES, *PILEUP_DISTANCES)
FURTHEST = max(CALL_DISTANCES)

GROUP = (
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
DIFFERENCES = (0, 1, 4, 6, 7, 9, 10, 13)
_SUBSTITUTIONS = (("c", "a"), ("c", "g"), ("c", "t"), ("t", "a"), ("t", "c"), ("t", "g"))
NEIGHBOURHOOD = ("het_columns", "het_fraction", "mismatch_rate", "indel_rate", "clip_rate", "low_mapq_rate")

SITE_FEATURES: tuple[str, ...] = (
    # shares of the reads that overlap REF
    "ref_fraction",
    "alt_fraction",
    "other_alt_fraction",
    "neither_fraction",
    "alt_balance",  # ALT / (REF + ALT)
    *(f"depth_ratio_{distance}" for distance in DEPTH_DISTANCES),  # ln(1 + depth / mean depth around)
    "region_depth_ratio",  # ln(1 + mean depth within 1,000 / mean depth within 10,000 bases)
    *(f"{group}_{name}" for group in ("ref", "alt") for name in GROUP),
    *(f"difference_{GROUP[k]}" for k in DIFFERENCES),  # ALT - REF
    "strand_odds_ratio",  # GATK's SOR: ln(R + 1/R) + ln(REF ratio) - ln(ALT ratio), counts + 1
    *(f"pileup_{name}_{distance}" for distance in PILEUP_DISTANCES for name in NEIGHBOURHOOD),
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
    # of which kind a single-base substitution is, REF being the pyrimidine of its pair: C>A is also G>T. Damage, motifs
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

    ``whose`` names the model in messages.

    Raises:
        InputError: this version does not build such a feature.
    """
    columns = {name: column for column, name in enumerate(SITE_FEATURES)}
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise InputError(
            f"{whose} expects the site feature '{unknown[0]}', which this version does not build; install the version "
            "that trained it or train it again"
        )
    return [columns[name] for name in names]
