"""Depth and allele fraction of an allele in one sample, from the fields that the sample's caller writes."""

from __future__ import annotations

import math

from cnnspark.formats.vcf import Record, VcfHeader


class SampleCounts:
    """Reads the depth at a site, and the share of the reads that carry an ALT.

    The counts of reads by allele are FORMAT/AD (GATK, bcftools, DeepVariant), else FORMAT/RO and AO (freebayes); the
    depth is FORMAT/DP, else the sum of the counts. If FORMAT lacks them and the callset has at most one sample, INFO's
    AD, RO and AO, and DP are taken; with several samples, INFO counts the reads of all.
    """

    def __init__(self, header: VcfHeader, sample: int | None = 0):
        """``sample`` is the number of its column, from 0; None if the callset has several and none was chosen."""
        self._sample = sample if header.samples else None
        self._info_is_of_it = len(header.samples) <= 1

    def of(self, record: Record, alt_index: int) -> tuple[float, float]:
        """Depth and allele fraction of the ALT with this number (from 1); NaN if the record does not say."""
        column = record.format_values(self._sample) if self._sample is not None else {}
        counts = _counts(column.get("AD"), column.get("RO"), column.get("AO"))
        depth = _numbers(column.get("DP"))
        if self._info_is_of_it:
            counts = counts or _counts(*(record.info_value(key) for key in ("AD", "RO", "AO")))
            depth = depth or _numbers(record.info_value("DP"))
        total = sum(counts)
        reads = depth[0] if depth else total if counts else math.nan
        carried = counts[alt_index] / total if alt_index < len(counts) and total > 0 else math.nan
        return reads, carried


def _counts(ad: str | None, ro: str | None, ao: str | None) -> list[float]:
    """Reads of REF and of each ALT; empty if they are not known."""
    counts = _numbers(ad)
    if len(counts) > 1:
        return counts
    ref, alts = _numbers(ro), _numbers(ao)
    return [ref[0], *alts] if ref and alts else []


def _numbers(text: str | None) -> list[float]:
    """The comma-separated numbers; empty if one is missing, negative or not finite."""
    try:
        values = [float(item) for item in (text or "").split(",")]
    except ValueError:
        return []
    return values if all(math.isfinite(value) and value >= 0 for value in values) else []
