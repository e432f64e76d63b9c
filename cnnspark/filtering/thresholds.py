"""FILTER by thresholds: numbers, or what the model's card or the callset's own scores say.

A threshold is given as a number, as a precision or sensitivity of the model's card, or as an expected false discovery
rate of the callset. Tranches are in :mod:`cnnspark.filtering.tranche_filter`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnspark.common.log import progress
from cnnspark.errors import UsageError
from cnnspark.execution.blocks import Block
from cnnspark.execution.shards import BlockLines, BlockOutput
from cnnspark.filtering.record_filter import FILTERED, NOT_SCORED, OTHER, PASSED, count_filters
from cnnspark.filtering.score_distribution import ScoreCounts
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource, lines_of, number_or_nan
from cnnspark.variants.alleles import unscorable_reason, variant_type
from cnnspark.variants.score_fields import ALT_SCORES, GROUPS, QUAL, SCORE_KEYS


@dataclass(frozen=True)
class FilterSettings:
    """Filters records with no ALT that reaches the threshold of its type (a :class:`RecordFilter`)."""

    key: str
    thresholds: Mapping[str, float | None]  # by SNP and INDEL; None: alleles of this type pass
    reason: str  # for the header: where the thresholds come from
    keep_filters: bool = True

    @property
    def id(self) -> str:
        """The FILTER's ID."""
        return f"{self.key}_LOW"

    def header(self, header: VcfHeader) -> VcfHeader:
        """The header with the FILTER's declaration, which says the thresholds."""
        text = thresholds_text(self.key, self.thresholds)
        line = f'##FILTER=<ID={self.id},Description="{self.key} below {text} ({self.reason})">'
        kept = header if self.keep_filters else header.without_lines(["##FILTER="])
        return kept.with_lines([line])

    def facts(self) -> dict[str, Any]:
        """What is decided, as plain values."""
        return {
            "kind": "thresholds",
            "key": self.key,
            "thresholds": dict(self.thresholds),
            "filter": self.id,
            "reason": self.reason,
        }

    def work(self, vcf: str) -> BlockLines:
        """What a task does with each block: its lines with FILTER set, and the counts of what passed."""
        source = VcfSource(vcf)

        def work(block: Block) -> BlockOutput:
            counts: Counter[str] = Counter()
            records = list(block.read(source))
            for record in records:
                passed = passes(record, self)
                if passed is None:
                    counts[NOT_SCORED] += 1
                    if not self.keep_filters:
                        record.filter = "."  # nothing was decided, and the old filters' declarations are gone
                else:
                    counts[PASSED if passed else FILTERED] += 1
                    record.set_filter(self.id, not passed, self.keep_filters)
                count_filters(counts, group_of(record), record)
            return BlockOutput(lines_of(records), counts)

        return work


def score_key_of(header: VcfHeader, wanted: str | None) -> str:
    """The key to filter by: INFO's, or QUAL.

    Raises:
        UsageError: the callset has no score, or not the wanted one.
    """
    if wanted is not None:
        if wanted != QUAL and wanted not in header.info:
            raise UsageError(f"the callset declares no INFO/{wanted}; check --key")
        if re.search(r"[\s;,<>\"]", wanted):
            raise UsageError(f"INFO/{wanted} cannot be part of a FILTER's name; rename it with 'bcftools annotate'")
        return wanted
    for key in SCORE_KEYS:
        if key in header.info:
            return key
    raise UsageError("the callset has no INFO/CNN_2D or CNN_1D; score it first with 'cnnspark score', or give --key")


def uncalibrated_model(header: VcfHeader, key: str) -> str:
    """The network of GATK's whose imported weights wrote the score, by the header; "" if another model did.

    Training gives a card thresholds and a calibration, both from its validation alleles, and scoring writes the
    thresholds into the header. Imported weights have neither.
    """
    if any(line.startswith(f"##cnnspark_threshold=<ID={key}_") for line in header.lines):
        return ""
    models = (re.match(rf"##cnnspark_model=<ID={re.escape(key)},.*?Model=(gatk_\w+)", line) for line in header.lines)
    return next((match[1] for match in models if match), "")


def card_threshold(
    header: VcfHeader, key: str, group: str, wanted: float, kind: str = "precision", strict: bool = False
) -> float:
    """The threshold of a type for a share, from the header that scoring wrote.

    A type without a threshold of its own (too few validation alleles, or the share was never reached) gets that of all
    alleles, with a warning.

    Args:
        header: the scored callset's.
        key: the score.
        group: SNP or INDEL.
        wanted: the share.
        kind: ``precision`` or ``sensitivity``.
        strict: whether a type without a threshold of its own is an error.

    Raises:
        UsageError: the model's card has no such threshold; those that it has are named.
    """
    found: dict[str, dict[float, float]] = {name: {} for name in (*GROUPS, "ALL")}
    for line in header.lines:
        if line.startswith(f"##cnnspark_threshold=<ID={key}_"):
            values = dict(re.findall(r"[<,](\w+)=([^,>]*)", line))
            if values.get("Group") in found and kind.capitalize() in values:
                found[values["Group"]][float(values[kind.capitalize()])] = float(values["Value"])
    if not any(found.values()):
        raise UsageError(f"the callset's header has no thresholds by {kind} of a model's card; give --threshold")
    own = found[group]
    if wanted in own:
        return own[wanted]
    if wanted in found["ALL"] and not strict:
        progress(f"warning: the card has no {group} threshold for {kind} {wanted:g}; taking that of all alleles")
        return found["ALL"][wanted]
    known = ", ".join(f"{share:g}" for share in sorted(own)) or "none"
    raise UsageError(
        f"the model's card has no {group} threshold for {kind} {wanted:g} (it has {known}); "
        "choose one of these or give --threshold"
    )


def passes(record: Record, settings: FilterSettings) -> bool | None:
    """Whether one of the record's alleles reaches the threshold of its type; None if none was scored."""
    scores = allele_scores(record, settings.key)
    # A score that is not a number (a foreign key may hold anything) reaches no threshold.
    return (
        any(
            threshold is None or score >= threshold
            for group, score in scores
            for threshold in (settings.thresholds.get(group),)
        )
        if scores
        else None
    )


def allele_scores(record: Record, key: str) -> list[tuple[str, float]]:
    """The type (SNP or INDEL) and the score of each ALT that has one; NaN if the value is not a number.

    A key with one value holds for every ALT; cnnspark's own scores are those of CNN_ALT_SCORES.
    """
    best = _text(record, key)
    if best in (None, "", "."):
        return []
    each = record.info_value(ALT_SCORES) if key in SCORE_KEYS else None
    values = each.split(",") if each else best.split(",")  # type: ignore[union-attr]
    if len(values) != len(record.alts):
        values = [values[0]] * len(record.alts)
    return [
        (variant_type(record.ref, alt).group, number_or_nan(value))
        for alt, value in zip(record.alts, values, strict=True)
        if value not in (".", "") and unscorable_reason(record.ref, alt) is None
    ]


def record_score(record: Record, key: str) -> float | None:
    """The record's score, the greatest of several values, or None if it has no number."""
    values = [number_or_nan(text) for text in (_text(record, key) or "").split(",")]
    return max((value for value in values if not math.isnan(value)), default=None)


def score_counts(records: Sequence[Record], key: str) -> dict[str, ScoreCounts]:
    """The alleles' scores by type, counted; values that are not numbers are left out."""
    scores = [pair for record in records for pair in allele_scores(record, key)]
    return {
        group: ScoreCounts.of(score for kind, score in scores if kind == group and not math.isnan(score))
        for group in GROUPS
    }


def group_of(record: Record) -> str:
    """SNP or INDEL if all scorable ALTs are of that type, otherwise OTHER."""
    groups = {variant_type(record.ref, alt).group for alt in record.alts if unscorable_reason(record.ref, alt) is None}
    return groups.pop() if len(groups) == 1 else OTHER


def _text(record: Record, key: str) -> str | None:
    return record.qual if key == QUAL else record.info_value(key)


def score_text(key: str, value: float) -> str:
    """A score or threshold for the terminal: three decimals for a model's, all digits for another key's."""
    return f"{value:.3f}" if key in SCORE_KEYS else f"{value:g}"


def thresholds_text(key: str, thresholds: Mapping[str, float | None]) -> str:
    """For example ``SNP 1.000, INDEL -1.000``; a type without a threshold is left out."""
    return ", ".join(f"{group} {score_text(key, x)}" for group in GROUPS if (x := thresholds.get(group)) is not None)


def filter_text(result: Mapping[str, Any], out: str) -> str:
    """Summary of :func:`cnnspark.stages.filter_callset` for the terminal."""
    counts, key = result["counts"], result["key"]
    lines = []
    if result["kind"] == "tranches":
        for kind, found in result["types"].items():
            if not found["tranches"]:
                lines.append(f"{kind}: no cutoff, left unfiltered ({found['scored']} with a score)")
            for each in found["tranches"]:
                lines.append(
                    f"{kind}: {key} above {score_text(key, float(each['cutoff']))} keeps {each['tranche']:g} % of the "
                    f"{found['known']} that the resources have, else {each['filter']}"
                )
        what = "a tranche's FILTER"
    else:
        what = f"{result['filter']} ({key} below {thresholds_text(key, result['thresholds'])})"
    lines.append(
        f"{counts.get(PASSED, 0)} records pass, {counts.get(FILTERED, 0)} get {what}, "
        f"{counts.get(NOT_SCORED, 0)} have no score: {out}"
    )
    return "\n".join(lines)
