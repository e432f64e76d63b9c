"""The two kinds of filters have this in common: what they offer to a stage, and how their records are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from cnnspark.execution.shards import BlockLines, ShardRow
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.variants.score_fields import GROUPS

PASSED, FILTERED, NOT_SCORED = "passed", "filtered", "not scored"
DECISION = ".filter.json"  # after the name of the filtered callset: what was decided
OTHER = "OTHER"
_BY_FILTER = "\t"  # between type and FILTER in the counts of a block


class RecordFilter(Protocol):
    """Decides FILTER of each record: by thresholds or by tranches. Made in the driver, it travels to the tasks."""

    @property
    def key(self) -> str:
        """The score that decides: INFO's key, or QUAL."""

    def header(self, header: VcfHeader) -> VcfHeader:
        """The header with the declarations of the FILTERs."""

    def facts(self) -> dict[str, Any]:
        """What is decided, as plain values for the manifest."""

    def work(self, vcf: str) -> BlockLines:
        """What a task does with each block: its lines with FILTER set, and counts. Opens the callset."""


def count_filters(counts: Counter[str], kind: str, record: Record) -> None:
    """Counts the record under its type and each of its FILTERs."""
    for name in record.filter.split(";"):
        counts[f"{kind}{_BY_FILTER}{name}"] += 1


def split_counts(rows: Sequence[ShardRow]) -> tuple[list[ShardRow], dict[str, dict[str, int]]]:
    """The rows with their counts of records alone, and the numbers of records by type and FILTER.

    A record with two FILTERs counts under both.
    """
    by_filter: dict[str, Counter[str]] = {kind: Counter() for kind in (*GROUPS, OTHER)}
    plain = []
    for row in rows:
        for name, number in row.counts.items():
            kind, separator, filter_name = name.partition(_BY_FILTER)
            if separator:
                by_filter[kind][filter_name] += number
        plain.append(replace(row, counts={n: c for n, c in row.counts.items() if _BY_FILTER not in n}))
    return plain, {kind: dict(sorted(found.items())) for kind, found in by_filter.items()}
