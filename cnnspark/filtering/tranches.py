"""The rules of GATK's FilterVariantTranches: which records its resources know, cutoffs, and the names of its filters.

A tranche is a percentage t of sensitivity. Its cutoff is the score that t percent of the records known to a resource
exceed. Everything here is as in GATK 4.2 to 4.6, oddities included, so that a pipeline gets the same FILTERs: an MNP or
mixed record that a resource has counts among the indels' scores though it is never filtered; the cutoff itself is
filtered; and two REFs of different lengths are not checked for whether the longer begins with the shorter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from cnnspark.errors import UsageError
from cnnspark.filtering.score_distribution import ScoreCounts

SNP, INDEL, OTHER = "SNP", "INDEL", "OTHER"
TYPES = (SNP, INDEL)


@dataclass(frozen=True)
class Tranches:
    """Percentages of sensitivity by type, ascending and distinct.

    Raises:
        UsageError: a percentage outside [0, 100).
    """

    snp: tuple[float, ...] = (99.95,)  # GATK's: "maximize the F1 for whole genome human data"
    indel: tuple[float, ...] = (99.4,)

    def __post_init__(self) -> None:
        for flag, name in (("--snp-tranche", "snp"), ("--indel-tranche", "indel")):
            given = getattr(self, name)
            for tranche in given:
                if not 0 <= tranche < 100:
                    raise UsageError(f"{flag} is {tranche:g}; give a percentage of at least 0 and below 100")
            if not given:
                raise UsageError(f"{flag} is missing; give a percentage such as 99.9")
            object.__setattr__(self, name, tuple(sorted(set(given))))

    def of(self, kind: str) -> tuple[float, ...]:
        """Those of SNP or INDEL."""
        return self.snp if kind == SNP else self.indel


class Alleles(NamedTuple):
    """REF and ALTs of a record of a resource."""

    ref: str
    alts: Sequence[str]


class RefConflictError(ValueError):
    """Two records of one position have REFs of one length and different bases."""


def record_type(ref: str, alts: Sequence[str]) -> str:
    """SNP, INDEL or OTHER (MNP, mixed, symbolic, no ALT), as htsjdk has it: by the lengths of REF and all ALTs.

    ``*`` counts as one base long: A to C and ``*`` is a SNP, AT to A and ``*`` an indel.
    """
    kinds = {_allele_type(ref, alt) for alt in alts}
    return kinds.pop() if len(kinds) == 1 else OTHER


def _allele_type(ref: str, alt: str) -> str:
    if is_symbolic(alt):
        return OTHER
    if len(ref) != len(alt):
        return INDEL
    return SNP if len(alt) == 1 else OTHER


def is_symbolic(alt: str) -> bool:
    """Whether htsjdk takes the ALT for symbolic: ``<...>`` or a breakend."""
    return len(alt) > 1 and (alt[0] in "<." or alt[-1] in ">." or "[" in alt or "]" in alt)


def is_known(ref: str, alt: str, other: Alleles) -> bool:
    """Whether a resource's record at the same position has the allele, after the shorter REF and its ALTs are extended.

    Raises:
        RefConflictError: the REFs cannot both be right.
    """
    ref, alt, other_ref = ref.upper(), _folded(alt), other.ref.upper()
    if ref == other_ref:
        return alt in map(_folded, other.alts)
    if len(ref) == len(other_ref):
        raise RefConflictError(f"{ref} against {other_ref}")
    if len(ref) > len(other_ref):
        return alt in (_extended(_folded(each), ref[len(other_ref) :]) for each in other.alts)
    extended = _extended(alt, other_ref[len(ref) :])
    return extended is not None and extended in map(_folded, other.alts)


def _folded(alt: str) -> str:
    """Bases in upper case; a symbol is taken as it is written."""
    return alt if is_symbolic(alt) else alt.upper()


def _extended(alt: str, bases: str) -> str | None:
    """An ALT with the bases that its REF lacks; None for a symbol, which has no bases."""
    if is_symbolic(alt):
        return None
    return alt if alt == "*" else alt + bases


def look_up(ref: str, alts: Sequence[str], known: Iterable[Alleles]) -> tuple[bool, list[RefConflictError]]:
    """Whether one of the resources' records at this position has one of the ALTs, and the conflicts met on the way.

    The first match ends the search, as in GATK.
    """
    conflicts: list[RefConflictError] = []
    for other in known:
        try:
            if any(is_known(ref, alt, other) for alt in alts):
                return True, conflicts
        except RefConflictError as conflict:
            conflicts.append(conflict)
    return False, conflicts


def cutoffs(scores: ScoreCounts, tranches: Sequence[float]) -> tuple[float, ...] | None:
    """The cutoff of each tranche t, descending: the score at int((t / 100) (n - 1)) of the n scores, best first.

    None without scores. The product is truncated, nothing is interpolated.
    """
    if not scores.total:
        return None
    return tuple(scores.from_top(int((tranche / 100.0) * (scores.total - 1))) for tranche in tranches)


def band(score: float, at: Sequence[float]) -> int | None:
    """The number of the band in which a score lies, None where it passes: it must exceed the first cutoff.

    Band 0 is that below the first and above the second tranche's cutoff; the last reaches to 100.
    """
    if score > at[0]:
        return None
    return next((i - 1 for i, cutoff in enumerate(at) if score > cutoff), len(at) - 1)


def bands(tranches: Sequence[float]) -> list[tuple[float, float]]:
    """The ends of the bands: from each tranche to the next, from the last to 100."""
    return list(zip(tranches, [*tranches[1:], 100.0], strict=True))


def filter_id(key: str, kind: str, ends: tuple[float, float]) -> str:
    """The FILTER of a band, such as ``CNN_2D_SNP_Tranche_99.95_100.00``."""
    return f"{key}_{kind}_Tranche_{two_decimals(ends[0])}_{two_decimals(ends[1])}"


def filter_lines(key: str, tranches: Tranches) -> list[str]:
    """The header lines: one for each band and type, whether a record falls into it or not."""
    return [
        f'##FILTER=<ID={filter_id(key, kind, ends)},Description="{kind} truth resource sensitivity between '
        f'{two_decimals(ends[0])} and {two_decimals(ends[1])} for info key {key}">'
        for kind in TYPES
        for ends in bands(tranches.of(kind))
    ]


def two_decimals(value: float) -> str:
    """A percentage as Java's ``%.2f`` writes it: the shortest decimal of the number, halves rounded up.

    Python rounds the binary number instead: 99.985 is 99.99 here, and 99.98 there.
    """
    if not math.isfinite(value):
        raise ValueError(value)
    return str(Decimal(repr(float(value))).quantize(Decimal("0.01"), ROUND_HALF_UP))
