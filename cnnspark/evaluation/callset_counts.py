"""What a report counts of all records of a callset, labelled or not: FILTERs, scores, substitutions, indel lengths.

A tally is small whatever the callset's size: counts by rounded score, by type and by FILTER, and the few labelled
alleles whose score is furthest from the truth. Tallies of blocks add up to that of the callset, in any order.
Alleles are those that can be scored (:func:`cnnspark.variants.alleles.unscorable_reason`); FILTER is that of their
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
# Longer insertions and deletions are counted at the ends.
LONGEST_BASES = 30
# Surprising alleles that are kept of each label.
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
    """A labelled allele and what the callset says of it."""

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
        """How far the score is on the wrong side: the score of a false allele, the negative one of a true one."""
        return self.score if self.label == FALSE_VARIANT else -self.score

    def order(self) -> tuple[Any, ...]:
        """The furthest first, ties by place."""
        return (-self.disagreement, self.contig, self.pos, self.ref, self.alt)


@dataclass
class CallsetTally:
    """The counts; ``score`` names what is meant by score. Scores are rounded to three significant digits."""

    score: str
    records: Counter[str] = field(default_factory=Counter)  # by FILTER
    alleles: Counter[tuple[str, str]] = field(default_factory=Counter)  # by type and FILTER
    scores: Counter[tuple[float, str]] = field(default_factory=Counter)  # by score and FILTER
    substitutions: Counter[tuple[float, bool, bool]] = field(default_factory=Counter)  # score, passes, transition
    lengths: Counter[tuple[int, bool]] = field(default_factory=Counter)  # by bases gained (lost: negative), passes
    outcomes: Counter[tuple[str, int, bool]] = field(default_factory=Counter)  # by SNP or INDEL, label, passes
    surprising: list[Surprise] = field(default_factory=list)

    def __iadd__(self, other: CallsetTally) -> CallsetTally:
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.surprising = _furthest([*self.surprising, *other.surprising])
        return self

    @property
    def filtered(self) -> bool:
        """Whether some record has a FILTER or PASS."""
        return any(name != NO_FILTER for name in self.records)

    def passing(self, transition: bool, passes: bool) -> int:
        """SNVs that are transitions or transversions, of records that pass FILTER or do not."""
        return sum(n for (_, p, t), n in self.substitutions.items() if (p, t) == (passes, transition))

    def outcome(self, label: int, passes: bool, group: str = "ALL") -> int:
        """Alleles of a label that pass FILTER, or do not, of SNP, INDEL or ALL."""
        return sum(n for (g, k, p), n in self.outcomes.items() if (k, p) == (label, passes) and group in (g, "ALL"))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: each counter as rows of its key and the count, sorted."""
        rows = {
            name: sorted([*(key if isinstance(key, tuple) else (key,)), n] for key, n in getattr(self, name).items())
            for name in _COUNTERS
        }
        return {"score": self.score, **rows, "surprising": [asdict(each) for each in self.surprising]}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> CallsetTally:
        """What :meth:`to_json` wrote. Raises KeyError, TypeError or ValueError where it is something else."""
        tally = CallsetTally(str(values["score"]), surprising=[_surprise(each) for each in values["surprising"]])
        for name, types in _COUNTERS.items():
            for *parts, n in values[name]:
                key = tuple(kind(part) for kind, part in zip(types, parts, strict=True))
                getattr(tally, name)[key if len(key) > 1 else key[0]] += int(n)
        return tally


# The counters, and what their keys are of.
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


class Tallier:
    """Counts records of a callset. ``score`` is QUAL, an INFO key or FORMAT/KEY; of CNN scores each ALT's own."""

    def __init__(self, header: VcfHeader, score: str, min_qual: float | None = None, sample: int | None = None):
        """Records whose QUAL is below ``min_qual``, or missing, are left out; ``sample`` is the column of FORMAT."""
        self.score = score
        self._min_qual = min_qual
        self._sample = sample or 0
        self._declared = frozenset(header.filters)
        per_alt = score in SCORE_KEYS and ALT_SCORES in header.info
        self._values = AnnotationReader(header, [ALT_SCORES if per_alt else score])

    def tally(self, records: Iterable[Record], labelled: Iterable[LabelledAlt] = ()) -> CallsetTally:
        """The counts of some records; ``labelled`` are those of their ALTs whose label is known."""
        tally = CallsetTally(self.score)
        surprising = []
        labels = {(id(record), number): label for record, number, label in labelled}
        for record in records:
            if self._min_qual is not None and not record.qual_value >= self._min_qual:
                continue
            name = self._filter_name(record.filter)
            passes = name in (PASSED, NO_FILTER)
            tally.records[name] += 1
            for alt_number, alt in enumerate(record.alts, 1):
                if unscorable_reason(record.ref, alt) is not None:
                    continue
                label = labels.get((id(record), alt_number), UNKNOWN)
                exact = round(float(self._values.values(record, alt_number, self._sample)[0]), 4)
                score = float(f"{exact:.3g}")
                kind = variant_type(record.ref, alt)
                tally.alleles[TYPE_NAMES[kind], name] += 1
                if not math.isnan(score):
                    tally.scores[score, name] += 1
                if kind is VariantType.SNV:
                    _, ref, base = trim(record.ref.upper(), alt.upper())
                    if not math.isnan(score) and "N" not in ref + base:
                        tally.substitutions[score, passes, is_transition(ref, base)] += 1
                elif kind in (VariantType.INSERTION, VariantType.DELETION):
                    gained = max(-LONGEST_BASES, min(LONGEST_BASES, len(alt) - len(record.ref)))
                    tally.lengths[gained, passes] += 1
                if label == UNKNOWN:
                    continue
                tally.outcomes[kind.group, label, passes] += 1
                if not math.isnan(exact):
                    place = (record.contig, record.start + 1, record.ref, alt, alt_number)
                    surprising.append(Surprise(*place, label, exact, record.qual, name))
        tally.surprising = _furthest(surprising)
        return tally

    def _filter_name(self, text: str) -> str:
        """The FILTER by its name; the callset's header bounds how many there are."""
        if text in (".", ""):
            return NO_FILTER
        if text == PASSED or text in self._declared:
            return text
        return SEVERAL if ";" in text else UNDECLARED


def add_tallies(parts: Iterable[CallsetTally], score: str) -> CallsetTally:
    """The tally of a callset from those of its blocks."""
    total = CallsetTally(score)
    for part in parts:
        total += part
    return total


@dataclass(frozen=True)
class FilterPoint:
    """What the FILTER as it is set makes of the labelled alleles."""

    precision: float
    recall: float
    false_kept: float


def filter_point(tally: CallsetTally | None, group: str = "ALL") -> FilterPoint | None:
    """None where no record has a FILTER, or there are no true or false alleles."""
    if tally is None or not tally.filtered:
        return None
    true_kept, true_lost = (tally.outcome(TRUE_VARIANT, passes, group) for passes in (True, False))
    false_kept, false_lost = (tally.outcome(FALSE_VARIANT, passes, group) for passes in (True, False))
    if not true_kept + true_lost or not false_kept + false_lost or not true_kept + false_kept:
        return None
    return FilterPoint(
        precision=true_kept / (true_kept + false_kept),
        recall=true_kept / (true_kept + true_lost),
        false_kept=false_kept / (false_kept + false_lost),
    )
