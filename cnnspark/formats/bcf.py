"""BCF from a merged VCF, and a VCF from BCF: htslib converts them, and what it would invent or lose is an error."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pysam
import pysam.bcftools
from pysam.utils import SamtoolsError

from cnnspark.errors import InputError, RunError
from cnnspark.formats.bgzf import open_bgzf
from cnnspark.formats.vcf import ENCODING, VcfHeader

SUFFIX = ".bcf"
# The bcftools within pysam has global state (its options, its streams), and a driver merges callsets in threads.
_ONE_AT_A_TIME = threading.Lock()
_REMEDY = "declare it with 'bcftools annotate --header-lines', or write .vcf.gz (--output-type z)"


def require_contigs(header: VcfHeader, contigs: Iterable[str]) -> None:
    """Checks, before the work, that the header declares every contig that has records.

    Raises:
        InputError: if it lacks one of ``contigs``.
    """
    missing = [contig for contig in contigs if contig not in header.contig_lengths]
    if missing:
        raise InputError(
            f"the callset's header does not declare contig '{missing[0]}', which BCF needs; "
            "add it with 'bcftools reheader --fai', or write .vcf.gz (--output-type z)"
        )


def vcf_of_bcf(bcf: str, target: Path) -> None:
    """Writes a BCF's records as bgzipped VCF, as bcftools does: pysam's own records invent an END.

    Raises:
        OSError: if the BCF cannot be read or the VCF cannot be written.
    """
    with _ONE_AT_A_TIME:
        verbosity = pysam.set_verbosity(0)
        try:
            pysam.bcftools.view("--no-version", "--output-type", "z", "--output", str(target), bcf, catch_stdout=False)
        except SamtoolsError as error:
            said = [line for line in str(error).splitlines() if line and not line.startswith("[")]
            raise OSError(said[-1].strip(" \"'") if said else "bcftools cannot read it") from None
        finally:
            pysam.set_verbosity(verbosity)


def write_bcf(vcf: Path, target: Path, records: int) -> None:
    """Writes a VCF as BCF, with its index ``target.csi``; floats become the 32 bits that BCF has.

    Args:
        vcf: a bgzipped VCF without an index beside it (htslib would take undeclared contigs from the index).
        target: the BCF to write.
        records: how many records ``vcf`` holds.

    Raises:
        RunError: if the header does not declare a field that a record has, the BCF cannot be written, or the BCF does
            not hold ``records`` records.
    """
    with _ONE_AT_A_TIME:
        _convert(vcf, target, records)


def _convert(vcf: Path, target: Path, records: int) -> None:
    verbosity = pysam.set_verbosity(0)  # htslib prints a line for each record; one sentence below says it
    try:
        pysam.bcftools.view(
            "--no-version", "--output-type", "b", "--write-index=csi", "--output", str(target), str(vcf),
            catch_stdout=False,
        )  # fmt: skip
        written = int(str(pysam.bcftools.index("--nrecords", str(target))))
    except SamtoolsError as error:
        undeclared = first_undeclared(vcf)
        if undeclared:
            raise RunError(f"BCF cannot be written: the header does not declare {undeclared}; {_REMEDY}") from None
        said = str(error).strip().splitlines()[-1]
        raise RunError(f"BCF cannot be written ({said}); free disk space, or write .vcf.gz instead") from None
    finally:
        pysam.set_verbosity(verbosity)
    if written != records:
        raise RunError(f"{records} records went into the BCF and {written} are in it; write .vcf.gz instead")


def first_undeclared(vcf: Path) -> str:
    """The first contig, FILTER, INFO or FORMAT of a record that the header does not declare, and where it is.

    Returns:
        Text for a message, as ``INFO/X (first at chr1:100)``; empty if all are declared.
    """
    header_lines: list[str] = []
    header: VcfHeader | None = None
    with open_bgzf(vcf) as lines:
        for raw in lines:
            line = raw.decode(ENCODING)
            if line.startswith("#"):
                header_lines.append(line)
                continue
            header = header or VcfHeader(header_lines)
            columns = line.split("\t", 9)
            where = f"(first at {columns[0]}:{columns[1]})"
            if columns[0] not in header.contig_lengths:
                return f"contig {columns[0]} {where}"
            for name in columns[6].split(";"):
                if name not in ("PASS", ".") and name not in header.filters:
                    return f"FILTER/{name} {where}"
            for item in columns[7].split(";"):
                if item != "." and item.partition("=")[0] not in header.info:
                    return f"INFO/{item.partition('=')[0]} {where}"
            for name in columns[8].split(":") if len(columns) > 8 else ():
                if name != "." and name not in header.format:
                    return f"FORMAT/{name} {where}"
    return ""
