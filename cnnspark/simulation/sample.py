"""A diploid sample: its true variants and its haplotypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.formats.reference import OTHER, encode_bases
from cnnspark.simulation.genome import END_MARGIN, Contig
from cnnspark.simulation.provenance import Cause
from cnnspark.variants.haplotypes import left_normalise, make_allele

# Rates per base of the genome, about those of a human of mixed ancestry.
SNV_RATE = 1 / 900
INDEL_RATE = 1 / 6_000
MNV_RATE = 1 / 25_000
# Two haplotypes are as different as the time since their common ancestor is long, and that changes every few kilobases
# (Hudson 1983; Li and Durbin 2011, "Inference of human population history from individual whole-genome sequences").
# Exponential times leave out what is introgressed or balanced; a chi-square of one degree of freedom, which also has
# mean 1, has such stretches: one in a hundred has seven times the variants.
STRETCH = 4_000
# In so many stretches all heterozygous variants are on one haplotype, which is unlike the reference as a whole.
DIVERGED_SHARE = 0.5
# Mosaic alleles where they are wanted; far more than tissues have, so that there is something to learn from.
MOSAIC_RATE = 1 / 5_000
# Share of the reads that show a mosaic allele.
MOSAIC_FRACTIONS = (0.08, 0.30)
# Chance that a tandem repeat of 8 bases or more varies in this sample.
REPEAT_INDEL_CHANCE = 0.08
HOMOZYGOUS_SHARE = 0.38
# Bases between neighbouring variants, so that each keeps its own normalised spelling.
SPACING = 4
_BASES = "ACGT"
_TRANSITION = {"A": "G", "G": "A", "C": "T", "T": "C"}


@dataclass(frozen=True, order=True)
class Variant:
    """One left-normalised allele; ``start`` is POS-1, ``ref`` and ``alt`` are the VCF's (anchor base included)."""

    start: int
    ref: str
    alt: str
    genotype: tuple[int, int]  # phased: 1 where haplotype 0, 1 carries it
    # Share of all reads that show it, where only a part of the cells of one haplotype have it; 0: all have.
    mosaic: float = 0.0

    @property
    def end(self) -> int:
        """The 0-based position behind REF."""
        return self.start + len(self.ref)

    @property
    def cause(self) -> Cause:
        """Why the allele is there: mosaic, homozygous or heterozygous."""
        return Cause.MOSAIC if self.mosaic else Cause.HOM if self.genotype == (1, 1) else Cause.HET


@dataclass(frozen=True)
class Molecule:
    """A sequence that reads come from; the arrays are of one length."""

    codes: np.ndarray  # uint8, base codes
    ref_pos: np.ndarray  # int32, 0-based position on the piece, -1 for inserted or unplaced bases
    cause: np.ndarray  # uint8, Cause of each base
    origin: Cause = Cause.NONE  # what the whole molecule is; NONE: the sample's own haplotype
    weight: float = 1.0  # its depth, as a multiple of a haplotype's


def draw_variants(
    contig: Contig, rng: np.random.Generator, density: float = 1.0, mosaic: float = 0.0, taken: np.ndarray | None = None
) -> list[Variant]:
    """True variants of one piece, sorted, at least ``SPACING`` bases apart.

    ``density`` is a multiple of a human's, ``mosaic`` a share of the mosaic SNVs tabled above. ``taken`` bool (length,)
    are bases that must stay clear.
    """
    taken = np.zeros(contig.length, dtype=bool) if taken is None else taken.copy()
    taken[:END_MARGIN] = taken[-END_MARGIN:] = True
    unknown = np.flatnonzero(contig.codes == OTHER)
    for shift in range(-SPACING, SPACING + 1):
        taken[np.clip(unknown + shift, 0, contig.length - 1)] = True
    variants: list[Variant] = []
    ends, weights, carriers = _stretches(contig.length, rng)

    def haplotype(start: int) -> int:
        carrier = carriers[np.searchsorted(ends, start, side="right")]
        return int(carrier) if carrier >= 0 else int(rng.integers(2))

    def add(start: int, ref: str, alt: str, fraction: float = 0.0) -> None:
        if "N" in ref + alt:
            return
        start, ref, alt = normalised(contig, start, ref, alt)
        span = slice(max(0, start - SPACING), start + len(ref) + SPACING)
        if taken[span].any():
            return
        taken[span] = True
        genotype = (
            (1, 1) if rng.random() < HOMOZYGOUS_SHARE and not fraction else (0, 1) if haplotype(start) else (1, 0)
        )
        variants.append(Variant(start, ref, alt, genotype, fraction))

    def places(rate: float) -> list[int]:
        # A stretch is as long for its variants as they are dense.
        reached = np.cumsum(np.diff(ends, prepend=0) * weights)
        drawn = rng.uniform(0, reached[-1], rng.poisson(reached[-1] * rate))
        found = np.interp(drawn, np.concatenate([[0], reached]), np.concatenate([[0], ends])).astype(np.int64)
        return [int(start) for start in found if END_MARGIN <= start < contig.length - END_MARGIN]

    long = contig.repeats[contig.repeats[:, 1] - contig.repeats[:, 0] >= 8]
    for start, end, unit in long[rng.random(len(long)) < REPEAT_INDEL_CHANCE * density].tolist():
        size = unit * min(int(rng.geometric(0.6)), max(1, 20 // unit), (end - start) // unit - 1)
        letters = contig.letters(start, start + size)
        add(start, *((letters, "") if rng.random() < 0.55 else ("", letters)))
    for start in places(INDEL_RATE * density):
        add(start, *random_indel(contig, start, min(int(rng.geometric(0.3)), 20), rng))
    for start in places(MNV_RATE * density):
        ref = contig.letters(start, start + int(rng.integers(2, 4)))
        add(start, ref, "".join(other_base(base, rng) for base in ref))
    for start in places(SNV_RATE * density):
        ref = contig.letters(start, start + 1)
        add(start, ref, other_base(ref, rng))
    # Not inherited: anywhere.
    for start in rng.integers(
        END_MARGIN, contig.length - END_MARGIN, rng.poisson(contig.length * MOSAIC_RATE * mosaic)
    ):
        start = int(start)
        ref = contig.letters(start, start + 1)
        add(start, ref, other_base(ref, rng), float(rng.uniform(*MOSAIC_FRACTIONS)))
    return sorted(variants)


def _stretches(length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stretches of common ancestry.

    Returns:
        Their ends (n,), their number of variants as a multiple of the mean (n,), and the haplotype with the
        heterozygous ones (n,), -1 for either.
    """
    ends = np.cumsum(1 + rng.exponential(STRETCH, 2 * length // STRETCH + 10)).astype(np.int64)
    ends = np.append(ends[ends < length], length)
    carriers = np.where(rng.random(len(ends)) < DIVERGED_SHARE, rng.integers(0, 2, len(ends)), -1)
    return ends, rng.chisquare(1, len(ends)), carriers


def other_base(base: str, rng: np.random.Generator) -> str:
    """Another base: the transition in two cases of three, as in real genomes. N stays N."""
    if base not in _TRANSITION:
        return base
    if rng.random() < 0.67:
        return _TRANSITION[base]
    return str(rng.choice([letter for letter in _BASES if letter not in (base, _TRANSITION[base])]))


def random_indel(contig: Contig, start: int, size: int, rng: np.random.Generator) -> tuple[str, str]:
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


def occupied(contig: Contig, variants: Sequence[Variant]) -> np.ndarray:
    """Bases that the variants and their surroundings take, bool (length,)."""
    taken = np.zeros(contig.length, dtype=bool)
    for variant in variants:
        taken[max(0, variant.start - SPACING) : variant.end + SPACING] = True
    return taken


def apply_variants(
    contig: Contig, variants: Sequence[Variant], start: int, end: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base codes, reference positions (-1 where inserted) and causes of [start, end) with the variants in place.

    A deletion's cause stands on the bases on both of its sides.
    """
    codes, positions, causes = [], [], []
    at = start
    after_deletion = 0
    for variant in variants:
        shared = min(len(variant.ref), len(variant.alt))
        codes += [contig.codes[at : variant.start], encode_bases(variant.alt)]
        inserted = np.full(len(variant.alt) - shared, -1, dtype=np.int32)
        positions += [np.arange(at, variant.start + shared, dtype=np.int32), inserted]
        between = np.zeros(variant.start - at, dtype=np.uint8)
        between[:1] = after_deletion
        causes += [between, np.full(len(variant.alt), variant.cause, dtype=np.uint8)]
        after_deletion = int(variant.cause) if len(variant.ref) > len(variant.alt) else 0
        at = variant.end
    codes.append(contig.codes[at:end])
    positions.append(np.arange(at, end, dtype=np.int32))
    rest = np.zeros(end - at, dtype=np.uint8)
    rest[:1] = after_deletion
    causes.append(rest)
    return np.concatenate(codes), np.concatenate(positions), np.concatenate(causes)


def make_haplotypes(contig: Contig, variants: Sequence[Variant]) -> list[Molecule]:
    """The sample's two copies; mosaic alleles are put into single reads, not here."""
    haplotypes = []
    for haplotype in (0, 1):
        carried = [variant for variant in variants if variant.genotype[haplotype] and not variant.mosaic]
        haplotypes.append(Molecule(*apply_variants(contig, carried, 0, contig.length)))
    return haplotypes


def truth_header(lengths: dict[str, int], sample: str) -> list[str]:
    """The truth VCF's header, without line ends."""
    lines = ["##fileformat=VCFv4.2", '##FILTER=<ID=PASS,Description="All filters passed">']
    lines += [f"##contig=<ID={name},length={length}>" for name, length in lengths.items()]
    lines.append(
        '##INFO=<ID=MOSAIC,Number=1,Type=Float,Description="Share of the reads, where only some cells have it">'
    )
    lines.append('##FORMAT=<ID=GT,Number=1,Type=String,Description="Phased genotype">')
    lines.append(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}")
    return lines


def truth_lines(contig: Contig, variants: Sequence[Variant]) -> list[str]:
    """The truth VCF's records of one piece, without line ends."""
    lines = []
    for v in variants:
        genotype = "|".join(map(str, v.genotype))
        info = f"MOSAIC={v.mosaic:.3f}" if v.mosaic else "."
        lines.append(
            f"{contig.name}\t{contig.start + v.start + 1}\t.\t{v.ref}\t{v.alt}\t.\tPASS\t{info}\tGT\t{genotype}"
        )
    return lines
