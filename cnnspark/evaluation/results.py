"""Everything that an evaluation measures, from the collected alleles to its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.common.log import progress
from cnnspark.common.storage import write_json, write_text
from cnnspark.common.text_tables import Value
from cnnspark.errors import InputError
from cnnspark.evaluation.callset_composition import composition_summary, format_composition
from cnnspark.evaluation.metrics import AlleleScores, Metrics, evaluate_scores, format_table
from cnnspark.evaluation.metrics_by_stratum import (
    StrataMetrics,
    compare,
    format_comparison,
    format_strata,
    strata_tsv,
    stratified_metrics,
)
from cnnspark.evaluation.score_reader import format_causes, metrics_by_cause
from cnnspark.evaluation.strata import Dimension, RegionFile
from cnnspark.evaluation.threshold_tables import (
    CALIBRATION_COLUMNS,
    THRESHOLD_COLUMNS,
    Row,
    calibration_table,
    rows_as_tsv,
    thresholds_table,
)
from cnnspark.variants.alleles import TRUE_VARIANT
from cnnspark.variants.score_fields import is_log_odds
from cnnspark.variants.truth import TRUTH, TRUTH_FOUND

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

_IMBALANCE = """\
prevalence: the share of the labelled alleles that are true, and the AUPRC of a score that knows nothing.
AUPRC: of these alleles as they are; it rises and falls with the prevalence, so compare it on the same alleles only.
AUPRC(1:1): as if true and false alleles were equally many (knowing nothing is .500); for callsets that differ."""


@dataclass(frozen=True)
class Measurements:
    """The figures of an evaluation, as plain values.

    Attributes:
        metrics: group -> score -> metric -> value.
        counts: Labels by reason, and records.
        strata: dimension -> stratum -> score -> metric -> value.
        comparison: group -> ``second - first`` -> metric -> value.
        thresholds: Rows of thresholds.tsv.
        calibration: Rows of calibration.tsv.
        callsets: callset -> before, after or truth -> count or ratio.
        by_cause: mechanism -> score -> metric -> value; empty if no causes were given.
    """

    metrics: Metrics
    counts: dict[str, int]
    strata: StrataMetrics = field(default_factory=dict)
    comparison: Metrics = field(default_factory=dict)
    thresholds: list[Row] = field(default_factory=list)
    calibration: list[Row] = field(default_factory=list)
    callsets: dict[str, dict[str, dict[str, Value]]] = field(default_factory=dict)
    by_cause: Metrics = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content of metrics.json."""
        stored: dict[str, Any] = {
            "metrics": self.metrics,
            "counts": self.counts,
            "strata": self.strata,
            "comparison": self.comparison,
            "thresholds": self.thresholds,
            "calibration": self.calibration,
            "callsets": self.callsets,
        }
        return {**stored, "by_cause": self.by_cause} if self.by_cause else stored

    def text(self) -> str:
        """The tables as plain text, the most important first."""
        parts = [f"{format_table(self.metrics)}\n\n{_IMBALANCE}"]
        if self.comparison:
            parts.append(format_comparison(self.comparison))
        for name, summary in self.callsets.items():
            title = f"{name}\n" if len(self.callsets) > 1 else ""
            parts.append(title + format_composition(summary) + _of_truth(summary))
        if self.strata:
            parts.append(format_strata(self.strata))
        if self.by_cause:
            parts.append(format_causes(self.by_cause))
        return "\n\n".join(parts)

    def write(self, folder: Location) -> None:
        """Writes metrics.txt, strata.tsv, thresholds.tsv, calibration.tsv and, last, metrics.json."""
        write_text(folder / "metrics.txt", self.text() + "\n")
        write_text(folder / "strata.tsv", strata_tsv(self.strata))
        write_text(folder / "thresholds.tsv", rows_as_tsv(self.thresholds, THRESHOLD_COLUMNS))
        write_text(folder / "calibration.tsv", rows_as_tsv(self.calibration, CALIBRATION_COLUMNS))
        write_json(folder / "metrics.json", self.to_dict())


def callset_summary(counts: Mapping[str, int], of_records: Mapping[str, int]) -> dict[str, dict[str, Value]]:
    """What a callset is made of before and after FILTER, and how much of the truth it holds, if that was counted.

    Args:
        counts: Labels by reason.
        of_records: What :func:`cnnspark.evaluation.callset_composition.composition` counted.
    """
    summary = composition_summary(of_records)
    if total := counts.get(TRUTH):
        found = counts.get(TRUTH_FOUND, 0)
        summary["truth"] = {"alleles": total, "found": found, "share": found / total}
    return summary


def _of_truth(summary: Mapping[str, Mapping[str, Value]]) -> str:
    of_truth = summary.get("truth")
    if not of_truth:
        return ""
    return (
        f"\nof the truth's {of_truth['alleles']:,} alleles in the confident regions the callset holds "
        f"{of_truth['found']:,} ({of_truth['share']:.1%}); recall is of those"
    )


def measure(
    alleles: AlleleScores,
    counts: Mapping[str, int],
    dimensions: Sequence[Dimension],
    pairs: Sequence[tuple[str, str]] = (),
    callsets: Mapping[str, dict[str, dict[str, Value]]] | None = None,
    with_causes: bool = False,
) -> Measurements:
    """All figures of the alleles whose label is known.

    Args:
        alleles: Scores that are log odds are known by their names.
        counts: Labels by reason, and records.
        dimensions: Those of ``alleles.strata``.
        pairs: Names of scores to compare, (first, second).
        callsets: By name, what :func:`callset_summary` says of each.
        with_causes: Whether to measure each mechanism in ``alleles.cause``.
    """
    names = list(alleles.scores)
    log_odds = [name for name in names if is_log_odds(name)]
    return Measurements(
        metrics=evaluate_scores(alleles, baseline="QUAL" if "QUAL" in names else None, log_odds=log_odds),
        counts=dict(sorted(counts.items())),
        strata=stratified_metrics(alleles, dimensions),
        comparison=compare(alleles, pairs) if pairs else {},
        thresholds=thresholds_table(alleles, log_odds),
        calibration=calibration_table(alleles, log_odds),
        callsets=dict(callsets or {}),
        by_cause=metrics_by_cause(alleles) if with_causes else {},
    )


def check_scores(alleles: AlleleScores, wanted: Sequence[str], callset: str) -> None:
    """Checks that there is something to measure; warns if no allele has a score that was not asked for.

    Args:
        alleles: Those of known label.
        wanted: The scores that were asked for, with or without their callset's name.
        callset: What messages call the callset.

    Raises:
        InputError: If there are no true or no false alleles, or none has a score that was asked for.
    """
    n_true = int((alleles.label == TRUE_VARIANT).sum())
    if not 0 < n_true < len(alleles):
        lacking = "labelled" if not len(alleles) else "true" if not n_true else "false"
        raise InputError(f"{callset} has no {lacking} allele left; check --min-qual and --sample")
    for name, values in alleles.scores.items():
        if not np.isnan(values).all():
            continue
        if name in wanted or name.rpartition(":")[2] in wanted:
            raise InputError(f"no labelled allele of {callset} has a {name}; name a score that its records carry")
        progress(f"warning: no labelled allele has a {name}; its figures are those of a score that knows nothing")


def warn_of_empty(measured: Measurements, files: Sequence[RegionFile]) -> None:
    """Warns of region files that hold no labelled allele."""
    for file in files:
        if "inside" not in measured.strata[file.dimension.name]:
            progress(f"warning: no labelled allele lies inside {file.path} (--stratify {file.name})")
