"""Fragments of a library: where each begins and ends, and what its amplification did to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from cnnspark.formats.reference import OTHER, C, G
from cnnspark.simulation.genome import Contig, tandem_repeats
from cnnspark.simulation.provenance import Cause
from cnnspark.simulation.sample import Molecule
from cnnspark.simulation.settings import SimulationSettings

# Distance from a molecule's end that keeps reads inside which stutter by up to four bases.
MARGIN = 8
# Homopolymers of this many bases, and repeats of 2-4 bases of this many units, stutter.
STUTTER_MIN_UNITS = {1: 8, 2: 6, 3: 5, 4: 5}
# Short repeats slip less than homopolymers.
_REPEAT_STUTTER = 0.6
_MAX_STUTTER = 0.45
# Share of the fragments that were sequenced once more and flagged; hit by no error of their own.
DUPLICATE_SHARE = 0.05
# Families of copies that carry an early error of the amplification, per base.
FAMILY_RATE = 1 / 8_000
# Share of the families that duplicate marking finds.
_FLAGGED_FAMILIES = 0.25
# Bases of adapter at the end of a read into adapter; with more of them it is clipped.
_ADAPTER_BASES = (1, 1, 1, 1, 2, 2, 3, 4)
# Places where short fragments end again and again, per base.
ADAPTER_RATE = 1 / 8_000


@dataclass(frozen=True)
class JoinedMolecules:
    """All molecules of a piece end to end."""

    codes: np.ndarray  # uint8 (total,)
    ref_pos: np.ndarray  # int32 (total,), -1 unplaced
    cause: np.ndarray  # uint8 (total,), Cause of each base
    offsets: np.ndarray  # int64 (molecules + 1,)
    origins: np.ndarray  # uint8 (molecules,), Cause of the whole molecule
    run_starts: np.ndarray  # int64, tandem repeats that stutter: first base
    run_units: np.ndarray  # int64, bases of a unit
    run_rates: np.ndarray  # share of the reads that stutter there


@dataclass(frozen=True)
class Fragments:
    """n sequenced fragments, in the order of ``order_pos`` (arrays: (n,))."""

    start: np.ndarray  # int64, in the joined molecules
    length: np.ndarray  # int64
    origin: np.ndarray  # uint8, Cause of the molecule
    read1_left: np.ndarray  # bool: the first read is the forward one, on the left
    is_duplicate: np.ndarray  # bool, as the BAM's flag says
    family: np.ndarray  # int64: copies of one fragment share it
    error_place: np.ndarray  # int64, place in the joined molecules of an error of the amplification, -1: none
    error_shift: np.ndarray  # uint8, 1-3: which other base
    order_pos: np.ndarray  # int64, position on the piece at or before which no read of it begins, clips excepted

    def __len__(self) -> int:
        return len(self.start)

    def select(self, wanted: np.ndarray | slice) -> Fragments:
        """The fragments of a mask, of indices or of a slice."""
        return Fragments(**{f.name: getattr(self, f.name)[wanted] for f in fields(self)})


def hashed(seed: int, *keys: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) by the keys, float64: what belongs together draws alike (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        state = np.asarray(np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019))
        for key in keys:
            state = (state ^ key.astype(np.int64).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def join_molecules(molecules: Sequence[Molecule], stutter: float, seed: int) -> JoinedMolecules:
    """The molecules end to end, with the repeats that stutter; copies of one repeat stutter alike."""
    codes = np.concatenate([molecule.codes for molecule in molecules])
    ref_pos = np.concatenate([molecule.ref_pos for molecule in molecules])
    cause = np.concatenate([molecule.cause for molecule in molecules])
    offsets = np.cumsum([0, *(len(molecule.codes) for molecule in molecules)])
    origins = np.array([molecule.origin for molecule in molecules], dtype=np.uint8)
    repeats = tandem_repeats(codes)
    starts, ends, units = repeats[:, 0], repeats[:, 1], repeats[:, 2]
    copies = (ends - starts) // units
    least = np.array([0, *(STUTTER_MIN_UNITS[unit] for unit in (1, 2, 3, 4))])[units]
    known = (ref_pos[starts] >= 0) & (ref_pos[ends - 1] >= 0) & (copies >= least)
    starts, ends, units, copies, least = (a[known] for a in (starts, ends, units, copies, least))
    # The rate of a repeat varies, as its surroundings do (beta(1, 10)), and grows by a third with each unit.
    drawn = 1 - (1 - hashed(seed, ref_pos[ends - 1], units)) ** (1 / 10)
    rates = (0.005 + 0.60 * drawn) * (1 + 0.3 * (copies - least)) * np.where(units == 1, 1.0, _REPEAT_STUTTER)
    rates = np.minimum(rates * stutter, _MAX_STUTTER)
    some = rates > 0
    return JoinedMolecules(codes, ref_pos, cause, offsets, origins, starts[some], units[some], rates[some])


def draw_fragments(
    contig: Contig,
    molecules: Sequence[Molecule],
    joined: JoinedMolecules,
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> Fragments:
    """Fragments of all molecules, each sequenced to half of the coverage times its weight, sorted.

    Fragments of extreme GC content are rarer, so depth varies as it does in real libraries; none holds an unknown base.
    """
    mechanisms = settings.mechanisms
    # Where adapters make no errors they are cut off before alignment, so every fragment is as long as a read.
    shortest = 60 if mechanisms.adapters else settings.read_length + 4
    longest = max(settings.max_fragment, shortest)
    strong = np.concatenate([[0], np.cumsum((joined.codes == C) | (joined.codes == G), dtype=np.int32)])
    starts, lengths, numbers = [], [], []
    for number, (molecule, offset) in enumerate(zip(molecules, joined.offsets, strict=False)):
        size = len(molecule.codes)
        if size <= longest + 2 * MARGIN:
            continue
        # Two reads a fragment, half of the depth a haplotype; what GC bias takes away (0.88 remain) is added before.
        depth = settings.coverage / 2 * molecule.weight / 0.88 / (1 + DUPLICATE_SHARE)
        wanted = rng.poisson(size * depth / (2 * settings.read_length))
        drawn = np.rint(rng.normal(settings.fragment_mean, settings.fragment_sd, wanted))
        length = np.clip(drawn, shortest, longest).astype(np.int64)
        start = offset + MARGIN + rng.integers(0, size - length - 2 * MARGIN)
        gc = (strong[start + length] - strong[start]) / length
        kept = rng.random(wanted) < np.exp(-(((gc - 0.44) / 0.30) ** 2))
        starts.append(start[kept])
        lengths.append(length[kept])
        numbers.append(np.full(int(kept.sum()), number))
    if mechanisms.adapters:
        for start, length in _short_fragments(contig, joined, settings, rng):
            starts.append(start)
            lengths.append(length)
            numbers.append(np.searchsorted(joined.offsets, start, side="right") - 1)
    start, length, molecule_of = (np.concatenate(part) for part in (starts, lengths, numbers))
    if (contig.codes == OTHER).any():
        unknown = np.concatenate([[0], np.cumsum(joined.codes == OTHER, dtype=np.int32)])
        clear = unknown[start + length] == unknown[start]
        start, length, molecule_of = start[clear], length[clear], molecule_of[clear]
    n = len(start)
    once = Fragments(
        start,
        length,
        joined.origins[molecule_of],
        rng.random(n) < 0.5,
        np.zeros(n, dtype=bool),
        np.arange(n),
        np.full(n, -1),
        np.zeros(n, dtype=np.uint8),
        _order_positions(joined, start, molecule_of),
    )
    return _amplified(contig, once, settings, rng)


def _order_positions(joined: JoinedMolecules, start: np.ndarray, molecule_of: np.ndarray) -> np.ndarray:
    """The position of the first placed base at or behind each place; of the molecule's last one behind it."""
    placed = np.flatnonzero(joined.ref_pos >= 0)
    at = np.searchsorted(placed, start)
    # Not beyond the molecule's last placed base.
    last = np.searchsorted(placed, joined.offsets[1:]) - 1
    return joined.ref_pos[placed[np.minimum(at, last[molecule_of])]].astype(np.int64)


def _short_fragments(
    contig: Contig, joined: JoinedMolecules, settings: SimulationSettings, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(starts, lengths) of fragments a little shorter than a read that share an end, as enzymes make them.

    Reads run into the adapter at one place again and again, for so few bases that they are not clipped.
    """
    n_sites = rng.poisson(contig.length * ADAPTER_RATE * settings.mechanisms.adapters)
    haplotypes = joined.offsets[:3]
    for _ in range(n_sites):
        haplotype = int(rng.integers(0, 2))
        end = int(rng.integers(haplotypes[haplotype] + 500, haplotypes[haplotype + 1] - 500))
        n = rng.poisson(settings.coverage * rng.uniform(0.3, 0.9))
        length = settings.read_length - rng.choice(_ADAPTER_BASES, n)
        if rng.random() < 0.5:
            yield end - length, length
        else:
            yield np.full(n, end), length


def _amplified(contig: Contig, once: Fragments, settings: SimulationSettings, rng: np.random.Generator) -> Fragments:
    """The fragments with their duplicates, sorted by where they begin; ties in order of making."""
    n = len(once)
    again = np.flatnonzero(rng.random(n) < DUPLICATE_SHARE)
    # Early errors: every copy has them, and there are many copies. Most of these families are not flagged: reads that
    # were sorted into another cluster or whose ends were cut otherwise are not recognised.
    n_families = rng.poisson(contig.length * FAMILY_RATE * settings.mechanisms.duplicates) if n else 0
    own = np.flatnonzero(once.origin == Cause.NONE)
    founders = rng.choice(own, size=min(n_families, len(own) // 10), replace=False) if len(own) else own
    # As many copies as are seen at this depth, and a few more.
    sizes = 2 + rng.poisson(settings.coverage * rng.uniform(0.08, 0.45, len(founders)))
    flagged = rng.random(len(founders)) < _FLAGGED_FAMILIES
    read_length = settings.read_length
    offset = rng.integers(5, read_length - 5, len(founders))
    from_right = rng.random(len(founders)) < 0.5
    within = np.where(from_right, np.maximum(0, once.length[founders] - 1 - offset), offset)
    once.error_place[founders] = once.start[founders] + np.minimum(within, once.length[founders] - 1)
    once.error_shift[founders] = rng.integers(1, 4, len(founders))
    copies = np.repeat(founders, sizes)
    is_duplicate = np.concatenate([np.zeros(n, bool), np.ones(len(again), bool), np.repeat(flagged, sizes)])
    every = np.concatenate([np.arange(n), again, copies])
    order = np.argsort(once.order_pos[every], kind="stable")
    fragments = once.select(every[order])
    return Fragments(
        **{**{f.name: getattr(fragments, f.name) for f in fields(fragments)}, "is_duplicate": is_duplicate[order]}
    )
