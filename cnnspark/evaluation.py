"""What evaluation collects of a callset: each labelled allele with its scores. The metrics are in cnnspark.metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cnnspark.alleles import unscorable_reason, variant_type
from cnnspark.annotations import AnnotationReader
from cnnspark.errors import UsageError
from cnnspark.filtering import SCORE_KEYS
from cnnspark.metrics import AlleleScores
from cnnspark.schema import UNKNOWN
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
    """Reads each allele's scores by name. ``CNN_2D`` and ``CNN_1D`` are read per ALT."""

    def __init__(self, header: VcfHeader, names: Sequence[str]):
        self.names = tuple(names)
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
                rows.append((record.contig, record.start, kind, label, self._values.values(record, number)))
        values = np.array([row[4] for row in rows], np.float64).reshape(len(rows), len(self.names))
        return AlleleScores(
            contig=np.array([row[0] for row in rows], dtype=np.str_),
            start=np.array([row[1] for row in rows], np.int64),
            variant_type=np.array([row[2] for row in rows], np.int8),
            label=np.array([row[3] for row in rows], np.int8),
            scores={name: values[:, i] for i, name in enumerate(self.names)},
        )


def _qual(record: Record) -> float:
    try:
        return float(record.qual)
    except ValueError:
        return float("nan")


def callset_counts(records: Sequence[Record]) -> Counter[str]:
    """Records before and after the filter, for the summary."""
    counts: Counter[str] = Counter()
    for record in records:
        counts["records"] += 1
        counts["records passing FILTER"] += record.filter in ("PASS", ".", "")
    return counts
