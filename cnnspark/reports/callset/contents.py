"""What a report shows, as one value with a name for each part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnspark.evaluation.callset_counts import CallsetCounts
from cnnspark.evaluation.curves import Curves
from cnnspark.evaluation.metrics import GROUPS, Metrics
from cnnspark.evaluation.metrics_by_stratum import StrataMetrics
from cnnspark.evaluation.strata import TYPE, dimensions
from cnnspark.reports.callset.run_facts import RunFacts

# The score that the others are compared with.
BASELINE = "QUAL"


@dataclass(frozen=True)
class ReportContents:
    """The parts of a report. A part that is empty or None has no section on the page.

    Attributes:
        title: The page's heading.
        metrics: group -> score -> metric -> value (:func:`cnnspark.evaluation.metrics.evaluate_scores`); empty without
            a truth.
        curves: Of the same alleles (:func:`cnnspark.evaluation.curves.draw_curves`); None without a truth.
        history: A row per epoch of the model's training: ``epoch``, ``loss``, ``val_loss``, ``val_auprc``, ...
        facts: Name -> value, for the tables at the end. Each value that is a mapping gets its own table, with its name
            as heading; the others share one.
        counts: The counts of all records of the callset, labelled or not.
        strata: dimension -> stratum -> score -> metric -> value
            (:func:`cnnspark.evaluation.metrics_by_stratum.stratified_metrics`).
        comparison: group -> pair of scores -> metric -> value
            (:func:`cnnspark.evaluation.metrics_by_stratum.compare`).
        callsets: callset -> before or after FILTER -> count or ratio
            (:func:`cnnspark.evaluation.callset_composition.composition_summary`).
        run: What is known of the run that made the scores.
        inputs: The paths for the ``cnnspark explain`` commands on the page: ``vcf``, ``reads``, ``reference`` and
            ``sample``, as far as they are known. Empty: the page has no such commands.
    """

    title: str
    metrics: Metrics = field(default_factory=dict)
    curves: Curves | None = None
    history: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    counts: CallsetCounts | None = None
    strata: StrataMetrics = field(default_factory=dict)
    comparison: Metrics = field(default_factory=dict)
    callsets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    run: RunFacts = field(default_factory=RunFacts)
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> str | None:
        """The score that the summary is about: the first that is not the baseline; None if nothing was measured."""
        names = [name for by_score in self.metrics.values() for name in by_score]
        return next((name for name in names if name != BASELINE), names[0] if names else None)

    @property
    def has_truth(self) -> bool:
        """Whether something was compared with a truth."""
        return self.curves is not None or bool(self.metrics)

    def ordered(self) -> ReportContents:
        """The same with groups, dimensions and strata in the order that readers expect.

        JSON files have their keys sorted; readers expect SNP before INDEL, and small before large.
        """
        return dataclasses.replace(
            self,
            metrics=_ordered(self.metrics, GROUPS),
            comparison=_ordered(self.comparison, GROUPS),
            strata=ordered_strata(self.strata),
        )


def ordered_strata(strata: StrataMetrics) -> StrataMetrics:
    """Dimensions and their strata in the order of :mod:`cnnspark.evaluation.strata`, regions last."""
    known = [TYPE, *dimensions(with_reference=True)]
    orders = {dimension.name: dimension.strata for dimension in known}
    found = _ordered(strata, list(orders))
    return {name: _ordered(by_stratum, orders.get(name, ())) for name, by_stratum in found.items()}


def _ordered(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The values of these names first, in their order; the others behind them, as they are."""
    return {name: values[name] for name in (*names, *values) if name in values}
