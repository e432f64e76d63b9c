"""Molecules that are not the sample's haplotypes, yet whose reads align to them: each makes false alleles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnspark.simulation.genome import END_MARGIN, Contig
from cnnspark.simulation.provenance import Cause
from cnnspark.simulation.sample import (
    SPACING,
    Molecule,
    Variant,
    apply_variants,
    draw_variants,
    normalised,
    occupied,
    other_base,
    random_indel,
)

# Share of the genome whose second copy is missing from the reference.
COLLAPSED_SHARE = 0.035
# Share of their bases at which copies differ; those that aligners cannot tell from the reference's, the closer ones
# first (segmental duplications have at least 90 % identity by definition: Bailey et al. 2002, doi:10.1126/
# science.1072047).
PARALOG_DIVERGENCE = (0.005, 0.10)
# Chance that a stretch of low complexity attracts reads of another one.
LOW_COMPLEXITY_CHANCE = 0.15
# Depth of a contaminant, as a share of the sample's.
CONTAMINATION = 0.03
# Fold-back breakpoints per base.
CHIMERA_RATE = 1 / 12_000


def _wrapped(
    inner: tuple[np.ndarray, np.ndarray], flank: int, origin: Cause, weight: float, rng: np.random.Generator
) -> Molecule:
    """Codes and positions between ``flank`` bases on both sides that are nowhere in the reference."""
    codes, ref_pos = inner
    unplaced = np.full(flank, -1, dtype=np.int32)
    ends = rng.integers(1, 5, size=(2, flank)).astype(np.uint8)
    joined = np.concatenate([ends[0], codes, ends[1]])
    cause = np.full(len(joined), origin, dtype=np.uint8)
    return Molecule(joined, np.concatenate([unplaced, ref_pos, unplaced]), cause, origin, weight)


def make_paralogs(contig: Contig, variants: Sequence[Variant], flank: int, rng: np.random.Generator) -> list[Molecule]:
    """The copies of each collapsed segment: one haplotype of the sample has it, or both.

    A segment's copies differ from the reference as PARALOG_DIVERGENCE says; each has 95 % of the differences.
    """
    molecules = []
    low, high = PARALOG_DIVERGENCE
    taken = occupied(contig, variants)
    for segment in contig.collapsed:
        rate = low * (high / low) ** (rng.random() ** 2)
        differences = _differences(contig, segment.start, segment.end, rate, taken, rng)
        # Two copies of four give variants at half of the reads, one of three at a third.
        for _ in range(2 if rng.random() < 0.3 else 1):
            carried = [difference for difference in differences if rng.random() < 0.95]
            codes, ref_pos, _ = apply_variants(contig, carried, segment.start, segment.end)
            molecules.append(_wrapped((codes, ref_pos), flank, Cause.PARALOGS, 1.0, rng))
    return molecules


def make_low_complexity_copies(
    contig: Contig, variants: Sequence[Variant], share: float, flank: int, rng: np.random.Generator
) -> list[Molecule]:
    """Stretches like those of low complexity here, from elsewhere: reads that lie in them for the most part mismap.

    Such stretches are alike except for 2-8 % of their bases and some units.
    """
    molecules = []
    taken = occupied(contig, variants)
    for region in contig.low_complexity:
        if rng.random() >= LOW_COMPLEXITY_CHANCE * share:
            continue
        start, end = max(END_MARGIN, region.start - 15), min(contig.length - END_MARGIN, region.end + 15)
        differences = _differences(contig, start, end, rng.uniform(0.02, 0.08), taken, rng, margin=2)
        codes, ref_pos, _ = apply_variants(contig, differences, start, end)
        weight = rng.uniform(0.4, 1.6)
        molecules.append(_wrapped((codes, ref_pos), flank, Cause.LOW_COMPLEXITY, weight, rng))
    return molecules


def _differences(
    contig: Contig, start: int, end: int, rate: float, taken: np.ndarray, rng: np.random.Generator, margin: int = 20
) -> list[Variant]:
    """SNVs and small indels of a copy of [start, end), clear of what is taken."""
    taken = taken[start:end].copy()
    differences = []
    for position in rng.integers(start + margin, end - margin, rng.poisson((end - start) * rate)):
        at = int(position)
        if rng.random() < 0.12:
            ref, alt = random_indel(contig, at, min(int(rng.geometric(0.45)), 8), rng)
        else:
            ref = contig.letters(at, at + 1)
            alt = other_base(ref, rng)
        if "N" in ref + alt:
            continue
        at, ref, alt = normalised(contig, at, ref, alt)
        # At a divergence of 10 % neighbours are nearer to each other than in a sample.
        spacing = min(SPACING, int(0.2 / rate))
        span = slice(max(0, at - spacing - start), at + len(ref) + spacing - start)
        if at > start + 1 and at + len(ref) < end - 1 and not taken[span].any():
            taken[span] = True
            differences.append(Variant(at, ref, alt, (1, 1)))
    return sorted(differences)


def make_chimeras(contig: Contig, share: float, flank: int, rng: np.random.Generator) -> list[Molecule]:
    """Fold-back molecules: up to a breakpoint the reference, then an imperfect inverted repeat of it, then its mirror.

    Fragmentation by enzymes and formalin make them, again and again at the same inverted repeats: mismatches beside
    soft clips (Haile et al. 2019, doi:10.1093/nar/gky1142; Gregory et al. 2020, doi:10.1093/nargab/lqaa070).
    """
    molecules = []
    for point in rng.integers(
        END_MARGIN, contig.length - END_MARGIN, rng.poisson(contig.length * CHIMERA_RATE * share)
    ):
        at = int(point)
        to_the_right = rng.random() < 0.5
        arm = int(rng.integers(10, 31))
        known = np.arange(at - flank, at + arm) if to_the_right else np.arange(at - arm, at + flank)
        if known[0] < 0 or known[-1] >= contig.length:
            continue
        codes = contig.codes[known].copy()
        inside = slice(flank, flank + arm) if to_the_right else slice(0, arm)
        differing = rng.random(arm) < rng.uniform(0.06, 0.2)
        # The arm's outer end is aligned only where a match follows the last difference.
        differing[-4 if to_the_right else 0 :][:4] = False
        differing[rng.integers(4, arm - 4)] = True
        codes[inside] = np.where(differing, (codes[inside] + rng.integers(0, 3, arm)) % 4 + 1, codes[inside])
        stem = contig.codes[known[:flank]] if to_the_right else contig.codes[known[arm:]]
        mirror = np.where(stem <= 4, 5 - stem, stem)[::-1].astype(np.uint8)
        unplaced = np.full(flank, -1, dtype=np.int32)
        placed = known.astype(np.int32)
        cause = np.zeros(len(codes) + flank, dtype=np.uint8)
        if to_the_right:
            cause[flank:] = Cause.CHIMERAS
            joined, positions = np.concatenate([codes, mirror]), np.concatenate([placed, unplaced])
        else:
            cause[: flank + arm] = Cause.CHIMERAS
            joined, positions = np.concatenate([mirror, codes]), np.concatenate([unplaced, placed])
        molecules.append(Molecule(joined, positions, cause, Cause.CHIMERAS, rng.uniform(0.25, 1.0)))
    return molecules


def make_contaminant(
    contig: Contig, variants: Sequence[Variant], share: float, density: float, rng: np.random.Generator
) -> list[Molecule]:
    """The haplotypes of another person, who shares half of the sample's variants and has as many others."""
    shared = []
    for variant in variants:
        if rng.random() < 0.5 and not variant.mosaic:
            genotype = (1, 1) if rng.random() < 0.4 else (1, 0) if rng.random() < 0.5 else (0, 1)
            shared.append(Variant(variant.start, variant.ref, variant.alt, genotype))
    own = draw_variants(contig, rng, density * 0.5, taken=occupied(contig, variants))
    everything = sorted([*shared, *own])
    molecules = []
    for haplotype in (0, 1):
        codes, ref_pos, _ = apply_variants(contig, [v for v in everything if v.genotype[haplotype]], 0, contig.length)
        cause = np.full(len(codes), Cause.CONTAMINATION, dtype=np.uint8)
        molecules.append(Molecule(codes, ref_pos, cause, Cause.CONTAMINATION, CONTAMINATION * share))
    return molecules
