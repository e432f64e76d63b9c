"""Places of the genome where the machine or the library makes the same mistake again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    site_of_pos: np.ndarray  # int32 (length + 1,), -1 where there is none; the last entry is for "unplaced"
    cause: np.ndarray  # uint8, Cause
    wrong_base: np.ndarray  # uint8, base code
    by_fragment: np.ndarray  # bool: all reads of a fragment and its duplicates have it, or none has
    only: np.ndarray  # int8: ANY, or which strand or cycles (BY_READ) or which strand of the first read (BY_FRAGMENT)
    rate: np.ndarray  # share of those reads or fragments
    quality: np.ndarray  # mean base quality of the wrong base, 0: as it was


def draw_error_sites(
    contig: Contig, variants: Sequence[Variant], mechanisms: Mechanisms, rng: np.random.Generator
) -> ErrorSites:
    """Draws them, at most one at a base, and adds the mosaic variants: they are single reads' business, too."""
    codes = contig.codes
    parts: list[list[np.ndarray]] = []

    def add(cause: Cause, places: np.ndarray, wrong: np.ndarray, only: np.ndarray, rate: tuple[float, float],
            quality: tuple[float, float], by_fragment: bool = False) -> None:  # fmt: skip
        n = len(places)
        columns = (np.full(n, cause), wrong, np.full(n, by_fragment), only, rng.uniform(*rate, n))
        parts.append([places, *columns, rng.uniform(*quality, n)])

    def some(eligible: np.ndarray, cause: Cause, share: float) -> np.ndarray:
        """Indices into ``eligible``: as many as the cause's rate asks for."""
        wanted = contig.length * SITE_RATES[cause] * share
        return np.flatnonzero(rng.random(len(eligible)) < min(1.0, wanted / max(1, len(eligible))))

    def another(places: np.ndarray) -> np.ndarray:
        return (codes[places] - 1 + rng.integers(1, 4, len(places))) % 4 + 1

    inside = np.zeros(len(codes), dtype=bool)
    inside[END_MARGIN:-END_MARGIN] = codes[END_MARGIN:-END_MARGIN] != OTHER
    # The base after GGC is misread, on the strand that reads GGC (Nakamura et al. 2011, doi:10.1093/nar/gkr344).
    forward = np.flatnonzero((codes[:-3] == G) & (codes[1:-2] == G) & (codes[2:-1] == C) & inside[3:]) + 3
    reverse = np.flatnonzero((codes[1:-2] == G) & (codes[2:-1] == C) & (codes[3:] == C) & inside[:-3])
    after_ggc = np.concatenate([forward, reverse])
    strand = np.repeat([FORWARD, REVERSE], (len(forward), len(reverse)))
    chosen = some(after_ggc, Cause.MOTIFS, mechanisms.motifs)
    add(Cause.MOTIFS, after_ggc[chosen], another(after_ggc[chosen]), strand[chosen], (0.25, 0.9), (16, 36))

    known = np.flatnonzero(inside)
    places = known[some(known, Cause.READ_ENDS, mechanisms.read_ends)]
    cycles = np.where(rng.random(len(places)) < 0.75, LATE_CYCLES, EARLY_CYCLES)
    add(Cause.READ_ENDS, places, another(places), cycles, (0.6, 1.0), (12, 30))
    places = known[some(known, Cause.LOW_QUALITY, mechanisms.low_quality)]
    add(Cause.LOW_QUALITY, places, another(places), np.full(len(places), ANY), (0.12, 0.45), (11, 19))

    # Oxidised G pairs with A: the first read shows G>T on the strand that it reads (Costello et al. 2013, doi:10.1093/
    # nar/gks1443); most often in CGG, there written CCG>CAG.
    guanine = np.flatnonzero((codes == G) & inside)
    in_context = (codes[guanine - 1] == C) & (codes[guanine + 1] == G)
    cytosine = np.flatnonzero((codes == C) & inside)
    opposite = (codes[cytosine + 1] == G) & (codes[cytosine - 1] == C)
    eligible = np.concatenate([guanine[in_context], cytosine[opposite]])
    strand = np.repeat([FORWARD, REVERSE], (int(in_context.sum()), int(opposite.sum())))
    half = some(eligible, Cause.OXIDATION, mechanisms.oxidation * 0.5)
    anywhere = np.concatenate([guanine, cytosine])
    anywhere_strand = np.repeat([FORWARD, REVERSE], (len(guanine), len(cytosine)))
    rest = some(anywhere, Cause.OXIDATION, mechanisms.oxidation * 0.5)
    places = np.concatenate([eligible[half], anywhere[rest]])
    strand = np.concatenate([strand[half], anywhere_strand[rest]])
    wrong = np.where(codes[places] == G, T, A)
    add(Cause.OXIDATION, places, wrong, strand, (0.3, 0.95), (0, 0), by_fragment=True)

    # Deaminated C reads as T, on its own strand where the library keeps strands apart, on both after amplification
    # (Chen et al. 2017, doi:10.1126/science.aai8690; Do and Dobrovic 2015, doi:10.1373/clinchem.2014.223040).
    chosen = some(anywhere, Cause.DEAMINATION, mechanisms.deamination)
    places = anywhere[chosen]
    own_strand = np.where(codes[places] == C, FORWARD, REVERSE)
    strand = np.where(rng.random(len(places)) < 0.6, own_strand, ANY)
    wrong = np.where(codes[places] == C, T, A)
    add(Cause.DEAMINATION, places, wrong, strand, (0.15, 0.5), (0, 0), by_fragment=True)

    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # The first of several at one base stays; a true variant of the sample leaves no room for an error.
    taken = np.zeros(len(codes), dtype=bool)
    for variant in variants:
        taken[variant.start - 1 : variant.end + 1] = True
    first = np.zeros(len(columns[0]), dtype=bool)
    first[np.unique(columns[0], return_index=True)[1]] = True
    columns = [column[first & ~taken[columns[0]]] for column in columns]
    mosaic = [variant for variant in variants if variant.mosaic]
    # A haplotype has half of the fragments, and both haplotypes' take part: one rate for all of them.
    added = [[v.start, Cause.MOSAIC, int(encode_bases(v.alt)[0]), True, ANY, v.mosaic, 0.0] for v in mosaic]
    if added:
        columns = [np.concatenate([column, new]) for column, new in zip(columns, zip(*added, strict=True), strict=True)]
    places, cause, wrong, by_fragment, only, rate, quality = columns
    site_of_pos = np.full(len(codes) + 1, -1, dtype=np.int32)
    site_of_pos[places.astype(np.int64)] = np.arange(len(places))
    return ErrorSites(
        site_of_pos,
        cause.astype(np.uint8),
        wrong.astype(np.uint8),
        by_fragment.astype(bool),
        only.astype(np.int8),
        rate.astype(np.float64),
        quality.astype(np.float64),
    )
