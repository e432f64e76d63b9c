"""Places of the genome where the machine or the library makes the same mistake again and again.

Each kind of site is a function that finds its places, and a row of the table KINDS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cnnspark.formats.reference import OTHER, A, C, G, T, encode_bases
from cnnspark.simulation.genome import END_MARGIN, Contig
from cnnspark.simulation.provenance import Cause
from cnnspark.simulation.sample import Variant
from cnnspark.simulation.settings import Mechanisms

# Sites per base at a share of 1.
SITE_RATES = {
    Cause.MOTIFS: 1 / 6_000,
    Cause.READ_ENDS: 1 / 6_000,
    Cause.LOW_QUALITY: 1 / 6_000,
    Cause.OXIDATION: 1 / 6_000,
    Cause.DEAMINATION: 1 / 6_000,
}
# Which reads a site spoils.
BY_READ, BY_FRAGMENT = range(2)
ANY, FORWARD, REVERSE, EARLY_CYCLES, LATE_CYCLES = range(5)
# Cycles that count as early and as late.
EARLY, LATE = 15, 40


@dataclass(frozen=True)
class ErrorSites:
    """The sites of one piece (site arrays: (m,))."""

    site_of_pos: np.ndarray  # int32 (length + 1,), -1 without a site; the last entry is for "unplaced"
    cause: np.ndarray  # uint8, Cause
    wrong_base: np.ndarray  # uint8, base code
    by_fragment: np.ndarray  # bool: all reads of a fragment and its duplicates have it, or none has
    only: np.ndarray  # int8: ANY, or which strand or cycles (BY_READ) or which strand of the first read (BY_FRAGMENT)
    rate: np.ndarray  # float64, share of those reads or fragments
    quality: np.ndarray  # float64, mean base quality of the wrong base, 0: as it was


class _Genome(NamedTuple):
    """What sites are chosen on: a piece of n bases."""

    codes: np.ndarray  # uint8 (n,), base codes
    inside: np.ndarray  # bool (n,), known bases that are not near the piece's ends

    def wanted(self, cause: Cause, share: float) -> float:
        """How many sites a cause is to have on the piece."""
        return len(self.codes) * SITE_RATES[cause] * share


class _Places(NamedTuple):
    """Sites of one kind (arrays: (k,))."""

    places: np.ndarray  # int64, positions on the piece
    wrong_base: np.ndarray  # uint8, base code
    only: np.ndarray  # int64, as in ErrorSites


class _Columns(NamedTuple):
    """Sites of all kinds, before one of several at a base is chosen (arrays: (k,), columns as in ErrorSites)."""

    places: np.ndarray
    cause: np.ndarray
    wrong_base: np.ndarray
    by_fragment: np.ndarray
    only: np.ndarray
    rate: np.ndarray
    quality: np.ndarray


@dataclass(frozen=True)
class Kind:
    """A kind of site: how its places are found, and what its reads show."""

    find: Callable[[_Genome, float, np.random.Generator], _Places]  # called with the mechanism's share
    rate: tuple[float, float]  # share of the reads or fragments that show the wrong base, from, to
    quality: tuple[float, float] = (0, 0)  # mean base quality of the wrong base, from, to
    by_fragment: bool = False


def draw_error_sites(
    contig: Contig, variants: Sequence[Variant], mechanisms: Mechanisms, rng: np.random.Generator
) -> ErrorSites:
    """Draws the error sites of a piece, and adds its mosaic variants, which single reads show as well.

    A base has one site at most: the first that is drawn. Bases beside a true variant have none.

    Args:
        contig: the piece.
        variants: the sample's variants on it.
        mechanisms: how many sites of each kind.
        rng: draws the sites.

    Returns:
        The sites.
    """
    inside = np.zeros(contig.length, dtype=bool)
    inside[END_MARGIN:-END_MARGIN] = contig.codes[END_MARGIN:-END_MARGIN] != OTHER
    genome = _Genome(contig.codes, inside)
    drawn = [_draw(genome, cause, getattr(mechanisms, cause.label), rng) for cause in KINDS]
    columns = _joined(drawn)
    taken = np.zeros(contig.length, dtype=bool)
    for variant in variants:
        taken[variant.start - 1 : variant.end + 1] = True
    first = np.zeros(len(columns.places), dtype=bool)
    first[np.unique(columns.places, return_index=True)[1]] = True
    kept = first & ~taken[columns.places]
    columns = _joined([_Columns(*(column[kept] for column in columns)), _mosaic(variants)])
    site_of_pos = np.full(contig.length + 1, -1, dtype=np.int32)
    site_of_pos[columns.places] = np.arange(len(columns.places))
    return ErrorSites(
        site_of_pos,
        columns.cause.astype(np.uint8),
        columns.wrong_base.astype(np.uint8),
        columns.by_fragment,
        columns.only.astype(np.int8),
        columns.rate,
        columns.quality,
    )


def _draw(genome: _Genome, cause: Cause, share: float, rng: np.random.Generator) -> _Columns:
    """The sites of one kind."""
    kind = KINDS[cause]
    places, wrong_base, only = kind.find(genome, share, rng)
    n = len(places)
    rate, quality = rng.uniform(*kind.rate, n), rng.uniform(*kind.quality, n)
    return _Columns(places, np.full(n, cause), wrong_base, np.full(n, kind.by_fragment), only, rate, quality)


def _joined(parts: Sequence[_Columns]) -> _Columns:
    return _Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _mosaic(variants: Sequence[Variant]) -> _Columns:
    """The mosaic variants as sites."""
    mosaic = [variant for variant in variants if variant.mosaic]
    n = len(mosaic)
    return _Columns(
        places=np.array([variant.start for variant in mosaic], dtype=np.int64),
        cause=np.full(n, Cause.MOSAIC),
        wrong_base=np.array([encode_bases(variant.alt)[0] for variant in mosaic], dtype=np.uint8),
        by_fragment=np.ones(n, dtype=bool),
        only=np.full(n, ANY),
        # A haplotype has half of the fragments, and both haplotypes' take part: one rate for all of them.
        rate=np.array([variant.mosaic for variant in mosaic], dtype=np.float64),
        quality=np.zeros(n),
    )


def _some(eligible: np.ndarray, wanted: float, rng: np.random.Generator) -> np.ndarray:
    """Indices into ``eligible``, about ``wanted`` of them."""
    return np.flatnonzero(rng.random(len(eligible)) < min(1.0, wanted / max(1, len(eligible))))


def _another(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A base code other than each of these."""
    return (codes - 1 + rng.integers(1, 4, len(codes))) % 4 + 1


def _after_ggc(genome: _Genome, share: float, rng: np.random.Generator) -> _Places:
    """The base after GGC is misread, on the strand that reads GGC (Nakamura et al. 2011, doi:10.1093/nar/gkr344)."""
    codes, inside = genome
    forward = np.flatnonzero((codes[:-3] == G) & (codes[1:-2] == G) & (codes[2:-1] == C) & inside[3:]) + 3
    reverse = np.flatnonzero((codes[1:-2] == G) & (codes[2:-1] == C) & (codes[3:] == C) & inside[:-3])
    eligible = np.concatenate([forward, reverse])
    strand = np.repeat([FORWARD, REVERSE], (len(forward), len(reverse)))
    chosen = _some(eligible, genome.wanted(Cause.MOTIFS, share), rng)
    return _Places(eligible[chosen], _another(codes[eligible[chosen]], rng), strand[chosen])


def _at_read_ends(genome: _Genome, share: float, rng: np.random.Generator) -> _Places:
    """The machine errs in its first or in its last cycles, at any base."""
    known = np.flatnonzero(genome.inside)
    places = known[_some(known, genome.wanted(Cause.READ_ENDS, share), rng)]
    cycles = np.where(rng.random(len(places)) < 0.75, LATE_CYCLES, EARLY_CYCLES)
    return _Places(places, _another(genome.codes[places], rng), cycles)


def _of_low_quality(genome: _Genome, share: float, rng: np.random.Generator) -> _Places:
    """The machine errs and says so by the base quality, at any base."""
    known = np.flatnonzero(genome.inside)
    places = known[_some(known, genome.wanted(Cause.LOW_QUALITY, share), rng)]
    return _Places(places, _another(genome.codes[places], rng), np.full(len(places), ANY))


def _oxidised(genome: _Genome, share: float, rng: np.random.Generator) -> _Places:
    """Oxidised G pairs with A: the first read shows G>T on the strand that it reads, C>A on the other one.

    Most often in CGG, there written CCG>CAG (Costello et al. 2013, doi:10.1093/nar/gks1443): half of the sites are in
    that context.
    """
    codes, inside = genome
    guanine = np.flatnonzero((codes == G) & inside)
    in_context = (codes[guanine - 1] == C) & (codes[guanine + 1] == G)
    cytosine = np.flatnonzero((codes == C) & inside)
    opposite = (codes[cytosine + 1] == G) & (codes[cytosine - 1] == C)
    eligible = np.concatenate([guanine[in_context], cytosine[opposite]])
    strand = np.repeat([FORWARD, REVERSE], (int(in_context.sum()), int(opposite.sum())))
    wanted = genome.wanted(Cause.OXIDATION, share * 0.5)
    half = _some(eligible, wanted, rng)
    anywhere = np.concatenate([guanine, cytosine])
    anywhere_strand = np.repeat([FORWARD, REVERSE], (len(guanine), len(cytosine)))
    rest = _some(anywhere, wanted, rng)
    places = np.concatenate([eligible[half], anywhere[rest]])
    strand = np.concatenate([strand[half], anywhere_strand[rest]])
    return _Places(places, np.where(codes[places] == G, T, A), strand)


def _deaminated(genome: _Genome, share: float, rng: np.random.Generator) -> _Places:
    """Deaminated C reads as T, on its own strand or, after amplification, on both.

    The strands stay apart in some libraries (Chen et al. 2017, doi:10.1126/science.aai8690; Do and Dobrovic 2015,
    doi:10.1373/clinchem.2014.223040).
    """
    codes, inside = genome
    eligible = np.concatenate([np.flatnonzero((codes == G) & inside), np.flatnonzero((codes == C) & inside)])
    places = eligible[_some(eligible, genome.wanted(Cause.DEAMINATION, share), rng)]
    own_strand = np.where(codes[places] == C, FORWARD, REVERSE)
    strand = np.where(rng.random(len(places)) < 0.6, own_strand, ANY)
    return _Places(places, np.where(codes[places] == C, T, A), strand)


# In the order in which they are drawn, on which the simulated bytes depend.
KINDS = {
    Cause.MOTIFS: Kind(_after_ggc, rate=(0.25, 0.9), quality=(16, 36)),
    Cause.READ_ENDS: Kind(_at_read_ends, rate=(0.6, 1.0), quality=(12, 30)),
    Cause.LOW_QUALITY: Kind(_of_low_quality, rate=(0.12, 0.45), quality=(11, 19)),
    Cause.OXIDATION: Kind(_oxidised, rate=(0.3, 0.95), by_fragment=True),
    Cause.DEAMINATION: Kind(_deaminated, rate=(0.15, 0.5), by_fragment=True),
}
