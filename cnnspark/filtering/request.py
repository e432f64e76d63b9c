"""What the user asks ``filter`` for, checked, and the filter that follows from it: thresholds or tranches, by type.

A false discovery rate and tranches are decided by the callset's own scores; then a pass over its blocks comes first
(:func:`decide_filter`).
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
from cnnspark.filtering.record_filter import RecordFilter
from cnnspark.filtering.score_distribution import ScoreCounts, expected_fdr, fdr_threshold
from cnnspark.filtering.thresholds import FilterSettings, card_threshold, score_counts, uncalibrated_model
from cnnspark.filtering.tranche_filter import FirstPass, decide_tranches, first_pass, open_resource
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
class FilterOptions:
    """What the user asks ``filter`` for: a way to a threshold, for both types or for one, or resources for tranches.

    Attributes:
        threshold: records whose score is lower are filtered.
        precision: the threshold is the one that gives this precision, by the model's card.
        sensitivity: the threshold is the one that keeps this share of the true alleles, by the model's card.
        fdr: the threshold is the one with this expected false discovery rate among the callset's own alleles.
        snp: the same four by name for SNPs alone; they go before those for both types.
        indel: the same for indels alone.
        resources: VCFs of known variants, for tranches as FilterVariantTranches'.
        snp_tranches: percentages of the known SNPs to keep; GATK's default if empty.
        indel_tranches: the same for indels.
        key: INFO's key of the score, or QUAL; CNN_2D, else CNN_1D if None.
        keep_filters: whether the callset's own FILTERs stay.
        strict: whether what is otherwise a warning is an error.
    """

    threshold: float | None = None
    precision: float | None = None
    sensitivity: float | None = None
    fdr: float | None = None
    snp: Mapping[str, float | None] = field(default_factory=dict)
    indel: Mapping[str, float | None] = field(default_factory=dict)
    resources: Sequence[str] = ()
    snp_tranches: Sequence[float] = ()
    indel_tranches: Sequence[float] = ()
    key: str | None = None
    keep_filters: bool = True
    strict: bool = False


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
    def of(options: FilterOptions) -> FilterRequest:
        """The request of a user's options.

        Raises:
            UsageError: options that contradict each other, none at all, or a share outside (0, 1].
        """
        general = _one_way({name: getattr(options, name) for name in WAYS}, "")
        by_type = {"SNP": options.snp, "INDEL": options.indel}
        own = {group: _one_way(by_type[group], f"{group.lower()}-") for group in GROUPS}
        ways = {group: way for group in GROUPS if (way := own[group] or general) is not None}
        tranches = {"snp": tuple(options.snp_tranches), "indel": tuple(options.indel_tranches)}
        chosen = {name: values for name, values in tranches.items() if values}
        if options.resources and ways:
            raise UsageError(f"--resource (tranches) excludes {_FLAGS}; leave one out")
        if chosen and not options.resources:
            raise UsageError(f"--{min(chosen)}-tranche needs --resource, a VCF of known variants; give one or more")
        if not options.resources and not ways:
            raise UsageError(f"give one of {_FLAGS}, or --resource for tranches")
        resources = tuple(absolute(path) for path in options.resources)
        return FilterRequest(ways, resources, Tranches(**chosen), options.key, options.keep_filters, options.strict)

    def check(self, header: VcfHeader, key: str) -> dict[str, float]:
        """The thresholds by type that can be told from the header alone.

        Raises:
            UsageError: the card has no such threshold, or ``--fdr`` is asked for of a score that is no probability.
        """
        known = {}
        for group, way in self.ways.items():
            if way.name != THRESHOLD and (model := uncalibrated_model(header, key)):
                raise UsageError(
                    f"{key} is of '{model}' with imported weights, which have no thresholds and no calibration for "
                    f"{way.flag}; give --resource for tranches or {_flag_of(way, THRESHOLD)}, or train your own model"
                )
            if way.name == THRESHOLD:
                known[group] = way.value
            elif way.name != FDR:
                known[group] = card_threshold(header, key, group, way.value, way.name, self.strict)
            elif key not in SCORE_KEYS:
                raise UsageError(f"{way.flag} needs probabilities, which {key} does not say; give --key CNN_2D")
        return known

    def open_resources(self, contigs: Sequence[str], callset: str) -> tuple[list[dict[str, Any]], list[str]]:
        """The resources' facts (path, size, SHA-256) and warnings.

        Raises:
            InputError: a resource that cannot be read by region, or is of another build.
        """
        facts: list[dict[str, Any]] = []
        warnings: list[str] = []
        for path in self.resources:
            source, odd = open_resource(path, contigs, callset)
            source.close()
            warnings += odd
            facts.append({**file_identity(path), **({} if is_url(path) else {"sha256": file_digest(path)})})
        return facts, warnings


def _flag_of(way: Way, name: str) -> str:
    """The flag of another way for the same types."""
    return way.flag.removesuffix(way.name) + name


def _one_way(given: Mapping[str, float | None], prefix: str) -> Way | None:
    ways = [
        Way(name, value, f"--{prefix}{name}") for name, each in given.items() for value in (each,) if value is not None
    ]
    if len(ways) > 1:
        raise UsageError(f"give one of {' and '.join(way.flag for way in ways)}")
    return ways[0] if ways else None


def decide_filter(
    session: Session, request: FilterRequest, key: str, known: Mapping[str, float], header: VcfHeader, vcf: str,
    blocks: Sequence[Block],
) -> tuple[RecordFilter, list[str]]:  # fmt: skip
    """The filter, and warnings; after a pass over the callset if its scores decide.

    Args:
        session: where the pass runs.
        request: what the user asked for.
        key: INFO's key of the score, or QUAL.
        known: the thresholds of :meth:`FilterRequest.check`.
        header: the callset's.
        vcf: the callset, bgzipped and indexed.
        blocks: the callset's.

    Raises:
        UsageError: no threshold has the false discovery rate that was asked for.
        InputError: no record has a score, or the resources know none of the callset's alleles.
    """
    if request.resources:
        resources = request.resources

        def tally() -> Callable[[Block], FirstPass]:
            source, known_variants = VcfSource(vcf), [VcfSource(path) for path in resources]
            return lambda block: first_pass(block, source, known_variants, key)

        found = FirstPass.merged(_collect(session, blocks, tally, FirstPass.merged, "scores of known variants"))
        settled, warnings = decide_tranches(found, key, request.tranches, request.keep_filters, request.strict)
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
            return lambda block: score_counts(list(block.read(source)), key)

        parts = _collect(session, blocks, count, merged_counts, "scores")
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
    """The threshold of a type for an expected false discovery rate, or None if the callset has no allele of the type.

    Raises:
        UsageError: no threshold has such a rate; the least that one has is named.
    """
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
    session: Session, blocks: Sequence[Block], make_work: Callable[[], Callable[[Block], T]],
    merge: Callable[[Iterable[T]], T], what: str,
) -> list[T]:  # fmt: skip
    """One merged result for each task."""

    def task(part: Iterable[Block]) -> Iterator[T]:
        work = make_work()
        yield merge(work(block) for block in part)

    return run_tasks(session, deal(session, blocks), task, f"collect {what}")
