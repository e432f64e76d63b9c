"""Reads of a region as flat arrays, from BAM or CRAM.

pysam finds and decompresses the records. They are written to memory as one uncompressed BAM stream, which compiled code
takes apart (:mod:`cnnspark.formats.bam_decoding`): reading a base or a quality through a Python object costs more than
everything that is done with it afterwards.
"""

from __future__ import annotations

import os
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import pysam

from cnnspark.common.stopwatch import add_count, part
from cnnspark.common.storage import is_url
from cnnspark.errors import InputError
from cnnspark.formats.bam_decoding import KEPT, REASONS, survey, unpack
from cnnspark.formats.bgzf import BgzfReader
from cnnspark.formats.binning_index import find_index, require_readable
from cnnspark.formats.htslib import fetched_index, for_htslib, open_input, read_indexes
from cnnspark.formats.index_check import require_read_index
from cnnspark.formats.regions import END_OF_CONTIG, Region

# IDs of the read groups in which HaplotypeCaller's -bamout has its haplotypes, of GATK 4 and 3.
ARTIFICIAL_READ_GROUPS = ("ArtificialHaplotypeRG", "ArtificialHaplotype")
# Records held at once as raw BAM, tags included; this bounds memory in very deep regions.
_RECORDS_AT_ONCE = 50_000
_MAX_BGZF_BLOCK_BYTES = 65_536
_BGZF_MAGIC = b"\x1f\x8b\x08\x04"
# The closing container of CRAM 3 (CRAM specification 3.0, section 9).
_CRAM_3_END = bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b")


@dataclass(frozen=True)
class ReadFilter:
    """Which reads are dropped: True drops the kind.

    Reads of mapping quality 0 are kept by default, because they reveal a collapsed paralog.
    """

    unmapped: bool = True
    secondary: bool = True
    supplementary: bool = True
    qc_fail: bool = True
    duplicate: bool = True
    min_mapping_quality: int = 0

    @property
    def flags(self) -> int:
        """The SAM FLAG bits for which a read is dropped."""
        bits = (0x4, 0x100, 0x800, 0x200, 0x400)
        chosen = (self.unmapped, self.secondary, self.supplementary, self.qc_fail, self.duplicate)
        return sum(bit for bit, drop in zip(bits, chosen, strict=True) if drop)


@dataclass
class ReadBatch:
    """n reads, sorted by start, then by their order in the file.

    The bases and qualities of read ``i`` are at ``base_offsets[i]:base_offsets[i + 1]``, its CIGAR at
    ``cigar_offsets[i]:cigar_offsets[i + 1]``.
    """

    starts: np.ndarray  # int64 (n,), 0-based
    ends: np.ndarray  # int64 (n,), half-open: one past the last aligned base, deletions and skips counted
    flags: np.ndarray  # uint16 (n,), SAM FLAG
    mapqs: np.ndarray  # uint8 (n,), 255 unknown
    template_lengths: np.ndarray  # int32 (n,), TLEN
    name_hashes: np.ndarray  # uint64 (n,), FNV-1a of the read name: the same in every process
    base_offsets: np.ndarray  # int64 (n + 1,)
    bases: np.ndarray  # uint8 (total bases,), codes of cnnspark.formats.reference, soft-clipped bases included
    quals: np.ndarray  # uint8 (total bases,), 0 where the file has none
    cigar_offsets: np.ndarray  # int64 (n + 1,)
    cigar_ops: np.ndarray  # uint8 (total operations,), BAM's numbers: M0 I1 D2 N3 S4 H5 P6 =7 X8
    cigar_lengths: np.ndarray  # int32 (total operations,)
    dropped: dict[str, int] = field(default_factory=dict)  # reads left out, by reason

    def __len__(self) -> int:
        return len(self.starts)

    @staticmethod
    def concatenate(batches: list[ReadBatch]) -> ReadBatch:
        """Joins consecutive batches into one; the counts of dropped reads are added up."""
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(batch, name) for batch in batches])
            for name in _PER_READ + ("bases", "quals", "cigar_ops", "cigar_lengths")
        }
        for name in ("base_offsets", "cigar_offsets"):
            offsets = [np.zeros(1, np.int64)]
            for batch in batches:
                offsets.append(getattr(batch, name)[1:] + offsets[-1][-1])
            joined[name] = np.concatenate(offsets)
        dropped: dict[str, int] = {}
        for batch in batches:
            for reason, count in batch.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        return ReadBatch(dropped=dropped, **joined)


_PER_READ = ("starts", "ends", "flags", "mapqs", "template_lengths", "name_hashes")


@contextmanager
def _quiet_htslib() -> Iterator[None]:
    """Suppresses htslib's own messages on stderr; the caller gets an exception that says the same."""
    verbosity = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)


class ReadSource:
    """An indexed BAM or CRAM, a local path or a URL that htslib opens. Open it inside the task.

    HaplotypeCaller's ``-bamout`` also holds assembled haplotypes, in a read group of their own; they are left out of
    the samples and of the reads.

    Attributes:
        path: as given.
        samples: the distinct SM of the read groups, in the header's order.
        contig_lengths: length of each contig in bases, in the header's order.
    """

    def __init__(self, path: str, reference_path: str | None = None, index: str | None = None):
        """Opens the reads.

        Args:
            path: the BAM or CRAM.
            reference_path: the FASTA; a CRAM needs it.
            index: a local index file, if it is not beside the reads.

        Raises:
            InputError: if the file is missing or damaged, has no index, or is a CRAM without its reference; the message
                has a remedy.
        """
        self.path = path
        local = not is_url(path)
        if local and not os.path.exists(path):
            raise InputError(f"{path} does not exist; check the path of the reads")
        with _quiet_htslib(), warnings.catch_warnings():
            # A missing end-of-file marker does not mean that data is missing; _check_complete finds that out.
            warnings.simplefilter("ignore", UserWarning)
            try:
                with fetched_index(path, read_indexes(path)) if index is None else nullcontext(index) as beside:
                    self._file = pysam.AlignmentFile(
                        for_htslib(path),
                        reference_filename=reference_path and for_htslib(reference_path),
                        index_filename=beside,
                        ignore_truncation=True,
                    )
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) and index is not None and not os.path.exists(index):
                    raise InputError(f"{index} does not exist; run 'samtools index {path}'") from None
                raise InputError(
                    f"{path} cannot be opened as BAM or CRAM ({_one_line(error)}); "
                    "check it with 'samtools quickcheck' and make it anew if it is damaged"
                ) from None
            self._is_cram = self._file.is_cram
            if self._file.is_sam:
                raise InputError(f"{path} is SAM text; convert it with 'samtools sort -o reads.bam' and index it")
            if self._file.is_cram and reference_path is None:
                raise InputError(f"{path} is CRAM, which needs its reference; give the FASTA it was written with")
            if not self._file.has_index():
                raise InputError(f"{path} has no index; run 'samtools index {path}'")
            if local:
                self._check_complete()
        every = self._read_groups()
        groups = [group for group in every if not _is_artificial(group.get("ID", ""))]
        self._has_artificial_reads = len(groups) < len(every)
        self.samples: tuple[str, ...] = tuple(dict.fromkeys(group["SM"] for group in groups if "SM" in group))
        self.contig_lengths: dict[str, int] = dict(zip(self._file.references, self._file.lengths, strict=True))
        # By number: for a name htslib parses the header's text, which need not be as it should.
        self._contigs = {name: number for number, name in enumerate(self._file.references)}
        # Records are handed on under a header of contigs alone: the file's own text would be copied for each region.
        self._bare_header = pysam.AlignmentHeader.from_references(list(self._file.references), list(self._file.lengths))
        self._bare_header_bytes = _header_bytes(_as_bam([], self._bare_header))

    def _read_groups(self) -> list[dict[str, str]]:
        """The fields of the header's ``@RG`` lines, whatever its other lines are like and however they are encoded."""
        try:
            text = str(self._file.header)
        except UnicodeDecodeError:
            if self._is_cram:
                return []  # pysam does not hand out its bytes: the reads are taken as the sample's
            with open_input(self.path) as file:
                content = BgzfReader(file)
                content.seek(0)
                size = int.from_bytes(content.read(8)[4:], "little")  # SAM specification 4.2
                text = content.read(size).decode("utf-8", "replace")
        lines = [line.rstrip("\r").split("\t")[1:] for line in text.split("\n") if line.startswith("@RG\t")]
        return [{field[:2]: field[3:] for field in fields} for fields in lines]

    def _check_complete(self) -> None:
        """Checks that a BAM does not end in the middle of a BGZF block, and that a CRAM has its closing container."""
        complete = _ends_with_whole_block(self.path) if self._file.is_bam else _has_cram_end(self.path)
        if not complete:
            raise InputError(f"{self.path} is truncated; copy or make the file again")

    def require_own_index(self) -> None:
        """Checks that the index is that of the file as it is now.

        Raises:
            InputError: it is that of another file, or cannot be read.
        """
        with fetched_index(self.path, read_indexes(self.path)) as fetched:
            index = fetched or find_index(self.path, read_indexes(self.path))
            if index is not None:
                require_read_index(self.path, index, self._is_cram)

    @property
    def mapped_reads(self) -> int | None:
        """The number of mapped reads, from the index; None if it does not say it, as that of a CRAM."""
        if self._file.is_cram:
            return None
        mapped = int(self._file.mapped)
        if mapped:
            return mapped
        # An index without counts also says 0.
        return None if any(not read.is_unmapped for read in islice(self._file.fetch(until_eof=True), 1)) else 0

    @part("read")
    def read(self, region: Region, read_filter: ReadFilter | None) -> ReadBatch:
        """All reads whose aligned span overlaps the region, except those that are dropped.

        Args:
            region: what to read; it is cut at the contig's ends.
            read_filter: which reads are dropped. None drops no kind, and also keeps reads without aligned bases, which
                then end one base after their start.

        Returns:
            The reads, and how many were dropped by reason. Reads without sequence (``*``) or without aligned bases, and
            reads whose CIGAR and sequence disagree, are also dropped and counted.

        Raises:
            InputError: if the contig is unknown or the file is damaged; the message names file and region.
        """
        if region.contig not in self.contig_lengths:
            raise InputError(
                f"{self.path} has no contig '{region.contig}'; use reads and a callset of the same reference"
            )
        end = min(region.end, self.contig_lengths[region.contig])
        start = max(0, min(region.start, end))
        batches = []
        with _quiet_htslib():
            try:
                if start < end:
                    contig = self._contigs[region.contig]
                    records: Iterator[pysam.AlignedSegment] = iter(self._file.fetch(tid=contig, start=start, end=end))
                    if self._has_artificial_reads:
                        records = (r for r in records if not (r.has_tag("RG") and _is_artificial(r.get_tag("RG"))))
                    while stream := self._raw_records(records):
                        batches.append(_decode(stream, start, end, read_filter))
            except (OSError, ValueError) as error:
                # The handle of a damaged file would complain on stderr when it is garbage-collected.
                with suppress(OSError):
                    self._file.close()
                remedy = "check the reference and the file" if self._is_cram else "the file or its index is damaged"
                raise InputError(
                    f"{self.path} cannot be read at {region} ({_one_line(error)}); "
                    f"{remedy}; 'samtools quickcheck' and 'samtools index' help to find out"
                ) from None
        if not batches:
            batches.append(no_reads())
        add_count("reads", sum(len(batch) for batch in batches))
        return batches[0] if len(batches) == 1 else ReadBatch.concatenate(batches)

    def _raw_records(self, records: Iterator[pysam.AlignedSegment]) -> bytes:
        """The next records as uncompressed BAM without its header; empty at the end."""
        first = next(records, None)
        if first is None:
            return b""
        chunk = chain([first], islice(records, _RECORDS_AT_ONCE - 1))
        return _as_bam(chunk, self._bare_header)[self._bare_header_bytes :]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> ReadSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_reads(path: str, reference_path: str | None = None) -> ReadSource:
    """Opens reads whose index is checked against the file, as a driver does once for all tasks.

    Raises:
        InputError: as :class:`ReadSource` does, and if the index is that of another file.
    """
    with fetched_index(path, read_indexes(path)) as fetched:
        index = fetched or find_index(path, read_indexes(path))
        if index is not None:
            require_readable(index)
        source = ReadSource(path, reference_path, fetched)
    source.require_own_index()
    return source


def _is_artificial(read_group: object) -> bool:
    """Whether a read group holds HaplotypeCaller's assembled haplotypes; users' groups may have any other ID."""
    return read_group in ARTIFICIAL_READ_GROUPS


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _memory_file() -> int:
    """The descriptor of a file without a name, in memory if the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cnnspark-reads")
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())


def _as_bam(records: Iterable[pysam.AlignedSegment], header: pysam.AlignmentHeader) -> bytes:
    """The records as one uncompressed BAM stream, header first, taken out of its BGZF blocks."""
    descriptor = _memory_file()
    try:
        # "u": blocks are stored, not deflated, so reading them is mere copying.
        with (
            open(descriptor, "wb", closefd=False) as stream,
            pysam.AlignmentFile(stream, "wbu", header=header) as out,
        ):
            write = out.write
            for record in records:
                write(record)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with open(descriptor, "rb", closefd=False) as source:
            blocks = memoryview(source.read())
    finally:
        os.close(descriptor)
    payloads = []
    at = 0
    while at < len(blocks):
        size_bytes = int.from_bytes(blocks[at + 16 : at + 18], "little") + 1
        payloads.append(zlib.decompress(blocks[at + 18 : at + size_bytes - 8], -zlib.MAX_WBITS))
        at += size_bytes
    return b"".join(payloads)


def _header_bytes(stream: bytes) -> int:
    """Size in bytes of the header of an uncompressed BAM stream (SAM specification 4.2)."""
    at = 8 + int.from_bytes(stream[4:8], "little")
    contigs = int.from_bytes(stream[at : at + 4], "little")
    at += 4
    for _ in range(contigs):
        at += 8 + int.from_bytes(stream[at : at + 4], "little")
    return at


def no_reads() -> ReadBatch:
    """A batch without reads."""
    return _decode(b"", 0, END_OF_CONTIG, None)


def _decode(stream: bytes, start: int, end: int, read_filter: ReadFilter | None) -> ReadBatch:
    """The reads that are kept of the records in an uncompressed BAM stream without its header."""
    data = np.frombuffer(stream, np.uint8)
    drop, least = (read_filter.flags, read_filter.min_mapping_quality) if read_filter else (0, 0)
    kept, counts = survey(data, start, end, drop, least, read_filter is None)
    dropped = {reason: int(count) for reason, count in zip(REASONS, counts, strict=True) if count and reason != KEPT}
    return ReadBatch(starts=kept.starts, ends=kept.ends, dropped=dropped, **unpack(data, kept)._asdict())


def _ends_with_whole_block(path: str) -> bool:
    """Whether a BGZF block ends exactly where the file does; an end-of-file marker is such a block."""
    size_bytes = os.path.getsize(path)
    with open(path, "rb") as stream:
        stream.seek(max(0, size_bytes - _MAX_BGZF_BLOCK_BYTES))
        tail = stream.read()
    at = tail.find(_BGZF_MAGIC)
    while at >= 0:
        if at + int.from_bytes(tail[at + 16 : at + 18], "little") + 1 == len(tail):
            return True
        at = tail.find(_BGZF_MAGIC, at + 1)
    return False


def _has_cram_end(path: str) -> bool:
    """Whether a CRAM 3 ends with its closing container; older versions may lack one."""
    with open(path, "rb") as stream:
        if stream.read(5) != b"CRAM\x03":
            return True
        stream.seek(-len(_CRAM_3_END), os.SEEK_END)
        return stream.read() == _CRAM_3_END
