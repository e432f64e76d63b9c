"""FILTER from scores: by a number, or by the precision or the sensitivity that the model's card promises."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspark.alleles import unscorable_reason, variant_type
from cnnspark.blocks import Block
from cnnspark.errors import UsageError
from cnnspark.log import progress
from cnnspark.scoring import ALT_SCORES, lines_of
from cnnspark.shards import BlockLines, BlockOutput
from cnnspark.vcf import Record, VcfHeader, VcfSource

GROUPS = ("SNP", "INDEL")
SCORE_KEYS = ("CNN_2D", "CNN_1D")


@dataclass(frozen=True)
class FilterSettings:
    """What is filtered: records none of whose ALTs reaches the threshold of its type."""

    key: str
    thresholds: Mapping[str, float]  # by SNP and INDEL
    reason: str  # for the header: where the thresholds come from
    keep_filters: bool = True

    @property
    def id(self) -> str:
        """The FILTER's ID."""
        return f"{self.key}_LOW"


def score_key_of(header: VcfHeader, wanted: str | None) -> str:
    """The INFO key to filter by. Raises UsageError where the callset has not been scored."""
    if wanted is not None:
        if wanted not in header.info:
            raise UsageError(f"the callset declares no INFO/{wanted}; check --key")
        return wanted
    for key in SCORE_KEYS:
        if key in header.info:
            return key
    raise UsageError("the callset has no INFO/CNN_2D or CNN_1D; score it first with 'cnnspark score', or give --key")


def card_thresholds(header: VcfHeader, key: str, wanted: float, kind: str = "precision") -> dict[str, float]:
    """Thresholds by type for a precision or, by ``kind``, a sensitivity, from the header lines that scoring wrote.

    A type that the model's validation had too few alleles of, or that never reached the share, gets the threshold of
    all alleles, with a warning. Raises UsageError, naming those there are, where the model's card has none for it.
    """
    found: dict[str, dict[float, float]] = {group: {} for group in (*GROUPS, "ALL")}
    for line in header.lines:
        if line.startswith(f"##cnnspark_threshold=<ID={key}_"):
            values = dict(re.findall(r"[<,](\w+)=([^,>]*)", line))
            if values.get("Group") in found and kind.capitalize() in values:
                found[values["Group"]][float(values[kind.capitalize()])] = float(values["Value"])
    if not any(found.values()):
        raise UsageError(f"the callset's header has no thresholds by {kind} of a model's card; give --threshold")
    of_all = found.pop("ALL")
    thresholds = {}
    for group, by_share in found.items():
        if wanted in by_share:
            thresholds[group] = by_share[wanted]
            continue
        if wanted in of_all:
            thresholds[group] = of_all[wanted]
            progress(f"warning: the card has no {group} threshold for {kind} {wanted:g}; taking that of all alleles")
            continue
        known = ", ".join(f"{p:g}" for p in sorted(by_share)) or "none"
        raise UsageError(
            f"the model's card has no {group} threshold for {kind} {wanted:g} (it has {known}); "
            "choose one of these or give --threshold"
        )
    return thresholds


def filter_header(header: VcfHeader, settings: FilterSettings) -> VcfHeader:
    """The header with the FILTER's declaration, which says the thresholds."""
    cutoffs = ", ".join(f"{group} {settings.thresholds[group]:.3f}" for group in GROUPS)
    line = f'##FILTER=<ID={settings.id},Description="{settings.key} below {cutoffs} ({settings.reason})">'
    kept = header if settings.keep_filters else header.without_lines(["##FILTER="])
    return kept.with_lines([line])


def passes(record: Record, settings: FilterSettings) -> bool | None:
    """Whether one of the record's alleles reaches the threshold of its type; None where nothing was scored."""
    best = record.info_value(settings.key)
    if best in (None, "", "."):
        return None
    each = record.info_value(ALT_SCORES) if settings.key in SCORE_KEYS else None
    values = each.split(",") if each else best.split(",")  # type: ignore[union-attr]
    if len(values) != len(record.alts):
        values = [values[0]] * len(record.alts)
    scored = False
    for alt, value in zip(record.alts, values, strict=True):
        if value in (".", "") or unscorable_reason(record.ref, alt) is not None:
            continue
        scored = True
        # A score that is not a number (a foreign key may hold anything) reaches no threshold.
        if _number(value) >= settings.thresholds[variant_type(record.ref, alt).group]:
            return True
    return False if scored else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("-inf")


def filter_work(vcf: str, settings: FilterSettings) -> BlockLines:
    """What a task does with each block: its lines with FILTER set, and the counts of what passed."""
    source = VcfSource(vcf)

    def work(block: Block) -> BlockOutput:
        counts: Counter[str] = Counter()
        records = list(source.records(block.region, block.first_record))
        for record in records:
            passed = passes(record, settings)
            if passed is None:
                counts["not scored"] += 1
                if not settings.keep_filters:
                    record.filter = "."  # nothing was decided, and the old filters' declarations are gone
                continue
            counts["passed" if passed else "filtered"] += 1
            record.set_filter(settings.id, not passed, settings.keep_filters)
        return BlockOutput(lines_of(records), counts)

    return work


def filter_text(result: Mapping[str, Any], out: str) -> str:
    """What :func:`cnnspark.stages.filter_callset` did, in one line."""
    counts = result["counts"]
    cutoffs = ", ".join(f"{group} {value:.3f}" for group, value in sorted(result["thresholds"].items()))
    return (
        f"{counts.get('passed', 0)} records pass, {counts.get('filtered', 0)} get {result['filter']} "
        f"({result['key']} below {cutoffs}), {counts.get('not scored', 0)} have no score: {out}"
    )
