"""Compares alleles by the haplotypes that they make, so that different spellings of one event match.

The method is vcfeval's (Cleary et al. 2015, doi:10.1101/023754): walk along the reference, build one haplotype from
query alleles and one from truth alleles, and see whether some choice of alleles makes the two equal. It differs in two
points. Ploidy and phase are left out: every allele is judged on its own. And not one best choice counts, but all: an
allele is explained if *some* smallest stretch of haplotype that it helps to make is also made by truth alleles. So
overlapping true alleles (the two of a ``1|2`` genotype, an MNV beside the SNVs that it consists of) are all found, for
which vcfeval needs repeated runs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnspark.formats.reference import ReferenceSource
from cnnspark.variants.alleles import trim


class Allele(NamedTuple):
    """One ALT of one record without the bases that it shares with REF: ``ref`` on [start, end) becomes ``alt``.

    Attributes:
        start: 0-based; an insertion is before the base at ``start``.
        ref: upper case; empty for an insertion.
        alt: upper case; empty for a deletion.
        anchor: POS-1 of the record.
        record_end: one past the last base of the record's REF.
        record: number of the record on its side (query or truth).
    """

    start: int
    ref: str
    alt: str
    anchor: int
    record_end: int
    record: int

    @property
    def end(self) -> int:
        """One past the last reference base that changes."""
        return self.start + len(self.ref)

    @property
    def changes_length(self) -> bool:
        """Whether the haplotype becomes longer or shorter."""
        return len(self.ref) != len(self.alt)


def make_allele(anchor: int, ref: str, alt: str, record: int) -> Allele:
    """The trimmed allele of a record at ``anchor`` (POS-1), upper case."""
    offset, short_ref, short_alt = trim(ref.upper(), alt.upper())
    return Allele(anchor + offset, short_ref, short_alt, anchor, anchor + len(ref), record)


class ReferenceWindow:
    """The letters of one contig, read in chunks, so that neighbouring look-ups cost one read of the file."""

    def __init__(self, reference: ReferenceSource, contig: str, chunk_bases: int = 1 << 17):
        """Nothing is read yet; ``chunk_bases`` are read at once, or more if a look-up needs more."""
        self._reference, self._contig, self._chunk_bases = reference, contig, chunk_bases
        self._start, self._letters = 0, ""

    def __call__(self, start: int, end: int) -> str:
        """The letters of [start, end), upper case, cut at the contig's ends.

        Raises:
            InputError: if the reference lacks the contig.
        """
        # Cutting at the contig's end avoids reading again what is not there. The source refuses an unknown contig.
        start, end = max(0, start), min(end, self._reference.lengths.get(self._contig, end))
        if start < self._start or end > self._start + len(self._letters):
            # A quarter of the chunk to the left: left-normalisation looks back.
            self._start = max(0, start - self._chunk_bases // 4)
            self._letters = self._reference.sequence(
                self._contig, self._start, max(end, self._start + self._chunk_bases)
            )
        return self._letters[start - self._start : max(end - self._start, 0)]


def left_normalise(allele: Allele, letters: Callable[[int, int], str], max_shift: int = 1000) -> tuple[int, str, str]:
    """The leftmost spelling of a trimmed allele (Tan et al. 2015, Bioinformatics 31:2202).

    Args:
        allele: only a pure insertion or deletion can move.
        letters: the reference's letters of [start, end), cut at the contig's ends.
        max_shift: how far it may move, in bases.

    Returns:
        Start (0-based), REF and ALT.
    """
    start, ref, alt = allele.start, allele.ref, allele.alt
    if ref and alt:
        return start, ref, alt
    moved = ref or alt
    before = letters(start - max_shift, start)
    shift = 0
    # Moving one base left rotates the sequence: its last base becomes its first.
    while shift < len(before) and before[-1 - shift] == moved[-1 - shift % len(moved)]:
        shift += 1
    turn = -shift % len(moved)
    moved = moved[turn:] + moved[:turn]
    return (start - shift, moved, "") if ref else (start - shift, "", moved)


@dataclass(frozen=True)
class SearchLimits:
    """How far and how long a comparison searches."""

    # The alleles of one explanation are within this many bases (by POS) of its first one. Reads are 100-250 bases long;
    # truth and callers spell one event differently over a repeat, seldom over more than a read.
    reach_bases: int = 256
    # States visited from one first allele before giving up; ordinary clusters need fewer than a hundred.
    max_states: int = 20_000


@dataclass
class Explanation:
    """The result of :func:`explain`: numbers of the alleles in the lists that it was given."""

    query: set[int]  # explained by truth
    truth: set[int]  # found in the query
    undecided: set[int]  # query alleles without an explanation, near a search that reached ``max_states``


class _State(NamedTuple):
    """Both haplotypes up to here; they are equal, except that the longer one also has ``lead`` at its end."""

    query_pos: int  # next reference base, 0-based
    truth_pos: int
    query_last: int  # the allele used last, -1 before the first
    truth_last: int
    lead: str
    query_leads: bool

    @property
    def in_step(self) -> bool:
        """Equal haplotypes at the same reference base: the end of an explanation, if both sides used an allele."""
        return not self.lead and self.query_pos == self.truth_pos

    @property
    def query_moves(self) -> bool:
        """Whether the query moves next: the side with the shorter haplotype does, else the one further left."""
        return not self.query_leads if self.lead else self.query_pos <= self.truth_pos


class _Side:
    """The alleles of one side (query or truth), by their start; those of ``known`` need no explanation."""

    def __init__(self, alleles: Sequence[Allele], known: Iterable[int]):
        self.alleles = alleles
        self.by_start: dict[int, list[int]] = defaultdict(list)
        for number, allele in enumerate(alleles):
            self.by_start[allele.start].append(number)
        self.anchors = sorted(allele.anchor for allele in alleles)
        known = set(known)
        self.open_anchors = sorted(allele.anchor for n, allele in enumerate(alleles) if n not in known)

    def follows(self, last: int, number: int) -> bool:
        """Whether an allele may come after ``last`` on one haplotype; it starts no earlier than that one ends."""
        if last < 0:
            return True
        before, allele = self.alleles[last], self.alleles[number]
        if before.record == allele.record:
            return False
        # In VCF, two length changes that touch do overlap, because each includes the base before it.
        return not (before.end == allele.start and before.changes_length and allele.changes_length)


def _any_within(positions: Sequence[int], centre: int, reach: int) -> bool:
    i = bisect_left(positions, centre - reach)
    return i < len(positions) and positions[i] <= centre + reach


def explain(
    query: Sequence[Allele],
    truth: Sequence[Allele],
    letters: Callable[[int, int], str],
    limits: SearchLimits,
    known_query: Iterable[int] = (),
    known_truth: Iterable[int] = (),
) -> Explanation:
    """Finds the query alleles that are part of a haplotype which truth alleles also make, and these truth alleles.

    An explanation begins where both haplotypes are at the same reference base, ends where they next are, and uses at
    least one allele of each side, all within ``limits.reach_bases`` (by anchor) of the first. The result for an allele
    depends only on alleles at most ``2 * reach_bases`` away.

    Args:
        query: alleles of the callset, on one contig.
        truth: alleles of the truth, on the same contig.
        letters: the reference's letters of [start, end), upper case, cut at the contig's ends.
        limits: how far and how long to search.
        known_query: numbers of query alleles that are matched already: they may take part, but no search starts where
            only matched alleles are.
        known_truth: the same of truth alleles.
    """
    sides = _Side(query, known_query), _Side(truth, known_truth)
    found = Explanation(set(), set(), set())
    for first_is_query in (True, False):
        own = sides[0 if first_is_query else 1]
        for number, allele in enumerate(own.alleles):
            reach = limits.reach_bases
            if not all(_any_within(side.anchors, allele.anchor, reach) for side in sides):
                continue
            if any(_any_within(side.open_anchors, allele.anchor, reach) for side in sides):
                _search(number, first_is_query, sides, letters, limits, found)
    found.undecided -= found.query
    return found


def _search(
    first: int,
    first_is_query: bool,
    sides: tuple[_Side, _Side],
    letters: Callable[[int, int], str],
    limits: SearchLimits,
    found: Explanation,
) -> None:
    """Adds to ``found`` the alleles of all explanations that begin with one allele."""
    allele = sides[0 if first_is_query else 1].alleles[first]
    last_start = allele.start + 2 * limits.reach_bases
    root = _State(allele.start, allele.start, -1, -1, "", False)
    # Every state, with the steps that lead to it: (state before, allele used, or -1).
    steps: dict[_State, list[tuple[_State, int]]] = {root: []}
    pending, ends = [], []

    def visit(state: _State | None, before: _State, number: int) -> None:
        if state is None:
            return
        if state in steps:
            steps[state].append((before, number))
            return
        steps[state] = [(before, number)]
        if not state.in_step:
            pending.append(state)
        elif state.query_last >= 0 and state.truth_last >= 0:
            ends.append(state)

    visit(_advance(root, first_is_query, allele, first), root, first)
    while pending:
        if len(steps) > limits.max_states:
            found.undecided.update(
                number
                for number, option in enumerate(sides[0].alleles)
                if option.start >= allele.start and abs(option.anchor - allele.anchor) <= limits.reach_bases
            )
            break
        state = pending.pop()
        position = state.query_pos if state.query_moves else state.truth_pos
        if position > last_start:
            continue
        side, last = (sides[0], state.query_last) if state.query_moves else (sides[1], state.truth_last)
        for number in side.by_start.get(position, ()):
            option = side.alleles[number]
            if abs(option.anchor - allele.anchor) <= limits.reach_bases and side.follows(last, number):
                visit(_advance(state, state.query_moves, option, number), state, number)
        base = letters(position, position + 1)
        if base:
            visit(
                _advance(state, state.query_moves, Allele(position, base, base, position, position, -1), -1), state, -1
            )

    reached = set(ends)
    while ends:
        for before, number in steps[ends.pop()]:
            if number >= 0:
                moved_query = first_is_query if before is root else before.query_moves
                (found.query if moved_query else found.truth).add(number)
            if before not in reached:
                reached.add(before)
                ends.append(before)


def _advance(state: _State, query_moves: bool, allele: Allele, number: int) -> _State | None:
    """The state after one side took ``allele`` (number -1: a reference base); None if the haplotypes now differ."""
    query_pos, truth_pos, query_last, truth_last, lead, query_leads = state
    if query_moves:
        query_pos = allele.end
        query_last = number if number >= 0 else query_last
    else:
        truth_pos = allele.end
        truth_last = number if number >= 0 else truth_last
    if lead and query_leads == query_moves:
        lead = lead + allele.alt
    elif lead.startswith(allele.alt):
        lead = lead[len(allele.alt) :]
    elif allele.alt.startswith(lead):
        lead, query_leads = allele.alt[len(lead) :], query_moves
    else:
        return None
    return _State(query_pos, truth_pos, query_last, truth_last, lead, query_leads if lead else False)
