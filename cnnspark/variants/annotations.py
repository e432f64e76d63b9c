"""Reads the annotation vector of an allele: numbers from QUAL, INFO and FORMAT."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.errors import UsageError
from cnnspark.formats.vcf import FieldDeclaration, Record, VcfHeader, number_or_nan

# Annotations that are known to depend on an allele's quality, by caller, in the order in which they are used. Genotypes
# and counts over a cohort (GT, AC, AF, AN) are left out: they depend on which other samples were called.
KNOWN: tuple[str, ...] = (
    "QUAL",
    # GATK
    *("INFO/DP", "INFO/MQ", "INFO/FS", "INFO/SOR", "INFO/QD"),
    *("INFO/MQRankSum", "INFO/ReadPosRankSum", "INFO/BaseQRankSum"),
    # freebayes
    *("INFO/AB", "INFO/ABP", "INFO/AO", "INFO/RO", "INFO/QA", "INFO/QR"),
    *("INFO/SAF", "INFO/SAR", "INFO/SRF", "INFO/SRR", "INFO/SAP", "INFO/SRP"),
    *("INFO/EPP", "INFO/EPPR", "INFO/RPP", "INFO/RPPR", "INFO/RPL", "INFO/RPR"),
    *("INFO/MQM", "INFO/MQMR", "INFO/ODDS", "INFO/PAIRED", "INFO/PAIREDR"),
    *("INFO/RUN", "INFO/LEN", "INFO/NUMALT", "INFO/MEANALT"),
    # bcftools
    *("INFO/IDV", "INFO/IMF", "INFO/VDB", "INFO/SGB", "INFO/RPBZ", "INFO/MQBZ", "INFO/BQBZ"),
    *("INFO/MQSBZ", "INFO/NMBZ", "INFO/SCBZ", "INFO/MQ0F"),
    # of the sample
    *("FORMAT/GQ", "FORMAT/DP", "FORMAT/AD"),
)
# The annotations of GATK's published networks, in their order.
GATK_ANNOTATIONS = ("MQ", "DP", "SOR", "FS", "QD", "MQRankSum", "ReadPosRankSum")
_NUMERIC = ("Integer", "Float")
# In a callset of several samples, QUAL and INFO describe all of them together: INFO/DP of 5,000 samples is not a depth
# that a model knows. Instead, the sample's FORMAT field of the same meaning is read (VCF 4.3, tables 1 and 2, and those
# of freebayes). Annotations of the allele and the reference alone are read from INFO; all others are missing.
OF_THE_SAMPLE = ("DP", "AD", "ADF", "ADR", "MQ", "AO", "RO", "QA", "QR")
OF_THE_ALLELE = ("LEN", "RUN")
# How AD is read for a caller without AO and RO: "R" takes the allele's value, "1" the first, which is REF's.
_FROM_AD = {"AO": "R", "RO": "1"}
_BALANCE = "balance"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Source:
    column: str  # QUAL, INFO, FORMAT, or _BALANCE: INFO/AB from the sample's genotype and counts
    key: str
    number: str
    is_flag: bool


class AnnotationReader:
    """Reads the named annotations of an allele.

    A field of Number=1 gives its value, A and R the allele's value, G the value of the heterozygous genotype REF/ALT;
    another fixed number and ``.`` give the first value. A Flag is 1 or 0. A value is NaN if it is missing, not a finite
    number, or not in a list that is too short. An annotation that the header does not declare is NaN for all alleles,
    so that a callset of another caller can still be scored.

    Attributes:
        names: the annotations.
        without_field: those of them that are NaN for all alleles, because the header has no field for them.
    """

    def __init__(
        self, header: VcfHeader, names: Sequence[str], of_one_sample: bool = False, text_is_missing: bool = False
    ):
        """Finds the fields of the annotations.

        Args:
            header: the callset's header.
            names: ``QUAL``, ``INFO/X`` (or just ``X``) or ``FORMAT/X``.
            of_one_sample: whether to read those of one sample from a callset of several (:data:`OF_THE_SAMPLE`).
            text_is_missing: whether a field that is declared as text counts as not declared: a model's annotations
                are nothing that the user of the model chose.

        Raises:
            UsageError: if a name is not that of an annotation, is given twice, or (unless ``text_is_missing``) is
                declared as text.
        """
        self.names: tuple[str, ...] = tuple(names)
        self._samples = header.samples
        find = _source_of_sample if of_one_sample else _source
        self._sources = [find(header, name, text_is_missing) for name in self.names]
        self.without_field = tuple(
            name for name, source in zip(self.names, self._sources, strict=True) if source is None
        )
        self._needs_format = any(source and source.column in ("FORMAT", _BALANCE) for source in self._sources)
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise UsageError(f"annotation '{twice}' is named twice; leave one out")

    def sample_index(self, sample: str) -> int:
        """The number of the sample's column, from 0; 0 if no column has that name."""
        return self._samples.index(sample) if sample in self._samples else 0

    def values(self, record: Record, alt_index: int, sample_index: int = 0) -> np.ndarray:
        """The annotations of one ALT.

        Args:
            record: the record.
            alt_index: number of the ALT, from 1 as in a genotype.
            sample_index: number of the sample's column, from 0, for FORMAT.

        Returns:
            float32 (annotations,), in the order of the names.
        """
        info: dict[str, str | None] = {}
        for item in record.info.split(";"):
            key, separator, text = item.partition("=")
            info.setdefault(key, text if separator else None)
        sample = record.format_values(sample_index) if self._needs_format else {}
        values = [math.nan] * len(self.names)
        for i, source in enumerate(self._sources):
            if source is None:
                continue
            if source.column == "QUAL":
                values[i] = _finite(record.qual)
            elif source.is_flag:
                values[i] = float(source.key in info)
            elif source.column == _BALANCE:
                values[i] = _balance(sample, _of_allele(sample.get(source.key, ""), source.number, alt_index))
            else:
                found = info.get(source.key) if source.column == "INFO" else sample.get(source.key)
                if found is not None:
                    values[i] = _finite(_of_allele(found, source.number, alt_index))
        return np.array(values, np.float32)


def default_annotations(header: VcfHeader, of_one_sample: bool = False) -> tuple[str, ...]:
    """The known annotations that the header declares as numbers, in the order of :data:`KNOWN`.

    Args:
        header: the callset's header.
        of_one_sample: as for :class:`AnnotationReader`: only those that a callset of several samples has for each.
    """
    chosen = []
    for name in KNOWN:
        column, _, key = name.rpartition("/")
        if of_one_sample:
            if _source_of_sample(header, name, text_is_missing=False) is not None:
                chosen.append(name)
        elif name == "QUAL" or _is_number((header.format if column == "FORMAT" else header.info).get(key)):
            chosen.append(name)
    return tuple(chosen)


def _is_number(declaration: FieldDeclaration | None) -> bool:
    return declaration is not None and declaration.type in _NUMERIC


def declared_as_text(header: VcfHeader, name: str) -> str:
    """The type with which the header declares an annotation's field, if it is not one of numbers; else ""."""
    _, _, declaration = _declared(header, name)
    if declaration is None or _is_number(declaration) or _is_flag(name, declaration):
        return ""
    return declaration.type


def _declared(header: VcfHeader, name: str) -> tuple[str, str, FieldDeclaration | None]:
    """Column and key of an annotation, and what the header declares there."""
    column, _, key = name.rpartition("/")
    column = column or ("QUAL" if name == "QUAL" else "INFO")
    if column not in ("QUAL", "INFO", "FORMAT") or not key:
        raise UsageError(f"'{name}' is not an annotation; write QUAL, INFO/DP or FORMAT/GQ")
    fields = {"INFO": header.info, "FORMAT": header.format}.get(column, {})
    return column, key, fields.get(key)


def _is_flag(name: str, declaration: FieldDeclaration) -> bool:
    return declaration.type == "Flag" and not name.startswith("FORMAT/")


def _source(header: VcfHeader, name: str, text_is_missing: bool) -> _Source | None:
    """The field of an annotation; None if the header does not declare it."""
    column, key, declaration = _declared(header, name)
    if column == "QUAL":
        return _Source("QUAL", name, "1", False)
    if declaration is None:
        return None
    if _is_flag(name, declaration):
        return _Source(column, key, "0", True)
    if declaration.type not in _NUMERIC:
        if text_is_missing:
            return None
        raise UsageError(f"annotation '{name}' is declared as {declaration.type}; choose one that is a number")
    return _Source(column, key, declaration.number, False)


def _source_of_sample(header: VcfHeader, name: str, text_is_missing: bool) -> _Source | None:
    """The field of one sample's annotation in a callset of several; None if no field describes the sample alone."""
    declared = _source(
        header, name, text_is_missing
    )  # also refuses a name that is not an annotation, or is declared as text
    column, _, key = name.rpartition("/")
    if column == "FORMAT" or (key in OF_THE_ALLELE and declared is not None):
        return declared
    if name == "QUAL":
        return None
    if key in OF_THE_SAMPLE and _is_number(header.format.get(key)):
        return _Source("FORMAT", key, header.format[key].number, False)
    has_depths = _is_number(header.format.get("AD")) and header.format["AD"].number == "R"
    if key in _FROM_AD and has_depths:
        return _Source("FORMAT", "AD", _FROM_AD[key], False)
    if key == "AB" and _is_number(header.format.get("DP")):
        if _is_number(header.format.get("AO")):
            return _Source(_BALANCE, "AO", header.format["AO"].number, False)
        return _Source(_BALANCE, "AD", "R", False) if has_depths else None
    return None


def _balance(call: Mapping[str, str], alt_count: str) -> float:
    """AB of a sample as freebayes has it: the share of reads that show the ALT if heterozygous, else 0.

    NaN if the genotype is not called or only half of it is.
    """
    genotype = set(re.split(r"[/|]", call.get("GT", ".").lstrip("/|")))
    if "." in genotype:
        return math.nan
    if len(genotype) < 2:
        return 0.0
    depth = _finite(call.get("DP", ""))
    return _finite(alt_count) / depth if depth > 0 else math.nan


def _of_allele(text: str, number: str, alt_index: int) -> str:
    """The allele's value in a comma-separated list (VCF 4.3, section 1.4.2); empty if the list is too short."""
    if number == "A":
        at = alt_index - 1
    elif number == "R":
        at = alt_index
    elif number == "G":
        at = alt_index * (alt_index + 1) // 2  # genotype 0/k
    else:
        at = 0
    values = text.split(",")
    return values[at] if at < len(values) else ""


def _finite(text: str) -> float:
    """The number that the text is, or NaN; also NaN if a float32 cannot hold it."""
    value = number_or_nan(text)
    return value if abs(value) <= _LARGEST else math.nan
