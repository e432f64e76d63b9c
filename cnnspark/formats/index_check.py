"""Whether an index belongs to its file as it is now: an old one hides records, and htslib reads on without a word.

The index of a VCF or BAM says where each contig's records begin and where the last record ends. There must be a record
of the contig at the one, and no placed record behind the other. The ``.crai`` of a CRAM must name the last container.
That is a few reads, whatever the size of the file. A change in the middle that leaves every offset is not seen.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from cnnspark.common.storage import scheme_of
from cnnspark.errors import InputError
from cnnspark.formats.bgzf import BgzfReader
from cnnspark.formats.binning_index import IndexedContig, last_container, read_binning_index
from cnnspark.formats.cram_containers import DEFINITION_BYTES, container_head
from cnnspark.formats.htslib import open_input

# Contigs whose first record is looked at, spread over those that have records.
_LOOKED_AT = 32
# More than the header of a container takes.
_CONTAINER_HEAD_BYTES = 1 << 16


class _MismatchError(ValueError):
    """Says how an index and its file differ."""


def require_vcf_index(path: str, index: str) -> int | None:
    """Checks that a ``.tbi`` or ``.csi`` belongs to a bgzipped VCF.

    Args:
        path: the VCF, a path or a URL.
        index: its index, a local file.

    Returns:
        The number of records by the index, None if it does not say.

    Raises:
        InputError: the index cannot be read, or is that of another file; the message has the command for a new one.
    """
    names, contigs = read_binning_index(index, path)
    if scheme_of(path) == "ftp":
        return None  # htslib cannot seek to its end
    try:
        with open_input(path) as file:
            _check_vcf(BgzfReader(file), names, contigs)
    except (OSError, ValueError) as error:
        raise InputError(_text(index, path, error, f"tabix -f -p vcf {path}")) from None
    counts = [contig.records for contig in contigs if contig.end >= 0]
    return None if None in counts else sum(count for count in counts if count is not None)


def require_read_index(path: str, index: str, is_cram: bool) -> None:
    """Checks that a ``.bai``, ``.csi`` or ``.crai`` belongs to its BAM or CRAM; otherwise as :func:`require_vcf_index`.

    Args:
        path: the reads, a path or a URL.
        index: their index, a local file.
        is_cram: whether they are CRAM.
    """
    if scheme_of(path) == "ftp":
        return  # htslib cannot seek to its end
    contigs, last = ([], last_container(index)) if is_cram else (read_binning_index(index, path)[1], -1)
    try:
        with open_input(path) as file:
            if is_cram:
                _check_cram(file, last)
            else:
                _check_bam(BgzfReader(file), contigs)
    except (OSError, ValueError) as error:
        raise InputError(_text(index, path, error, f"samtools index {path}")) from None


def _text(index: str, path: str, error: Exception, remedy: str) -> str:
    return f"the index {index} is not that of {path} as it is now ({error}); make it again with '{remedy}'"


def _check_vcf(file: BgzfReader, names: list[str], contigs: list[IndexedContig]) -> None:
    filled = [(name, contig) for name, contig in zip(names, contigs, strict=False) if contig.end >= 0]
    for name, contig in filled[:: max(1, len(filled) // _LOOKED_AT)]:
        file.seek(contig.begin)
        if not file.line().startswith(name.encode("latin-1") + b"\t"):
            raise _MismatchError(f"the records of {name} begin elsewhere")
    file.seek(max((contig.end for _, contig in filled), default=0))
    while line := file.line():
        if line.strip() and not line.startswith(b"#"):
            raise _MismatchError("the file has records that the index does not know")


def _check_bam(file: BgzfReader, contigs: list[IndexedContig]) -> None:
    filled = [(number, contig) for number, contig in enumerate(contigs) if contig.end >= 0]
    for number, contig in filled[:: max(1, len(filled) // _LOOKED_AT)]:
        file.seek(contig.begin)
        if _contig_of_read(file) != number:
            raise _MismatchError(f"the reads of contig {number + 1} begin elsewhere")
    if filled:
        file.seek(max(contig.end for _, contig in filled))
    else:
        _skip_bam_header(file)
    if _contig_of_read(file) >= 0:
        raise _MismatchError("the file has reads that the index does not know")


def _contig_of_read(file: BgzfReader) -> int:
    """The number of the contig (refID) of the next BAM record; -1 if it is not placed, or there is none."""
    head = file.read(8)
    return int.from_bytes(head[4:8], "little", signed=True) if len(head) == 8 else -1


def _skip_bam_header(file: BgzfReader) -> None:
    """Goes to the first record (SAM specification 4.2)."""
    file.seek(0)
    file.read(int.from_bytes(file.read(8)[4:], "little"))
    for _ in range(int.from_bytes(file.read(4), "little")):
        file.read(int.from_bytes(file.read(4), "little") + 4)


def _check_cram(file: BinaryIO, last: int) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    definition = file.read(DEFINITION_BYTES)
    if definition[:4] != b"CRAM":
        raise _MismatchError("the file is not a CRAM")
    version = definition[4]
    at = last
    if last < 0:  # the first container holds the header
        at = DEFINITION_BYTES
    behind, _ = _container(file, at, size, version)
    if behind < size and not _container(file, behind, size, version)[1]:
        raise _MismatchError("the file has containers that the index does not know")


def _container(file: BinaryIO, at: int, size: int, version: int) -> tuple[int, bool]:
    """Where the container at this byte ends, and whether it is the one that ends a file."""
    if not DEFINITION_BYTES <= at < size:
        raise _MismatchError("the file is shorter")
    file.seek(at)
    try:
        head = container_head(file.read(_CONTAINER_HEAD_BYTES), version)
    except ValueError as error:
        raise _MismatchError(str(error)) from None
    end = at + head.bytes + head.content_bytes
    if end > size:
        raise _MismatchError("no container of the file begins where it says")
    return end, head.is_end
