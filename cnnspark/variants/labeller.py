"""Labels a callset's records, by a truth callset with its confident regions or by a table."""

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
    """``path``, which the user must have given.

    Raises:
        UsageError: if it is missing; ``flag`` is the option that names it.
    """
    if not path:
        raise UsageError(f"{flag} is missing; give the path")
    return path


@dataclass(frozen=True)
class TruthPaths:
    """The paths of a run's labels: a truth VCF and its confident BED, or a table (or annotated VCF) of labels."""

    truth: str | None = None
    bed: str | None = None
    labels: str | None = None

    @staticmethod
    def of(truth: str | None, bed: str | None, labels: str | None) -> TruthPaths | None:
        """The paths that the user gave, or None without labels.

        Raises:
            UsageError: if a truth is given without its BED or a BED without its truth, or a table beside them.
        """
        if labels and (truth or bed):
            raise UsageError("give either --labels or --truth with --bed")
        if bool(truth) != bool(bed):
            raise UsageError("--truth needs --bed, the regions where the truth is complete, and --bed needs --truth")
        return TruthPaths(truth, bed, labels) if truth or labels else None

    def check(self, reference: str | None) -> list[str]:
        """Opens the files, so that a damaged truth is found before the work begins.

        Args:
            reference: the FASTA's path; a table needs none.

        Returns:
            The paths of the files.

        Raises:
            UsageError: if there is a truth but no reference.
            InputError: if a file cannot be read, or the truth is of another genome build than the reference.
        """
        names = ((self.truth, "truth"), (self.bed, "confident BED"), (self.labels, "label table"))
        for path, what in names:
            if path:
                callset.require_file(path, what)
        if self.labels is None:
            callset.open_callset(str(self.truth)).close()  # says what is wrong with it or its index
            with TruthSource(str(self.truth), str(self.bed)) as truth:
                callset.require_file(required(reference, "--reference"), "reference")
                genome = ReferenceSource(str(reference))
                check_lengths(truth.path, truth.header.contig_lengths, genome.path, genome.lengths)
                require_shared_contig(truth.bed_path, truth.contigs, genome.path, genome.lengths)
                genome.close()
        return [path for path, _ in names if path]


@lru_cache(maxsize=1)
def _table(path: str, identity: str) -> Mapping[AlleleName, int]:
    """The labels of a table; a Python worker reads them once, and again if ``identity`` says that the file changed."""
    return read_labels(path)


@lru_cache(maxsize=1)
def _truth(truth: str, bed: str) -> TruthSource:
    """The truth and its regions; a Python worker opens them once."""
    return TruthSource(truth, bed)


class Labeller(Protocol):
    """Labels the records of one region after another. Make it inside the task."""

    def labels(self, records: Sequence[Record], region: Region) -> tuple[list[list[int]], Counter]:
        """Labels the records of a region.

        Args:
            records: all records that the region owns.
            region: the region.

        Returns:
            For each record a list with the label of each ALT (TRUE_VARIANT, FALSE_VARIANT or UNKNOWN), and counts by
            reason.

        Raises:
            InputError: if a file is damaged.
        """


class TableLabeller:
    """Labels by a table of alleles."""

    def __init__(self, path: str):
        """Reads the table.

        Raises:
            InputError: if it cannot be read.
        """
        self._table = _table(path, json.dumps(file_identity(path), sort_keys=True))

    @part("label")
    def labels(self, records: Sequence[Record], region: Region) -> tuple[list[list[int]], Counter]:
        """As :meth:`Labeller.labels`; alleles that the table lacks are UNKNOWN."""
        return labels_from_table(records, self._table)


class TruthLabeller:
    """Labels by comparing haplotypes with a truth callset inside its confident regions."""

    def __init__(self, truth: str, bed: str, vcf: VcfSource, reference: str | None):
        """Opens truth and reference; ``vcf`` is the callset that the records are from.

        Raises:
            UsageError: if there is no reference.
            InputError: if a file cannot be read.
        """
        self._vcf = vcf
        self._truth = _truth(truth, bed)
        self._reference = ReferenceSource(required(reference, "--reference"))

    @part("label")
    def labels(self, records: Sequence[Record], region: Region) -> tuple[list[list[int]], Counter]:
        """As :meth:`Labeller.labels`; the records are read again, with their neighbours outside of the region."""
        # Haplotypes of the region's last records reach beyond its end.
        around = list(self._vcf.records(region.padded(DEFAULT_SETTINGS.margin_bases)))
        return label_block(around, region, self._truth, self._reference)


def open_labeller(source: TruthPaths, vcf: VcfSource, reference: str | None) -> Labeller:
    """Opens the labeller of a run.

    Args:
        source: a truth with its BED, or a table.
        vcf: the callset; a truth is also compared with the records around a region.
        reference: the FASTA's path; a table needs none.

    Raises:
        UsageError: if there is a truth but no reference.
        InputError: if a file cannot be read.
    """
    if source.labels:
        return TableLabeller(source.labels)
    return TruthLabeller(str(source.truth), str(source.bed), vcf, reference)
