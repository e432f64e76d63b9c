"""Reads the scores of labelled alleles from a callset's records, and measures false alleles by their mechanism."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cnnspark.common.text_tables import format_value
from cnnspark.errors import InputError, UsageError
from cnnspark.evaluation.callset_composition import passes
from cnnspark.evaluation.metrics import AlleleScores, Metrics, format_table, metric_pairs
from cnnspark.evaluation.strata import StratumReader
from cnnspark.formats.vcf import FieldDeclaration, Record, VcfHeader
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT, UNKNOWN, unscorable_reason, variant_type
from cnnspark.variants.annotations import AnnotationReader
from cnnspark.variants.carriers import carried_alts
from cnnspark.variants.label_tables import AlleleName
from cnnspark.variants.score_fields import ALT_SCORES, FORMAT_KEY, SAMPLE_SCORE, SCORE_KEYS

# A record, the number of one of its ALTs (from 1), and that ALT's label.
LabelledAlt = tuple[Record, int, int]
_NUMBERS = ("Integer", "Float")


def score_names(header: VcfHeader, wanted: Sequence[str] = (), of_a_sample: bool = False) -> tuple[str, ...]:
    """The scores to measure: those asked for, else the callset's CNN score (if any) and QUAL.

    Args:
        header: The callset's.
        wanted: ``QUAL``, ``KEY`` or ``INFO/KEY`` or ``FORMAT/KEY``.
        of_a_sample: Whether one sample of several is measured; its own score is in FORMAT.

    Raises:
        UsageError: If the callset does not declare a score that was asked for, or declares it as text.
    """
    if not wanted:
        if of_a_sample and FORMAT_KEY in header.format:
            return SAMPLE_SCORE, "QUAL"
        return (*(key for key in SCORE_KEYS if key in header.info), "QUAL")
    for name in wanted:
        declared = declaration(header, name)
        if name != "QUAL" and declared is None:
            raise UsageError(f"the callset declares no {name}; score it first, or name a score that it has")
        if declared is not None and declared.type not in _NUMBERS:
            raise UsageError(f"{name} is declared as {declared.type}, not as a number; name another score")
    return tuple(dict.fromkeys(wanted))


def declaration(header: VcfHeader, name: str) -> FieldDeclaration | None:
    """The header's declaration of ``KEY`` or ``INFO/KEY`` or ``FORMAT/KEY``; None for QUAL and for a missing key."""
    kind, _, key = name.rpartition("/")
    return (header.format if kind == "FORMAT" else header.info).get(key)


def sample_column(header: VcfHeader, path: str, wanted: str | None, needed: bool) -> int | None:
    """The number of the sample's column to measure.

    Args:
        header: The callset's.
        path: What messages call the callset.
        wanted: The sample's name, if the user gave one.
        needed: Whether one of several must be named: a truth is of one sample, and an ALT that only others carry would
            count as false.

    Returns:
        The number, or None if the callset has no sample, or several and ``wanted`` is not given.

    Raises:
        InputError: If the callset does not have the wanted sample.
        UsageError: If a sample must be named and is not.
    """
    if wanted is not None:
        if wanted not in header.samples:
            there = ", ".join(f"'{name}'" for name in header.samples[:3]) or "none"
            raise InputError(f"{path} has no sample '{wanted}' (it has {there}); check --sample")
        return header.samples.index(wanted)
    if len(header.samples) > 1 and needed:
        first, second = header.samples[:2]
        raise UsageError(
            f"{path} has {len(header.samples)} samples ('{first}', '{second}', ...) and a truth is of one; "
            "name it with --sample"
        )
    return 0 if len(header.samples) == 1 else None


class ScoreReader:
    """Reads each allele's scores by name (``CNN_2D`` and ``CNN_1D`` per ALT), its strata and its cause."""

    def __init__(
        self,
        header: VcfHeader,
        names: Sequence[str],
        causes: Mapping[AlleleName, str] | None = None,
        strata: StratumReader | None = None,
        sample: int | None = None,
    ):
        """Prepares to read records.

        Args:
            header: The callset's.
            names: The scores to read (:func:`score_names`).
            causes: By allele, the mechanism that made it; None leaves causes empty.
            strata: Gives each allele its strata; None leaves them out.
            sample: The number of the sample's column; with several samples, only ALTs that it carries count.
        """
        self.names = tuple(names)
        self._causes = causes or {}
        self._strata = strata
        self._sample = sample or 0
        self._carried_alone = sample is not None and len(header.samples) > 1
        # Scores per ALT have one key, whichever network wrote them last.
        per_alt = ALT_SCORES in header.info and sum(key in header.info for key in SCORE_KEYS) == 1
        sources = [ALT_SCORES if name in SCORE_KEYS and per_alt else name for name in names]
        self._values = AnnotationReader(header, sources)

    def chosen(
        self, records: Sequence[Record], labels: Sequence[Sequence[int]], min_qual: float | None = None
    ) -> list[LabelledAlt]:
        """The ALTs of known label that can be scored.

        Args:
            records: Part of a callset.
            labels: For each record, the label of each of its ALTs: 1 true, 0 false, -1 unknown.
            min_qual: Records with a lower QUAL, or without one, are left out.
        """
        found = []
        for record, known in zip(records, labels, strict=True):
            if min_qual is not None and not record.qual_value >= min_qual:
                continue
            carried = carried_alts(record, (self._sample,))[0] if self._carried_alone else None
            for number, (alt, label) in enumerate(zip(record.alts, known, strict=True), 1):
                if label == UNKNOWN or unscorable_reason(record.ref, alt) is not None:
                    continue
                if carried is None or number in carried:
                    found.append((record, number, label))
        return found

    def table(self, alts: Sequence[LabelledAlt]) -> AlleleScores:
        """Scores, strata and causes of these ALTs; a missing score is NaN."""
        values = np.array(
            [self._values.values(record, number, self._sample) for record, number, _ in alts], np.float64
        ).reshape(len(alts), len(self.names))
        dimensions = self._strata.dimensions if self._strata else ()
        codes = [self._strata.codes(record, number) for record, number, _ in alts] if self._strata else []
        kinds = [variant_type(record.ref, record.alts[number - 1]) for record, number, _ in alts]
        causes = [
            self._causes.get((record.contig, record.start, record.ref, record.alts[number - 1]), "")
            for record, number, _ in alts
        ]
        return AlleleScores(
            contig=np.array([record.contig for record, _, _ in alts], dtype=np.str_),
            start=np.array([record.start for record, _, _ in alts], np.int64),
            variant_type=np.array(kinds, np.int8),
            label=np.array([label for _, _, label in alts], np.int8),
            scores={name: values[:, i] for i, name in enumerate(self.names)},
            cause=np.array(causes, dtype=np.str_),
            strata={d.name: np.array([code[d.name] for code in codes], np.int8) for d in dimensions},
        )

    def collect(
        self, records: Sequence[Record], labels: Sequence[Sequence[int]], min_qual: float | None = None
    ) -> AlleleScores:
        """The table of the ALTs that :meth:`chosen` finds."""
        return self.table(self.chosen(records, labels, min_qual))


# The figures of each mechanism: heading -> metric.
_CAUSE_COLUMNS = {"AUPRC": "auprc", "AUROC": "auroc", "R@P99%": "recall_at_precision_0.99"}
_NO_CAUSE = "not in the table"


def metrics_by_cause(alleles: AlleleScores) -> Metrics:
    """Counts, AUPRC, AUROC and recall at precision .99 by mechanism and score.

    Each mechanism's false alleles are measured against all true ones, so prevalence differs: compare scores within a
    mechanism, not mechanisms by AUPRC.

    Returns:
        mechanism -> score -> metric -> value.
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
    """The metrics by mechanism for the report: one text for each mechanism and score."""
    lines = {}
    for cause, by_score in metrics.items():
        for name, values in by_score.items():
            shown = ", ".join(f"{heading} {format_value(values[m])}" for heading, m in _CAUSE_COLUMNS.items())
            lines[f"{cause}, {name}"] = f"{shown} ({format_value(values['n_false'])} false)"
    return lines


def record_counts(records: Sequence[Record]) -> Counter[str]:
    """How many records there are, and how many pass FILTER, for the summary."""
    counts: Counter[str] = Counter()
    for record in records:
        counts["records"] += 1
        counts["records passing FILTER"] += passes(record)
    return counts
