"""What the user asks ``filter`` for, checked, and what becomes of it: thresholds or tranches, by type.

Some of it is decided by the callset's own scores; then a pass over its blocks comes first (:func:`settle`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cnnspark.common.dataclass_settings import check_share
from cnnspark.common.storage import absolute, file_digest, file_identity, is_url
from cnnspark.errors import UsageError
from cnnspark.execution.blocks import Block, deal
from cnnspark.execution.tasks import Session, run_tasks
from cnnspark.filtering.score_distribution import ScoreCounts, expected_fdr, fdr_threshold
from cnnspark.filtering.thresholds import FilterSettings, card_threshold, score_counts
from cnnspark.filtering.tranche_filter import FirstPass, TrancheFilter, first_pass, open_resource
from cnnspark.filtering.tranche_filter import settle as settle_tranches
from cnnspark.filtering.tranches import Tranches
from cnnspark.formats.vcf import VcfHeader, VcfSource
from cnnspark.variants.score_fields import GROUPS, SCORE_KEYS

T = TypeVar("T")
THRESHOLD, PRECISION, SENSITIVITY, FDR = WAYS = ("threshold", "precision", "sensitivity", "fdr")
_FLAGS = "--threshold, --precision, --sensitivity and --fdr"


@dataclass(frozen=True)
class Way:
    """One way to a threshold: a number, or a share."""

    name: str  # of WAYS
    value: float
    flag: str

    def __post_init__(self) -> None:
        if self.name != THRESHOLD:
            check_share(self.flag, self.value)
        elif not math.isfinite(self.value):
            raise UsageError(f"{self.flag} is {self.value}; give a number")

    @property
    def reason(self) -> str:
        """For the FILTER's header line."""
        return {
            THRESHOLD: "chosen by number",
            PRECISION: f"precision {self.value:g} on the model's validation data",
            SENSITIVITY: f"sensitivity {self.value:g} on the model's validation data",
            FDR: f"expected false discovery rate {self.value:g} of this callset",
        }[self.name]


@dataclass(frozen=True)
class FilterRequest:
    """What to filter by: a way for each type that is filtered, or resources and tranches."""

    ways: Mapping[str, Way] = field(default_factory=dict)  # by SNP and INDEL
    resources: tuple[str, ...] = ()
    tranches: Tranches = field(default_factory=Tranches)
    key: str | None = None
    keep_filters: bool = True
    strict: bool = False  # errors where else a warning is given

    @staticmethod
    def of(
        both: Mapping[str, float | None], by_type: Mapping[str, Mapping[str, float | None]],
        resources: Sequence[str] = (), tranches: Mapping[str, Sequence[float]] | None = None,
        key: str | None = None, keep_filters: bool = True, strict: bool = False,
    ) -> FilterRequest:  # fmt: skip
        """The request of these options. Raises UsageError where they contradict each other, or there are none.

        Args:
            both: by the names of WAYS what holds for both types; one of them.
            by_type: the same for SNP and INDEL alone; it goes before ``both``.
            tranches: by ``snp`` and ``indel``; GATK's defaults where empty.
        """
        general = _one_way(both, "")
        own = {group: _one_way(by_type.get(group, {}), f"{group.lower()}-") for group in GROUPS}
        ways = {group: way for group in GROUPS if (way := own[group] or general) is not None}
        chosen = {name: tuple(values) for name, values in (tranches or {}).items() if values}
        if resources and ways:
            raise UsageError(f"--resource (tranches) excludes {_FLAGS}; leave one out")
        if chosen and not resources:
            raise UsageError(f"--{min(chosen)}-tranche needs --resource, a VCF of known variants; give one or more")
        if not resources and not ways:
            raise UsageError(f"give one of {_FLAGS}, or --resource for tranches")
        return FilterRequest(
            ways, tuple(absolute(path) for path in resources), Tranches(**chosen), key, keep_filters, strict
        )

    def check(self, header: VcfHeader, key: str) -> dict[str, float]:
        """The thresholds that need no look at the callset's records. Raises UsageError where one cannot be."""
        known = {}
        for group, way in self.ways.items():
            if way.name == THRESHOLD:
                known[group] = way.value
            elif way.name != FDR:
                known[group] = card_threshold(header, key, group, way.value, way.name, self.strict)
            elif key not in SCORE_KEYS:
                raise UsageError(f"{way.flag} needs probabilities, which {key} does not say; give --key CNN_2D")
        return known

    def open_resources(self, contigs: Sequence[str], callset: str) -> tuple[list[dict[str, Any]], list[str]]:
        """The resources' facts (path, size, SHA-256) and warnings. Raises InputError where one cannot be used."""
        facts: list[dict[str, Any]] = []
        warnings: list[str] = []
        for path in self.resources:
            source, odd = open_resource(path, contigs, callset)
            source.close()
            warnings += odd
            facts.append({**file_identity(path), **({} if is_url(path) else {"sha256": file_digest(path)})})
        return facts, warnings


def _one_way(given: Mapping[str, float | None], prefix: str) -> Way | None:
    ways = [
        Way(name, value, f"--{prefix}{name}") for name, each in given.items() for value in (each,) if value is not None
    ]
    if len(ways) > 1:
        raise UsageError(f"give one of {' and '.join(way.flag for way in ways)}")
    return ways[0] if ways else None


def settle(
    spark: Session, request: FilterRequest, key: str, known: Mapping[str, float], header: VcfHeader, vcf: str,
    blocks: Sequence[Block],
) -> tuple[FilterSettings | TrancheFilter, list[str]]:  # fmt: skip
    """What is filtered, and warnings; after a pass over the callset where its scores decide.

    ``known`` are the thresholds of :meth:`FilterRequest.check`.
    """
    if request.resources:
        resources = request.resources

        def tally() -> Callable[[Block], FirstPass]:
            source, known_variants = VcfSource(vcf), [VcfSource(path) for path in resources]
            return lambda block: first_pass(block, source, known_variants, key)

        found = FirstPass.merged(_collect(spark, blocks, tally, FirstPass.merged, "scores of known variants"))
        settled, warnings = settle_tranches(found, key, request.tranches, request.keep_filters, request.strict)
        if request.keep_filters and any(re.match(rf"{re.escape(key)}_(SNP|INDEL)_Tranche_", f) for f in header.filters):
            warnings.append(
                f"the callset has FILTERs of an earlier tranche filter by {key}, and they stay; drop them with "
                "--invalidate-previous-filters"
            )
        return settled, warnings
    thresholds: dict[str, float | None] = dict(known)
    warnings = []
    by_fdr = {group: way for group, way in request.ways.items() if way.name == FDR}
    if by_fdr:
        if not any(line.startswith(f"##cnnspark_model=<ID={key},") for line in header.lines):
            warnings.append(f"{key} was not written by cnnspark; an expected rate holds for calibrated scores alone")

        def count() -> Callable[[Block], dict[str, ScoreCounts]]:
            source = VcfSource(vcf)
            return lambda block: score_counts(list(source.records(block.region, block.first_record)), key)

        parts = _collect(spark, blocks, count, merged_counts, "scores")
        scores = merged_counts(parts)
        thresholds.update({group: threshold_by_fdr(scores[group], group, way) for group, way in by_fdr.items()})
    reasons = {group: way.reason for group, way in request.ways.items()}
    reason = (
        next(iter(reasons.values()))
        if len(set(reasons.values())) == 1
        else "; ".join(f"{group}: {text}" for group, text in reasons.items())
    )
    every = {group: thresholds.get(group) for group in GROUPS}
    return FilterSettings(key, every, reason, request.keep_filters), warnings


def threshold_by_fdr(scores: ScoreCounts, group: str, way: Way) -> float | None:
    """None where there is no allele of the type. Raises UsageError, naming what can be had, where no threshold does."""
    if not scores.total:
        return None
    found = fdr_threshold(scores, way.value)
    if found is None:
        raise UsageError(
            f"no {group} threshold has an expected false discovery rate of {way.value:g} (the least is "
            f"{expected_fdr(scores).min():.3g}); choose a larger --{group.lower()}-fdr or another way"
        )
    return found


def merged_counts(parts: Iterable[Mapping[str, ScoreCounts]]) -> dict[str, ScoreCounts]:
    """Scores by type of several blocks together."""
    every = list(parts)
    return {group: ScoreCounts.merged([part[group] for part in every]) for group in GROUPS}


def _collect(
    spark: Session, blocks: Sequence[Block], make_work: Callable[[], Callable[[Block], T]],
    merge: Callable[[Iterable[T]], T], what: str,
) -> list[T]:  # fmt: skip
    """One merged result for each task."""

    def task(part: Iterable[Block]) -> Iterator[T]:
        work = make_work()
        yield merge(work(block) for block in part)

    return run_tasks(spark, deal(spark, blocks), task, f"collect {what}")
