"""What a report counts of all records of a callset, labelled or not: FILTERs, scores, substitutions, indel lengths.

Counts stay small whatever the callset's size: numbers by rounded score, by type and by FILTER, and the few labelled
alleles whose score is furthest from the truth. Those of blocks add up to those of the callset, in any order.
Alleles are those that can be scored (:func:`cnnspark.variants.alleles.unscorable_reason`); their FILTER is that of the
record.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cnnspark.evaluation.score_reader import LabelledAlt
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.variants.alleles import (
    FALSE_VARIANT,
    TRUE_VARIANT,
    UNKNOWN,
    VariantType,
    is_transition,
    trim,
    unscorable_reason,
    variant_type,
)
from cnnspark.variants.annotations import AnnotationReader
from cnnspark.variants.score_fields import ALT_SCORES, SCORE_KEYS

PASSED, NO_FILTER, SEVERAL, UNDECLARED = "PASS", "not filtered", "several FILTERs", "undeclared FILTER"
# Longer insertions and deletions are counted as if they had this length.
LONGEST_BASES = 30
# How many surprising alleles are kept for each label.
KEPT = 20
TYPE_NAMES = {
    VariantType.SNV: "SNV",
    VariantType.MNV: "MNV",
    VariantType.INSERTION: "insertion",
    VariantType.DELETION: "deletion",
    VariantType.MIXED: "mixed",
}


@dataclass(frozen=True)
class Surprise:
    """A labelled allele, with its score and the callset's columns."""

    contig: str
    pos: int  # 1-based
    ref: str
    alt: str
    number: int  # of the ALT, from 1
    label: int
    score: float
    qual: str
    filter: str

    @property
    def disagreement(self) -> float:
        """How far the score is on the wrong side: the score of a false allele, the negated score of a true one."""
        return self.score if self.label == FALSE_VARIANT else -self.score

    def order(self) -> tuple[Any, ...]:
        """The sort key: the furthest from the truth first, ties by position."""
        return (-self.disagreement, self.contig, self.pos, self.ref, self.alt)


@dataclass
class CallsetCounts:
    """Counts of a callset or a part of it. Scores are rounded to three significant digits."""

    score: str  # its name: QUAL, an INFO key or FORMAT/KEY
    records: Counter[str] = field(default_factory=Counter)  # by FILTER
    alleles: Counter[tuple[str, str]] = field(default_factory=Counter)  # by type and FILTER
    scores: Counter[tuple[float, str]] = field(default_factory=Counter)  # by score and FILTER
    substitutions: Counter[tuple[float, bool, bool]] = field(default_factory=Counter)  # score, passes, transition
    lengths: Counter[tuple[int, bool]] = field(default_factory=Counter)  # by bases gained (negative: lost), passes
    outcomes: Counter[tuple[str, int, bool]] = field(default_factory=Counter)  # by SNP or INDEL, label, passes
    surprising: list[Surprise] = field(default_factory=list)

    def __iadd__(self, other: CallsetCounts) -> CallsetCounts:
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.surprising = _furthest([*self.surprising, *other.surprising])
        return self

    @property
    def filtered(self) -> bool:
        """Whether any record has a FILTER or PASS."""
        return any(name != NO_FILTER for name in self.records)

    def passing(self, transition: bool, passes: bool) -> int:
        """The number of transitions (or transversions) among SNVs that pass FILTER (or do not)."""
        return sum(n for (_, p, t), n in self.substitutions.items() if (p, t) == (passes, transition))

    def outcome(self, label: int, passes: bool, group: str = "ALL") -> int:
        """The number of alleles with this label in SNP, INDEL or ALL that pass FILTER (or do not)."""
        return sum(n for (g, k, p), n in self.outcomes.items() if (k, p) == (label, passes) and group in (g, "ALL"))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: each counter as rows of its key and the count, sorted."""
        rows = {
            name: sorted([*(key if isinstance(key, tuple) else (key,)), n] for key, n in getattr(self, name).items())
            for name in _COUNTERS
        }
        return {"score": self.score, **rows, "surprising": [asdict(each) for each in self.surprising]}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> CallsetCounts:
        """Reads what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: If the values are something else.
        """
        counts = CallsetCounts(str(values["score"]), surprising=[_surprise(each) for each in values["surprising"]])
        for name, types in _COUNTERS.items():
            for *parts, n in values[name]:
                key = tuple(kind(part) for kind, part in zip(types, parts, strict=True))
                getattr(counts, name)[key if len(key) > 1 else key[0]] += int(n)
        return counts


# The counters, and the types that their keys are made of.
_COUNTERS: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "records": (str,),
    "alleles": (str, str),
    "scores": (float, str),
    "substitutions": (float, bool, bool),
    "lengths": (int, bool),
    "outcomes": (str, int, bool),
}
_SURPRISE = {"contig": str, "pos": int, "ref": str, "alt": str, "number": int, "label": int, "score": float,
             "qual": str, "filter": str}  # fmt: skip


def _surprise(values: Mapping[str, Any]) -> Surprise:
    return Surprise(**{name: kind(values[name]) for name, kind in _SURPRISE.items()})


def _furthest(found: Iterable[Surprise]) -> list[Surprise]:
    """The KEPT false and the KEPT true alleles whose score is furthest from the truth."""
    ranked = sorted(found, key=Surprise.order)
    return [each for label in (TRUE_VARIANT, FALSE_VARIANT) for each in [s for s in ranked if s.label == label][:KEPT]]


class CallsetCounter:
    """Counts records of a callset by one score."""

    def __init__(self, header: VcfHeader, score: str, min_qual: float | None = None, sample: int | None = None):
        """Prepares to read the score.

        Args:
            header: The callset's.
            score: QUAL, an INFO key or FORMAT/KEY. For CNN scores, each ALT's own score is read.
            min_qual: Records with a lower QUAL, or without one, are left out.
            sample: The number of the sample's column that a FORMAT key is read from.

        Raises:
            UsageError: If the header declares the score as text.
        """
        self.score = score
        self._min_qual = min_qual
        self._sample = sample or 0
        self._declared = frozenset(header.filters)
        per_alt = score in SCORE_KEYS and ALT_SCORES in header.info
        self._values = AnnotationReader(header, [ALT_SCORES if per_alt else score])

    def count(self, records: Iterable[Record], labelled: Iterable[LabelledAlt] = ()) -> CallsetCounts:
        """Counts some records.

        Args:
            records: Part of a callset.
            labelled: Those of their ALTs whose label is known; the records are the same objects.
        """
        counts = CallsetCounts(self.score)
        surprising = []
        labels = {(id(record), number): label for record, number, label in labelled}
        for record in records:
            if self._min_qual is not None and not record.qual_value >= self._min_qual:
                continue
            name = self._filter_name(record.filter)
            passes = name in (PASSED, NO_FILTER)
            counts.records[name] += 1
            for alt_number, alt in enumerate(record.alts, 1):
                if unscorable_reason(record.ref, alt) is not None:
                    continue
                label = labels.get((id(record), alt_number), UNKNOWN)
                exact = round(float(self._values.values(record, alt_number, self._sample)[0]), 4)
                score = float(f"{exact:.3g}")
                kind = variant_type(record.ref, alt)
                counts.alleles[TYPE_NAMES[kind], name] += 1
                if not math.isnan(score):
                    counts.scores[score, name] += 1
                if kind is VariantType.SNV:
                    _, ref, base = trim(record.ref.upper(), alt.upper())
                    if not math.isnan(score) and "N" not in ref + base:
                        counts.substitutions[score, passes, is_transition(ref, base)] += 1
                elif kind in (VariantType.INSERTION, VariantType.DELETION):
                    gained = max(-LONGEST_BASES, min(LONGEST_BASES, len(alt) - len(record.ref)))
                    counts.lengths[gained, passes] += 1
                if label == UNKNOWN:
                    continue
                counts.outcomes[kind.group, label, passes] += 1
                if not math.isnan(exact):
                    place = (record.contig, record.start + 1, record.ref, alt, alt_number)
                    surprising.append(Surprise(*place, label, exact, record.qual, name))
        counts.surprising = _furthest(surprising)
        return counts

    def _filter_name(self, text: str) -> str:
        """The FILTER's name; only names that the header declares, so that their number is bounded."""
        if text in (".", ""):
            return NO_FILTER
        if text == PASSED or text in self._declared:
            return text
        return SEVERAL if ";" in text else UNDECLARED


def add_counts(parts: Iterable[CallsetCounts], score: str) -> CallsetCounts:
    """The counts of a callset from those of its blocks."""
    total = CallsetCounts(score)
    for part in parts:
        total += part
    return total


@dataclass(frozen=True)
class FilterPoint:
    """Precision and recall of the callset's FILTER as it is set, on the labelled alleles."""

    precision: float
    recall: float
    false_kept: float  # share of the false alleles


def filter_point(counts: CallsetCounts | None, group: str = "ALL") -> FilterPoint | None:
    """Where the FILTER stands on the curves; None without a FILTER, true alleles, false alleles, or kept alleles."""
    if counts is None or not counts.filtered:
        return None
    true_kept, true_lost = (counts.outcome(TRUE_VARIANT, passes, group) for passes in (True, False))
    false_kept, false_lost = (counts.outcome(FALSE_VARIANT, passes, group) for passes in (True, False))
    if not true_kept + true_lost or not false_kept + false_lost or not true_kept + false_kept:
        return None
    return FilterPoint(
        precision=true_kept / (true_kept + false_kept),
        recall=true_kept / (true_kept + true_lost),
        false_kept=false_kept / (false_kept + false_lost),
    )
