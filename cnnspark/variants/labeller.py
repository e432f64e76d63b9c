"""Labels of a callset's records, from a truth callset with its confident regions or from a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cnnspark.common.stopwatch import part
from cnnspark.common.storage import file_identity
from cnnspark.errors import UsageError
from cnnspark.formats import callset
from cnnspark.formats.contigs import check_lengths, require_shared_contig
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.variants.label_tables import AlleleName, labels_from_table, read_labels
from cnnspark.variants.truth import DEFAULT_SETTINGS, TruthSource, label_block


def required(path: str | None, flag: str) -> str:
    if not path:
        raise UsageError(f"{flag} is missing; give the path")
    return path


@dataclass(frozen=True)
class TruthPaths:
    """Where labels come from: a truth VCF and its confident BED, or a table of labelled alleles."""

    truth: str | None = None
    bed: str | None = None
    labels: str | None = None

    @staticmethod
    def of(truth: str | None, bed: str | None, labels: str | None) -> TruthPaths | None:
        """The label source of a run, or None if none is given.

        Raises:
            UsageError: a truth without its BED, a BED without its truth, or a table beside a truth.
        """
        if labels and (truth or bed):
            raise UsageError("give either --labels or --truth with --bed")
        if bool(truth) != bool(bed):
            raise UsageError("--truth needs --bed, the regions where the truth is complete, and --bed needs --truth")
        return TruthPaths(truth, bed, labels) if truth or labels else None

    def check(self, reference: str | None) -> list[str]:
        """Opens the files, so that a broken truth is said before Spark starts to work; returns their paths.

        Raises InputError also where the truth is of another build than the reference.
        """
        names = ((self.truth, "truth"), (self.bed, "confident BED"), (self.labels, "label table"))
        for path, what in names:
            if path:
                callset.require_file(path, what)
        if self.labels is None:
            with TruthSource(str(self.truth), str(self.bed)) as truth:
                callset.require_file(required(reference, "--reference"), "reference")
                genome = ReferenceSource(str(reference))
                check_lengths(truth.path, truth.header.contig_lengths, genome.path, genome.lengths)
                require_shared_contig(truth.bed_path, truth.contigs, genome.path, genome.lengths)
                genome.close()
        return [path for path, _ in names if path]


@lru_cache(maxsize=1)
def _table(path: str, identity: str) -> Mapping[AlleleName, int]:
    """The labels, read once in a Python worker as long as the file is the same one."""
    return read_labels(path)


@lru_cache(maxsize=1)
def _truth(truth: str, bed: str) -> TruthSource:
    """The truth and its regions, opened once in a Python worker."""
    return TruthSource(truth, bed)


class Labeller(Protocol):
    """Labels the records of one region after another. Make it inside the task."""

    def labels(self, records: Sequence[Record], region: Region) -> tuple[list[list[int]], Counter]:
        """One label per ALT of each record (TRUE_VARIANT, FALSE_VARIANT or UNKNOWN), and counts by reason."""


class TableLabeller:
    """Labels from a table of alleles."""

    def __init__(self, path: str):
        self._table = _table(path, json.dumps(file_identity(path), sort_keys=True))

    @part("label")
    def labels(self, records: Sequence[Record], region: Region) -> tuple[list[list[int]], Counter]:
        return labels_from_table(records, self._table)


class TruthLabeller:
    """Labels by comparing haplotypes with a truth callset inside its confident regions."""

    def __init__(self, truth: str, bed: str, vcf: VcfSource, reference: str | None):
        self._vcf = vcf
        self._truth = _truth(truth, bed)
        self._reference = ReferenceSource(required(reference, "--reference"))

    @part("label")
    def labels(self, records: Sequence[Record], region: Region) -> tuple[list[list[int]], Counter]:
        # Haplotypes of the region's last records reach beyond its end.
        around = list(self._vcf.records(region.padded(DEFAULT_SETTINGS.margin_bases)))
        return label_block(around, region, self._truth, self._reference)


def open_labeller(source: TruthPaths, vcf: VcfSource, reference: str | None) -> Labeller:
    """The labeller of a run's label source.

    Args:
        source: a truth with its BED, or a table.
        vcf: the callset; a truth is compared with the records around a region, too.
        reference: the FASTA's path; a table needs none.

    Raises:
        UsageError: a truth without a reference.
        InputError: a file that cannot be read.
    """
    if source.labels:
        return TableLabeller(source.labels)
    return TruthLabeller(str(source.truth), str(source.bed), vcf, reference)
