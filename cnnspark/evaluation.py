"""What evaluation collects of a callset: each labelled allele with its scores. The metrics are in cnnspark.metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cnnspark.alleles import unscorable_reason, variant_type
from cnnspark.annotations import AnnotationReader
from cnnspark.errors import UsageError
from cnnspark.filtering import SCORE_KEYS
from cnnspark.label_sources import AlleleName
from cnnspark.metrics import AlleleScores, Metrics, format_table, format_value, metric_pairs
from cnnspark.schema import FALSE_VARIANT, TRUE_VARIANT, UNKNOWN
from cnnspark.scoring import ALT_SCORES
from cnnspark.vcf import Record, VcfHeader


def score_names(header: VcfHeader, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The scores to compare: those asked for, else the callset's CNN score (if any) and QUAL.

    Raises UsageError where the callset does not declare one that was asked for.
    """
    if not wanted:
        return (*(key for key in SCORE_KEYS if key in header.info), "QUAL")
    for name in wanted:
        kind, _, key = name.rpartition("/")
        if name != "QUAL" and key not in (header.format if kind == "FORMAT" else header.info):
            raise UsageError(f"the callset declares no {name}; score it first, or name a score that it has")
    return tuple(wanted)


class ScoreReader:
    """Reads each allele's scores by name, ``CNN_2D`` and ``CNN_1D`` per ALT, and its cause where those are given."""

    def __init__(self, header: VcfHeader, names: Sequence[str], causes: Mapping[AlleleName, str] | None = None):
        self.names = tuple(names)
        self._causes = causes or {}
        per_alt = ALT_SCORES in header.info
        sources = [ALT_SCORES if name in SCORE_KEYS and per_alt else name for name in names]
        self._values = AnnotationReader(header, sources)

    def collect(
        self, records: Sequence[Record], labels: Sequence[Sequence[int]], min_qual: float | None = None
    ) -> AlleleScores:
        """The alleles of known label, with a NaN where a score is missing; records below ``min_qual`` are left out."""
        rows = []
        for record, known in zip(records, labels, strict=True):
            if min_qual is not None and not _qual(record) >= min_qual:
                continue
            for number, (alt, label) in enumerate(zip(record.alts, known, strict=True), 1):
                if label == UNKNOWN or unscorable_reason(record.ref, alt) is not None:
                    continue
                kind = int(variant_type(record.ref, alt))
                cause = self._causes.get((record.contig, record.start, record.ref, alt), "")
                rows.append((record.contig, record.start, kind, label, self._values.values(record, number), cause))
        values = np.array([row[4] for row in rows], np.float64).reshape(len(rows), len(self.names))
        return AlleleScores(
            contig=np.array([row[0] for row in rows], dtype=np.str_),
            start=np.array([row[1] for row in rows], np.int64),
            variant_type=np.array([row[2] for row in rows], np.int8),
            label=np.array([row[3] for row in rows], np.int8),
            scores={name: values[:, i] for i, name in enumerate(self.names)},
            cause=np.array([row[5] for row in rows], dtype=np.str_),
        )


def _qual(record: Record) -> float:
    try:
        return float(record.qual)
    except ValueError:
        return float("nan")


# What is reported of each mechanism: heading -> metric.
_CAUSE_COLUMNS = {"AUPRC": "auprc", "AUROC": "auroc", "R@P99%": "recall_at_precision_0.99"}
_NO_CAUSE = "not in the table"


def metrics_by_cause(alleles: AlleleScores) -> Metrics:
    """AUPRC, AUROC, recall at precision .99 and numbers by mechanism and score.

    Each mechanism has its false alleles against all true ones, so prevalence differs: compare scores within a
    mechanism, not mechanisms by AUPRC.
    """
    known = alleles.labelled()
    is_true, is_false = known.label == TRUE_VARIANT, known.label == FALSE_VARIANT
    metrics: Metrics = {}
    for cause in np.unique(known.cause[is_false]):
        part = known.select(is_true | (is_false & (known.cause == cause)))
        by_score = metrics.setdefault(str(cause) or _NO_CAUSE, {})
        for name, scores in part.scores.items():
            values = dict(metric_pairs(part.label, scores))
            wanted = ("n_true", "n_false", "prevalence", *_CAUSE_COLUMNS.values())
            by_score[name] = {metric: values[metric] for metric in wanted}
    return metrics


def format_causes(metrics: Metrics) -> str:
    """The metrics by mechanism as a plain-text table."""
    return "False alleles by mechanism, each against all true alleles\n" + format_table(metrics, _CAUSE_COLUMNS)


def cause_facts(metrics: Metrics) -> dict[str, str]:
    """The metrics by mechanism for the report: one line for each mechanism and score."""
    lines = {}
    for cause, by_score in metrics.items():
        for name, values in by_score.items():
            shown = ", ".join(f"{heading} {format_value(values[m])}" for heading, m in _CAUSE_COLUMNS.items())
            lines[f"{cause}, {name}"] = f"{shown} ({format_value(values['n_false'])} false)"
    return lines


def callset_counts(records: Sequence[Record]) -> Counter[str]:
    """Records before and after the filter, for the summary."""
    counts: Counter[str] = Counter()
    for record in records:
        counts["records"] += 1
        counts["records passing FILTER"] += record.filter in ("PASS", ".", "")
    return counts
