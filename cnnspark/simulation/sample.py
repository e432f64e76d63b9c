"""A diploid sample of a made-up genome: its true variants, its haplotypes and its unplaced paralogs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.haplotypes import left_normalise, make_allele
from cnnspark.reference import encode_bases
from cnnspark.simulation.genome import END_MARGIN, Contig

# Rates per base of the genome, about those of a human of mixed ancestry.
SNV_RATE = 1 / 900
INDEL_RATE = 1 / 6_000
MNV_RATE = 1 / 25_000
# Chance that a tandem repeat of 8 bases or more varies in this sample.
REPEAT_INDEL_CHANCE = 0.08
HOMOZYGOUS_SHARE = 0.38
# Bases between neighbouring variants, so that each keeps its own normalised spelling.
_SPACING = 4
# Sequence on both sides of a paralog's copy that is nowhere in the reference.
FLANK_BASES = 700
_BASES = "ACGT"
_TRANSITION = {"A": "G", "G": "A", "C": "T", "T": "C"}


@dataclass(frozen=True, order=True)
class Variant:
    """One left-normalised allele; ``start`` is POS-1, ``ref`` and ``alt`` are the VCF's (anchor base included)."""

    start: int
    ref: str
    alt: str
    genotype: tuple[int, int]  # phased: 1 where haplotype 0, 1 carries it

    @property
    def end(self) -> int:
        return self.start + len(self.ref)


@dataclass(frozen=True)
class Molecule:
    """A sequence that reads come from."""

    contig: int  # number of the contig that its bases align to
    codes: np.ndarray  # uint8 (n,), base codes
    ref_pos: np.ndarray  # int64 (n,), 0-based position on the contig, -1 for inserted or unplaced bases


def draw_variants(contig: Contig, rng: np.random.Generator) -> list[Variant]:
    """True variants of one contig, sorted, at least ``_SPACING`` bases apart."""
    taken = np.zeros(contig.length, dtype=bool)
    taken[:END_MARGIN] = taken[-END_MARGIN:] = True
    variants: list[Variant] = []

    def add(start: int, ref: str, alt: str) -> None:
        start, ref, alt = normalised(contig, start, ref, alt)
        span = slice(max(0, start - _SPACING), start + len(ref) + _SPACING)
        if taken[span].any():
            return
        taken[span] = True
        genotype = (1, 1) if rng.random() < HOMOZYGOUS_SHARE else (1, 0) if rng.random() < 0.5 else (0, 1)
        variants.append(Variant(start, ref, alt, genotype))

    for start, end, unit in contig.repeats:
        if end - start >= 8 and rng.random() < REPEAT_INDEL_CHANCE:
            size = unit * min(int(rng.geometric(0.6)), max(1, 20 // unit), (end - start) // unit - 1)
            letters = contig.letters(start, start + size)
            add(start, *((letters, "") if rng.random() < 0.55 else ("", letters)))
    for start in rng.integers(END_MARGIN, contig.length - END_MARGIN, rng.poisson(contig.length * INDEL_RATE)):
        size = min(int(rng.geometric(0.3)), 20)
        add(int(start), *_random_indel(contig, int(start), size, rng))
    for start in rng.integers(END_MARGIN, contig.length - END_MARGIN, rng.poisson(contig.length * MNV_RATE)):
        ref = contig.letters(int(start), int(start) + int(rng.integers(2, 4)))
        add(int(start), ref, "".join(other_base(base, rng) for base in ref))
    for start in rng.integers(END_MARGIN, contig.length - END_MARGIN, rng.poisson(contig.length * SNV_RATE)):
        ref = contig.letters(int(start), int(start) + 1)
        add(int(start), ref, other_base(ref, rng))
    return sorted(variants)


def other_base(base: str, rng: np.random.Generator) -> str:
    """Another base: the transition in two cases of three, as in real genomes."""
    if rng.random() < 0.67:
        return _TRANSITION[base]
    return str(rng.choice([letter for letter in _BASES if letter not in (base, _TRANSITION[base])]))


def _random_indel(contig: Contig, start: int, size: int, rng: np.random.Generator) -> tuple[str, str]:
    """(ref, alt) of an indel at ``start``: a deletion, a tandem duplication or new sequence."""
    if rng.random() < 0.5:
        return contig.letters(start, start + size), ""
    if rng.random() < 0.5:
        return "", contig.letters(start, start + size)
    return "", "".join(rng.choice(list(_BASES), size=size))


def normalised(contig: Contig, start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """The left-normalised VCF spelling, with the base before it where REF or ALT would be empty."""
    start, ref, alt = left_normalise(make_allele(start, ref, alt, 0), contig.letters)
    if ref and alt:
        return start, ref, alt
    anchor = contig.letters(start - 1, start)
    return start - 1, anchor + ref, anchor + alt


def apply_variants(contig: Contig, variants: Sequence[Variant], start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Base codes and reference positions (-1 where inserted) of [start, end) with the variants in place."""
    codes, positions = [], []
    at = start
    for variant in variants:
        shared = min(len(variant.ref), len(variant.alt))
        codes += [contig.codes[at : variant.start], encode_bases(variant.alt)]
        inserted = np.full(len(variant.alt) - shared, -1, dtype=np.int64)
        positions += [np.arange(at, variant.start + shared), inserted]
        at = variant.end
    codes.append(contig.codes[at:end])
    positions.append(np.arange(at, end))
    return np.concatenate(codes), np.concatenate(positions)


def make_haplotypes(number: int, contig: Contig, variants: Sequence[Variant]) -> list[Molecule]:
    """The sample's two haplotypes of contig ``number``."""
    haplotypes = []
    for haplotype in (0, 1):
        carried = [variant for variant in variants if variant.genotype[haplotype]]
        haplotypes.append(Molecule(number, *apply_variants(contig, carried, 0, contig.length)))
    return haplotypes


def make_paralogs(number: int, contig: Contig, variants: Sequence[Variant], rng: np.random.Generator) -> list[Molecule]:
    """The copies of each collapsed segment: one haplotype of the sample has it, or both.

    Copies differ from the reference at 0.5-2 % of their bases; each has 95 % of the differences. Their flanks are
    nowhere in the reference.
    """
    molecules = []
    for segment in contig.collapsed:
        differences = _paralog_differences(contig, segment.start, segment.end, variants, rng)
        # Two copies of four give variants at half of the reads, one of three at a third.
        for _ in range(2 if rng.random() < 0.3 else 1):
            carried = [difference for difference in differences if rng.random() < 0.95]
            codes, ref_pos = apply_variants(contig, carried, segment.start, segment.end)
            flanks = rng.integers(1, 5, size=(2, FLANK_BASES)).astype(np.uint8)
            unplaced = np.full(FLANK_BASES, -1, dtype=np.int64)
            molecules.append(
                Molecule(
                    number,
                    np.concatenate([flanks[0], codes, flanks[1]]),
                    np.concatenate([unplaced, ref_pos, unplaced]),
                )
            )
    return molecules


def _paralog_differences(
    contig: Contig, start: int, end: int, variants: Sequence[Variant], rng: np.random.Generator
) -> list[Variant]:
    """SNVs and small indels of a paralog's copy, clear of the sample's own variants."""
    rate = 0.005 + 0.015 * rng.beta(1.0, 9.0)
    taken = np.zeros(contig.length, dtype=bool)
    for variant in variants:
        taken[max(0, variant.start - _SPACING) : variant.end + _SPACING] = True
    differences = []
    for position in rng.integers(start + 20, end - 20, rng.poisson((end - start) * rate)):
        at = int(position)
        if rng.random() < 0.12:
            ref, alt = _random_indel(contig, at, min(int(rng.geometric(0.45)), 8), rng)
        else:
            ref = contig.letters(at, at + 1)
            alt = other_base(ref, rng)
        at, ref, alt = normalised(contig, at, ref, alt)
        span = slice(at - _SPACING, at + len(ref) + _SPACING)
        if at > start + 5 and at + len(ref) < end - 5 and not taken[span].any():
            taken[span] = True
            differences.append(Variant(at, ref, alt, (1, 1)))
    return sorted(differences)


def truth_lines(contigs: Sequence[Contig], variants: Sequence[Sequence[Variant]], sample: str) -> list[str]:
    """The truth VCF, without line ends."""
    lines = ["##fileformat=VCFv4.2", '##FILTER=<ID=PASS,Description="All filters passed">']
    lines += [f"##contig=<ID={contig.name},length={contig.length}>" for contig in contigs]
    lines.append('##FORMAT=<ID=GT,Number=1,Type=String,Description="Phased genotype">')
    lines.append(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}")
    for contig, members in zip(contigs, variants, strict=True):
        for v in members:
            genotype = "|".join(map(str, v.genotype))
            lines.append(f"{contig.name}\t{v.start + 1}\t.\t{v.ref}\t{v.alt}\t.\tPASS\t.\tGT\t{genotype}")
    return lines
