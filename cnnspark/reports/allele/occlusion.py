"""What moves an allele's score: parts of its tensor are hidden or changed, one at a time, and all are scored.

Occlusion (Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53), for tensors whose parts have names. A part that
changes nothing may still matter: if two parts carry the same information, hiding one leaves the other. No Spark, no
TensorFlow.

Reads are removed from the tensor as if they had not been sequenced; site features, which summarise all reads, stay
unchanged then and are changed on their own. Columns are hidden like those beyond a contig's end: nothing in reads,
reference and alternate. An annotation or site feature is set to several training values in turn; to missing if the
card has no such values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.reports.allele.input_familiarity import Familiar
from cnnspark.tensors.schema import NEITHER, SUPPORTS_ALT, SUPPORTS_OTHER, SUPPORTS_REF, WINDOW, TensorBatch
from cnnspark.tensors.site_features import SITE_FEATURES

COLUMN_STEP = 8
SUPPORT_NAMES = {
    SUPPORTS_ALT: "reads that support ALT",
    SUPPORTS_REF: "reads that support REF",
    SUPPORTS_OTHER: "reads that support another ALT",
    NEITHER: "reads that support neither",
}
# These describe the allele, not the reads: another value would be another allele.
_OF_THE_ALLELE = ("is_", "length_change")
# Families of site features by the beginning of their names; the first that fits counts.
_FAMILIES = (
    ("shares of the reads", ("ref_fraction", "alt_fraction", "other_alt_fraction", "neither_fraction", "alt_balance")),
    ("neighbouring calls", ("alt_alleles", "calls_")),
    ("depth", ("depth_ratio_", "region_depth_")),
    ("features of the REF reads", ("ref_",)),
    ("features of the ALT reads", ("alt_",)),
    ("ALT reads against REF reads", ("difference_", "strand_odds_ratio")),
    ("pileup around", ("pileup_",)),
    ("repeats and base composition", ("homopolymer", "tandem_repeat", "gc_", "distinct_3mers_")),
)


@dataclass(frozen=True)
class Part:
    """A part of the tensor that is hidden or changed.

    Attributes:
        kind: "reads" (a group of rows), "read" (one row), "columns", "input" (one annotation or site feature, set to
            ``value``) or "inputs" (several, set to the training median).
        name: What tables call the part.
        rows: The rows that are removed.
        columns: The columns [first, last) that are hidden.
        inputs: The names of the inputs that are changed.
        value: What an "input" is set to; NaN is missing.
    """

    kind: str
    name: str
    rows: tuple[int, ...] = ()
    columns: tuple[int, int] | None = None
    inputs: tuple[str, ...] = ()
    value: float | None = None


def family_of(feature: str) -> str | None:
    """The family of a site feature; None for those that describe the allele."""
    if feature.startswith(_OF_THE_ALLELE):
        return None
    return next((name for name, starts in _FAMILIES if feature.startswith(starts)), None)


def parts_of(tensors: TensorBatch, inputs: Sequence[Familiar], uses: frozenset[str]) -> Iterator[Part]:
    """The parts of the one allele in ``tensors`` that the network sees; arguments as for :func:`occlusions`."""
    if uses & {"read_bases", "read_support"}:
        yield from _reads(tensors.read_support)
    if uses & {"read_bases", "reference"}:
        for first in range(0, WINDOW, COLUMN_STEP):
            last = first + COLUMN_STEP
            yield Part("columns", f"columns {first} to {last - 1}", columns=(first, last))
    changed = [each for each in inputs if field_of(each) in uses and _may_change(each)]
    yield from _groups(changed)
    for each in changed:
        for value in each.sweep:
            yield Part("input", each.name, inputs=(each.name,), value=value)


def field_of(each: Familiar) -> str:
    """The field of the tensor that holds the input."""
    return "annotations" if each.kind == "annotation" else "site_features"


def _may_change(each: Familiar) -> bool:
    return each.kind == "annotation" or family_of(each.name) is not None


def _reads(support: np.ndarray) -> Iterator[Part]:
    rows = tuple(range(len(support)))
    if not rows:
        return
    yield Part("reads", "all reads", rows)
    codes = [code for code in SUPPORT_NAMES if (support == code).any()]
    if len(codes) > 1:
        for code in codes:
            yield Part("reads", SUPPORT_NAMES[code], tuple(map(int, np.flatnonzero(support == code))))
    for row in rows:
        yield Part("read", f"read {row + 1}", (row,))


def _groups(inputs: Sequence[Familiar]) -> Iterator[Part]:
    """All annotations, all site features, and each family of site features; only inputs whose median is known."""
    named: dict[str, list[str]] = {}
    for each in inputs:
        if each.middle is None:
            continue
        named.setdefault(f"all {each.kind}s", []).append(each.name)
        if each.kind == "site feature" and (family := family_of(each.name)):
            named.setdefault(family, []).append(each.name)
    for name, names in named.items():
        yield Part("inputs", name, inputs=tuple(names))


def occluded(
    tensors: TensorBatch, part: Part, places: Mapping[str, tuple[str, int]], middles: Mapping[str, float]
) -> TensorBatch:
    """The one allele of ``tensors`` with a part hidden or changed; ``tensors`` itself stays the same.

    Args:
        tensors: A batch of one.
        part: What is hidden or changed.
        places: For each input, its field and its column in it.
        middles: For each input, the value that it is set to together with others.
    """
    if part.rows:
        kept = np.setdiff1d(np.arange(len(tensors.read_flags)), part.rows)
        names = ("read_bases", "read_quals", "read_flags", "read_mapqs", "read_support")
        fields = {name: getattr(tensors, name)[kept] for name in names}
        return dataclasses.replace(tensors, row_offsets=np.array([0, len(kept)], np.int64), **fields)
    if part.columns:
        hidden = slice(*part.columns)
        fields = {}
        for name in ("read_bases", "read_quals", "reference", "alternate"):
            fields[name] = getattr(tensors, name).copy()
            fields[name][:, hidden] = 0
        return dataclasses.replace(tensors, **fields)
    fields = {name: getattr(tensors, name).copy() for name in ("annotations", "site_features")}
    for name in part.inputs:
        field, column = places[name]
        fields[field][0, column] = middles[name] if part.value is None else part.value
    return dataclasses.replace(tensors, **fields)


def occlusions(
    tensors: TensorBatch, inputs: Sequence[Familiar], uses: frozenset[str]
) -> tuple[list[Part], TensorBatch]:
    """All parts of an allele, and the batch to score.

    Args:
        tensors: A batch of one.
        inputs: Its annotations and site features, annotations in the model's order.
        uses: The fields that the network takes; other parts are left out.

    Returns:
        The parts, and a batch of 1 + parts: the allele as it is, then with each part hidden or changed.
    """
    parts = list(parts_of(tensors, inputs, uses))
    annotations = 0
    places, middles = {}, {}
    for each in inputs:
        # A tensor has the annotations that the model names, but all site features.
        column = annotations if each.kind == "annotation" else SITE_FEATURES.index(each.name)
        annotations += each.kind == "annotation"
        places[each.name] = (field_of(each), column)
        if each.middle is not None:
            middles[each.name] = each.middle
    return parts, TensorBatch.concatenate([tensors, *(occluded(tensors, part, places, middles) for part in parts)])


@dataclass(frozen=True)
class Effect:
    """The effect of hiding a part."""

    part: Part
    score: float  # without the part
    change: float  # what the part adds: the score with it minus the score without it


@dataclass(frozen=True)
class InputEffect:
    """The lowest and the highest score that training values of one input give.

    Attributes:
        name: The input's.
        lowest: The lowest score.
        lowest_at: The value that gives it; None is missing.
        highest: The highest score.
        highest_at: The value that gives it; None is missing.
        change: The allele's own score minus the lowest or the highest, whichever is further away.
    """

    name: str
    lowest: float
    lowest_at: float | None
    highest: float
    highest_at: float | None
    change: float


def effects(parts: Sequence[Part], scores: np.ndarray) -> tuple[list[Effect], list[InputEffect]]:
    """The effects of hidden parts and those of single inputs, both in the order of the parts.

    Args:
        parts: As :func:`occlusions` gives them.
        scores: (1 + parts,), the scores of its batch.
    """
    base = float(scores[0])
    hidden = [
        Effect(part, float(score), base - float(score))
        for part, score in zip(parts, scores[1:], strict=True)
        if part.kind != "input"
    ]
    swept: dict[str, list[tuple[float, float | None]]] = {}
    for part, score in zip(parts, scores[1:], strict=True):
        if part.kind == "input":
            assert part.value is not None
            value = None if math.isnan(part.value) else part.value
            swept.setdefault(part.name, []).append((float(score), value))
    inputs = []
    for name, found in swept.items():
        (lowest, lowest_at), (highest, highest_at) = (choose(found, key=lambda pair: pair[0]) for choose in (min, max))
        change = max(base - lowest, base - highest, key=abs)
        inputs.append(InputEffect(name, lowest, lowest_at, highest, highest_at, change))
    return hidden, inputs
