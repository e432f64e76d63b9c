"""A second encoder, slow and obvious: base by base with pysam's objects, from the rules of DESIGN "Tensor".

Shares only the tables of codes and ``alleles.trim`` with the fast one. Also makes tiny references and read files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pysam

from cnnspark.formats.vcf import Record
from cnnspark.variants.alleles import trim, unscorable_reason

CODES = {"A": 1, "C": 2, "G": 3, "T": 4, "-": 6}
MASK = 2**64 - 1


def code(letter: str) -> int:
    return CODES.get(letter.upper(), 5)


@dataclass
class OracleExample:
    read_bases: np.ndarray
    read_quals: np.ndarray
    read_flags: np.ndarray
    read_mapqs: np.ndarray
    read_support: np.ndarray
    reference: np.ndarray
    alternate: np.ndarray


class OracleRead:
    """One read, spelled out: what stands at each position and in each insertion."""

    def __init__(self, segment: pysam.AlignedSegment, use_soft_clips: bool):
        self.segment = segment
        sequence = segment.query_sequence
        quals = segment.query_qualities
        quals = [0] * len(sequence) if quals is None else list(quals)
        self.base_at: dict[int, tuple[int, int]] = {}  # position -> (code, quality); gap at deleted positions
        self.aligned: dict[int, int] = {}  # position -> index in the read, M = X only
        self.inserted: dict[int, list[tuple[int, int]]] = {}  # boundary -> bases
        self.skipped: set[int] = set()
        self.sequence = sequence
        position, query = segment.reference_start, 0
        cigar = list(segment.cigartuples)
        if use_soft_clips:
            leading = 0
            for operation, length in cigar:
                if operation == 4:
                    leading += length
                elif operation not in (5, 6):
                    break
            position -= leading
        for operation, length in cigar:
            for _ in range(length):
                if operation in (0, 7, 8):
                    self.base_at[position] = (code(sequence[query]), quals[query])
                    self.aligned[position] = query
                    position, query = position + 1, query + 1
                elif operation == 1:
                    self.inserted.setdefault(position, []).append((code(sequence[query]), quals[query]))
                    query += 1
                elif operation == 2:
                    self.base_at[position] = (6, 0)
                    position += 1
                elif operation == 3:
                    self.skipped.add(position)
                    position += 1
                elif operation == 4:
                    if use_soft_clips:
                        self.base_at[position] = (code(sequence[query]), quals[query])
                        position += 1
                    query += 1

    def cell(self, column: tuple) -> tuple[int, int]:
        """(code, quality) in a column: ('base', position) or ('insertion', boundary, which base)."""
        if column[0] == "base":
            return self.base_at.get(column[1], (0, 0))
        _, boundary, which = column
        if boundary in self.inserted:
            bases = self.inserted[boundary]
            return bases[which] if which < len(bases) else (6, 0)
        if boundary - 1 in self.base_at and boundary in self.base_at:
            return (6, 0)
        return (0, 0)

    def between(self, left: int, right: int) -> str | None:
        """The read's bases strictly between two aligned positions, None where one isn't or a skip lies between."""
        if left not in self.aligned or right not in self.aligned:
            return None
        if any(left < p < right for p in self.skipped):
            return None
        return self.sequence[self.aligned[left] + 1 : self.aligned[right]]


def lies_somewhere(segment: pysam.AlignedSegment) -> bool:
    """Whether the CIGAR takes up any of the reference; htslib gives a read without aligned bases one base."""
    return any(operation in (0, 2, 3, 7, 8) and length for operation, length in segment.cigartuples or ())


def fnv1a(name: bytes) -> int:
    digest = 0xCBF29CE484222325
    for byte in name:
        digest = ((digest ^ byte) * 0x100000001B3) & MASK
    return digest


def splitmix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def flag_of(segment: pysam.AlignedSegment, rows: Sequence[pysam.AlignedSegment]) -> int:
    """FLAG, and 0x1000 where the other read of the pair is among the rows."""
    for row in rows:
        one_each = row.is_read1 != segment.is_read1 and row.is_read2 != segment.is_read2
        if row.query_name == segment.query_name and one_each:
            return segment.flag | 0x1000
    return segment.flag


def read_hash(segment: pysam.AlignedSegment, seed: int, sample: str, record: Record) -> int:
    key = f"{seed}\t{sample}\t{record.contig}\t{record.start + 1}".encode()
    site = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
    return splitmix(splitmix(fnv1a(segment.query_name.encode()) ^ site) ^ segment.flag)


def placements(text: str, start: int, removed: str, added: str) -> tuple[int, int]:
    """All places where the same indel gives the same sequence, tried one by one: the stretch they take up."""
    target = text[:start] + added + text[start + len(removed) :]
    found = []
    for x in range(max(0, start - 250), min(len(text), start + 250) + 1):
        if removed:
            same = x + len(removed) <= len(text) and text[:x] + text[x + len(removed) :] == target
        else:
            same = text[:x] + target[x : x + len(added)] + text[x:] == target
        # An N stands for any base: nothing says that an indel may be moved across it.
        crossed = text[x:start] if x < start else text[start + len(removed) : x + len(removed)]
        if same and all(letter in "ACGT" for letter in crossed):
            found.append(x)
    return min(found), max(found) + len(removed)


def haplotype_spans(record: Record, edits: Sequence[tuple[int, str, str]], text: str, text_start: int):
    start = min(q for q, _, _ in edits)
    end = max(q + len(r) for q, r, _ in edits)
    indels = False
    for q, removed, added in edits:
        shared = min(len(removed), len(added))
        if len(removed) != len(added):
            indels = True
            left, right = placements(text, q + shared - text_start, removed[shared:], added[shared:])
            start, end = min(start, left + text_start), max(end, right + text_start)
    return start, end, indels


def support(read: OracleRead, start: int, end: int, indels: bool, haplotypes: Sequence[str]) -> int:
    """0 REF, k the k-th ALT, -1 none."""
    if indels:
        shown = read.between(start - 1, end)
    else:
        inner = read.between(start, end - 1)
        if inner is None:
            return -1
        first, last = read.sequence[read.aligned[start]], read.sequence[read.aligned[end - 1]]
        shown = first if end - start == 1 else first + inner + last
    if shown is None:
        return -1
    distances = []
    for number, haplotype in enumerate(haplotypes):
        if len(haplotype) != len(shown):
            continue
        mismatches = sum(a != b or b not in "ACGT" for a, b in zip(shown, haplotype, strict=True))
        if mismatches <= len(haplotype) // 8:
            distances.append((mismatches, number))
    distances.sort()
    if not distances or (len(distances) > 1 and distances[0][0] == distances[1][0]):
        return -1
    return distances[0][1]


def oracle_examples(
    record: Record,
    reads_path: str,
    reference_path: str,
    sample: str,
    read_limit: int = 128,
    use_soft_clips: bool = False,
    seed: int = 0,
) -> list[OracleExample]:
    """The examples of the record's scorable ALTs."""
    with pysam.FastaFile(reference_path) as fasta:
        length = fasta.get_reference_length(record.contig)
        text_start = max(0, record.start - 400)
        text = fasta.fetch(record.contig, text_start, min(length, record.end + 400)).upper()
    alts = [alt.upper() for alt in record.alts if unscorable_reason(record.ref, alt) is None]
    if not alts:
        return []
    edits = []
    for alt in alts:
        offset, removed, added = trim(record.ref.upper(), alt)
        edits.append((record.start + offset, removed, added))
    start, end, indels = haplotype_spans(record, edits, text, text_start)
    haplotypes = [text[start - text_start : end - text_start]]
    for q, removed, added in edits:
        haplotypes.append(
            text[start - text_start : q - text_start] + added + text[q + len(removed) - text_start : end - text_start]
        )

    with pysam.AlignmentFile(reads_path, reference_filename=reference_path) as file:
        segments = [
            segment
            for segment in file.fetch(record.contig, max(0, record.start), record.end)
            if not segment.flag & 0xF04 and lies_somewhere(segment) and segment.query_sequence
        ]
    ranked = sorted(range(len(segments)), key=lambda i: (read_hash(segments[i], seed, sample, record), i))
    reads = [(OracleRead(segments[i], use_soft_clips), i) for i in ranked[:read_limit]]

    examples = []
    for number, (q, removed, added) in enumerate(edits, 1):
        longest: dict[int, int] = {}
        for read, _ in reads:
            for boundary, bases in read.inserted.items():
                longest[boundary] = max(longest.get(boundary, 0), len(bases))
        shared = min(len(removed), len(added))
        boundary = q + shared
        if len(added) > shared:
            longest[boundary] = max(longest.get(boundary, 0), len(added) - shared)

        columns: list[tuple] = []
        for position in range(record.start - 64, record.start + 65):
            columns += [("insertion", position, k) for k in range(longest.get(position, 0))]
            columns.append(("base", position))
        middle = columns.index(("base", record.start))
        columns = columns[middle - 64 : middle + 64]

        reference, alternate = [], []
        for column in columns:
            if column[0] == "insertion":
                reference.append(6)
                inside = column[1] == boundary and column[2] < len(added) - shared
                alternate.append(code(added[shared + column[2]]) if inside else 6)
                continue
            position = column[1]
            here = code(text[position - text_start]) if 0 <= position < length else 0
            reference.append(here)
            if q <= position < q + len(removed):
                alternate.append(code(added[position - q]) if position - q < shared else 6)
            else:
                alternate.append(here)

        rows = []
        for read, order in reads:
            shown = support(OracleRead(read.segment, False), start, end, indels, haplotypes)
            kind = {-1: 0, 0: 1, number: 2}.get(shown, 3)
            digest = read_hash(read.segment, seed, sample, record)
            rows.append(((kind, read.segment.reference_start, digest, order), read))
        rows.sort(key=lambda row: row[0])
        fragments = [read.segment for _, read in rows]
        cells = np.array([[read.cell(c) for c in columns] for _, read in rows], np.uint8).reshape(len(rows), 128, 2)
        examples.append(
            OracleExample(
                read_bases=cells[:, :, 0],
                read_quals=cells[:, :, 1],
                read_flags=np.array([flag_of(read.segment, fragments) for _, read in rows], np.uint16),
                read_mapqs=np.array([read.segment.mapping_quality for _, read in rows], np.uint8),
                read_support=np.array([key[0] for key, _ in rows], np.uint8),
                reference=np.array(reference, np.uint8),
                alternate=np.array(alternate, np.uint8),
            )
        )
    return examples


def write_fasta(folder: Path, contigs: dict[str, str]) -> str:
    """An indexed FASTA of these contigs."""
    path = folder / "reference.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in contigs.items()))
    pysam.faidx(str(path))
    return str(path)


@dataclass
class TinyRead:
    """A read as a test writes it; ``start`` 0-based. Qualities: one for all bases, a list, or None ('*')."""

    start: int
    cigar: str
    sequence: str
    name: str = ""
    flag: int = 0
    mapq: int = 60
    quals: int | list[int] | None = 30
    tlen: int = 0


def write_bam(folder: Path, contigs: dict[str, str], reads: Sequence[TinyRead], contig: str = "", name: str = "reads"):
    """A sorted, indexed BAM of these reads on one contig (default: the first). Returns its path."""
    path = str(folder / f"{name}.bam")
    header = pysam.AlignmentHeader.from_dict(
        {
            "HD": {"VN": "1.6", "SO": "coordinate"},
            "SQ": [{"SN": n, "LN": len(s)} for n, s in contigs.items()],
            "RG": [{"ID": "1", "SM": "tiny"}],
        }
    )
    contig = contig or next(iter(contigs))
    with pysam.AlignmentFile(path, "wb", header=header) as file:
        numbered = sorted(enumerate(reads), key=lambda item: item[1].start)
        for number, read in numbered:
            segment = pysam.AlignedSegment(header)
            segment.query_name = read.name or f"read{number}"
            segment.flag = read.flag
            segment.reference_id = header.get_tid(contig)
            segment.reference_start = read.start
            segment.mapping_quality = read.mapq
            segment.cigarstring = read.cigar
            segment.query_sequence = read.sequence
            if read.quals is not None and read.sequence != "*":
                quals = [read.quals] * len(read.sequence) if isinstance(read.quals, int) else read.quals
                segment.query_qualities = pysam.qualitystring_to_array("".join(chr(33 + q) for q in quals))
            segment.template_length = read.tlen
            file.write(segment)
    pysam.index(path)
    return path
