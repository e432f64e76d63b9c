"""Makes a callset readable by region: a plain VCF or a BCF becomes a bgzipped, indexed copy."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pysam

from cnnspark.common.storage import commit, is_remote, is_url, private_file, scheme_of
from cnnspark.errors import InputError
from cnnspark.formats.bcf import vcf_of_bcf
from cnnspark.formats.bgzf import create_bgzf, open_bgzf
from cnnspark.formats.htslib import VCF_INDEXES, fetched_index, local_copy, open_input, require_remote
from cnnspark.formats.index_check import require_vcf_index
from cnnspark.formats.regions import END_OF_CONTIG, TBI_MAX_BASES
from cnnspark.formats.vcf import ENCODING, VcfSource

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

TAB = b"\t"
MAX_BGZF_BLOCK_BYTES = 65_536  # SAM specification 4.1


def require_file(path: str, what: str) -> None:
    """Checks that a path or URL is a readable file that is not empty.

    Args:
        path: the input.
        what: what it is, for the message: "callset".

    Raises:
        InputError: if it is not, with the reason and a remedy.
    """
    if is_url(path):
        require_remote(path, what)
        return
    file = Path(path)
    if not file.exists():
        raise InputError(f"{what} {path} does not exist; check the path")
    if file.is_dir():
        raise InputError(f"{what} {path} is a folder; give the file itself")
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} {path} cannot be read; check its permissions")
    if not file.is_file():
        raise InputError(f"{what} {path} is a pipe or a device, which is read once only; give a file")
    if file.stat().st_size == 0:
        raise InputError(f"{what} {path} is empty (0 bytes); make it again")


def kind_of(path: str) -> str:
    """The kind of a callset's file by its first bytes: ``vcf``, ``bgzf``, ``gzip`` or ``bcf``.

    Raises:
        InputError: if it is something else, or damaged.
    """
    with open_input(path) as file:
        start = file.read(MAX_BGZF_BLOCK_BYTES)
    if start[:2] == b"\x1f\x8b":
        if start[3:4] != b"\x04" or start[12:14] != b"BC":
            return "gzip"
        try:
            return "bcf" if zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(start, 3) == b"BCF" else "bgzf"
        except zlib.error:
            raise InputError(f"{path} is truncated or damaged; copy it again from its source") from None
    if start.startswith((b"##fileformat=VCF", b"#CHROM\t")):
        return "vcf"
    raise InputError(f"{path} is not a VCF or BCF (it does not begin with ##fileformat=VCF); give the callset")


def needs_copy(path: str) -> bool:
    """Whether the callset must be copied before regions of it can be read."""
    return kind_of(path) in ("vcf", "bcf")


def open_callset(path: str, called: str | None = None) -> VcfSource:
    """Opens a bgzipped, indexed callset.

    Args:
        path: a path or URL.
        called: what messages call it: the user's file, if ``path`` is a copy of it.

    Raises:
        InputError: if the callset is missing, damaged, truncated, not bgzipped or without index; the message says which
            command helps.
    """
    require_file(path, "callset")
    if kind_of(path) == "gzip":
        raise InputError(f"{path} is compressed with gzip, not bgzip; run 'gunzip' and then 'bgzip' on it")
    if not is_url(path) and not any(Path(path + suffix).exists() for suffix in (".tbi", ".csi")):
        raise InputError(f"{path} has no index; create one with 'tabix -p vcf {path}'")
    _require_whole(path)
    _require_own_index(path)
    source = VcfSource(path, called=called)
    odd = next((contig for contig in source.contigs if not contig.isascii()), None)
    if odd is not None:
        source.close()
        raise InputError(
            f"{called or path} has the contig '{odd}', and VCF allows ASCII letters only; rename it with 'bcftools "
            "annotate --rename-chrs'"
        )
    return source


def _require_whole(path: str) -> None:
    """Checks that a BGZF file has the empty block that ends it; without it, records may be missing."""
    if scheme_of(path) == "ftp":
        return  # htslib cannot seek to its end
    with open_input(path) as file:
        file.seek(-28, os.SEEK_END)
        if file.read()[:16] != bytes.fromhex("1f8b08040000000000ff060042430200"):
            raise InputError(f"{path} is truncated (it has no BGZF end block); copy it again from its source")


def _require_own_index(path: str) -> None:
    """Checks that the index is that of the callset as it is now, before htslib believes it.

    If the callset was changed after its index was made, its records are counted as well.
    """
    with fetched_index(path, VCF_INDEXES) as fetched:
        index = fetched or next(path + suffix for suffix in VCF_INDEXES if Path(path + suffix).exists())
        indexed = require_vcf_index(path, index)
    if indexed is not None and _index_is_older(path) and count_records(path) != indexed:
        raise InputError(
            f"the index of {path} is older than the file and has another number of records; "
            f"make it again with 'tabix -f -p vcf {path}'"
        )


def _index_is_older(path: str) -> bool:
    """Whether a local callset changed after its index was written."""
    if is_url(path):
        return False
    changed = os.stat(path).st_mtime_ns
    return all(not Path(path + s).exists() or os.stat(path + s).st_mtime_ns < changed for s in (".tbi", ".csi"))


def count_records(path: str) -> int:
    """The number of records of a bgzipped VCF, counted line by line, whatever its index says."""
    with open_bgzf(path) as lines:
        return sum(1 for line in lines if line and not line.startswith(b"#"))


def place_copy(path: str, target: Location) -> None:
    """Writes the copy of :func:`copy_callset`, with its index, to a local folder or an object store.

    Raises:
        InputError: as :func:`copy_callset` does.
    """
    if not is_remote(target):
        copy_callset(path, Path(str(target)))
        return
    with private_file(target) as copy:
        copy_callset(path, copy)
        for suffix in VCF_INDEXES:
            if Path(f"{copy}{suffix}").exists():
                commit(Path(f"{copy}{suffix}"), target.with_name(target.name + suffix))
        commit(copy, target)


def copy_callset(path: str, target: Path) -> None:
    """Writes a bgzipped VCF copy of a plain VCF or a BCF, with its index (``.tbi``, else ``.csi``).

    Raises:
        InputError: if the callset cannot be read, or its records are not grouped by contig and sorted by position.
    """
    require_file(path, "callset")
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind_of(path) == "bcf":
        with local_copy(path) as local:
            _bcf_to_vcf(local, target)
    else:
        with open_input(path) as source, create_bgzf(target) as copy:
            for number, line in enumerate(source, 1):
                line = line.rstrip(b"\r\n")
                if b"\0" in line:
                    raise InputError(f"{path} line {number} holds a NUL byte; repair the line, or make the file again")
                if line:
                    copy.write(line + b"\n")
    _require_sorted(path, target)
    try:
        pysam.tabix_index(str(target), preset="vcf", force=True)
    except (OSError, ValueError):
        try:
            pysam.tabix_index(str(target), preset="vcf", force=True, csi=True)
        except (OSError, ValueError):
            raise InputError(f"{path} cannot be indexed{_beyond_index(target)}") from None


def _beyond_index(copy: Path) -> str:
    """Where the first record is whose INFO/END no index can hold, and what helps."""
    with open_bgzf(copy) as lines:
        for line in lines:
            columns = line.split(b"\t", 8)
            end = (
                re.search(rb"(?:^|;)END=(\d+)", columns[7]) if not line.startswith(b"#") and len(columns) > 7 else None
            )
            if end and int(end[1]) >= END_OF_CONTIG:
                where = f"{columns[0].decode(ENCODING)}:{columns[1].decode(ENCODING)}"
                return f": the record at {where} has END={int(end[1])}, beyond any contig; correct it"
    return "; sort it with 'bcftools sort', and check its positions"


def _bcf_to_vcf(path: str, target: Path) -> None:
    create_bgzf(target).close()  # says what pysam would crash of
    try:
        vcf_of_bcf(path, target)
    except OSError as error:
        raise InputError(f"{path} cannot be read as BCF ({error}); make it again with 'bcftools view -Ob'") from None


def _require_sorted(path: str, copy: Path) -> None:
    """Checks the records of ``copy``; messages name ``path`` and the number of the line."""
    contig, last, done, tabs = b"", -1, set(), 0
    with open_bgzf(copy) as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith(b"#"):
                if line.startswith(b"#CHROM"):
                    tabs = line.count(b"\t")
                continue
            if tabs > 7 and line.count(b"\t") != tabs:
                found = f"{line.count(TAB) + 1} columns and its header {tabs + 1}"
                raise InputError(f"{path} line {number} has {found}; repair the line, or make the file again")
            columns = line.split(b"\t", 5)
            if len(columns) < 6 or not columns[1].isdigit() or not columns[4]:
                raise InputError(f"{path} line {number} is not a VCF record; repair or remove it")
            if columns[1] != b"%d" % int(columns[1]):
                position = columns[1].decode(ENCODING)
                raise InputError(f"{path} line {number} has the position '{position}'; write it without leading zeros")
            if columns[0] != contig:
                if columns[0] in done:
                    raise InputError(f"{path} is not sorted (line {number}); sort it with 'bcftools sort'")
                done.add(contig)
                contig, last = columns[0], -1
            if int(columns[1]) < last:
                raise InputError(f"{path} is not sorted (line {number}); sort it with 'bcftools sort'")
            last = int(columns[1])
            if last >= TBI_MAX_BASES * 4:
                raise InputError(f"{path} line {number} has a position beyond 2^31; repair it")
