"""Pairs of aligned reads as a coordinate-sorted, indexed BAM."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam

from cnnspark.simulation.alignment import WHOLE_READ, Alignments
from cnnspark.simulation.genome import Contig, decode_bases
from cnnspark.simulation.sequencing import RawReads

PAIRED, PROPER, UNMAPPED, MATE_UNMAPPED, REVERSE, MATE_REVERSE, READ1, READ2 = (1 << i for i in range(8))
DUPLICATE = 0x400
READ_GROUP = "rg1"


@dataclass(frozen=True)
class PairedReads:
    """Both reads of n fragments: index 0 is the left, forward one, index 1 the right, reverse one."""

    names: list[str]
    raw: tuple[RawReads, RawReads]
    alignments: tuple[Alignments, Alignments]
    mapqs: np.ndarray  # uint8 (2, n)
    read1_left: np.ndarray  # bool (n,)
    is_duplicate: np.ndarray  # bool (n,)


def make_header(contigs: Sequence[Contig], sample: str) -> pysam.AlignmentHeader:
    """Coordinate-sorted, contigs with their MD5, one read group."""
    digests = [hashlib.md5(decode_bases(c.codes).encode(), usedforsecurity=False).hexdigest() for c in contigs]
    return pysam.AlignmentHeader.from_dict(
        {
            "HD": {"VN": "1.6", "SO": "coordinate"},
            "SQ": [{"SN": c.name, "LN": c.length, "M5": m} for c, m in zip(contigs, digests, strict=True)],
            "RG": [{"ID": READ_GROUP, "SM": sample, "LB": "lib1", "PL": "ILLUMINA"}],
        }
    )


def make_records(
    pairs: PairedReads, contig_offsets: np.ndarray, header: pysam.AlignmentHeader
) -> list[tuple[int, pysam.AlignedSegment]]:
    """(joined position, record) of each read of the pairs of which at least one is placed."""
    records = []
    starts = np.stack([side.start for side in pairs.alignments])
    ends = np.stack([side.end for side in pairs.alignments])
    contig = np.searchsorted(contig_offsets, starts.max(axis=0), side="right") - 1
    outer = ends.max(axis=0) - np.where(starts >= 0, starts, starts.max(axis=0)).min(axis=0)
    for i in np.flatnonzero((starts >= 0).any(axis=0)):
        placed = starts[:, i] >= 0
        offset = int(contig_offsets[contig[i]])
        # An unplaced read stands where its mate does (SAM specification, recommended practice 2).
        positions = [int(starts[s if placed[s] else 1 - s, i]) for s in (0, 1)]
        for s in (0, 1):
            raw, alignment = pairs.raw[s], pairs.alignments[s]
            record = pysam.AlignedSegment(header)
            record.query_name = pairs.names[i]
            record.flag = (
                PAIRED
                | (PROPER if placed.all() else 0)
                | (0 if placed[s] else UNMAPPED)
                | (0 if placed[1 - s] else MATE_UNMAPPED)
                | ((REVERSE if placed[s] else 0) if s else (MATE_REVERSE if placed[1] else 0))
                | (READ1 if (s == 0) == pairs.read1_left[i] else READ2)
                | (DUPLICATE if pairs.is_duplicate[i] else 0)
            )
            bases, quals = raw.bases[i], raw.quals[i]
            if s and not placed[s]:
                # Unmapped reads are stored as the machine read them.
                bases, quals = 5 - bases[::-1], quals[::-1]
            record.reference_id = record.next_reference_id = int(contig[i])
            record.reference_start = positions[s] - offset
            record.next_reference_start = positions[1 - s] - offset
            record.query_sequence = decode_bases(bases)
            record.query_qualities = array("B", quals.tobytes())
            if placed[s]:
                record.mapping_quality = int(pairs.mapqs[s, i])
                record.cigartuples = alignment.cigars.get(int(i), WHOLE_READ)
                record.set_tag("NM", int(alignment.edit_distance[i]), "i")
            if placed.all():
                leftmost = positions[s] < positions[1 - s] or (positions[0] == positions[1] and s == 0)
                record.template_length = int(outer[i]) if leftmost else -int(outer[i])
            record.set_tag("RG", READ_GROUP, "Z")
            records.append((positions[s], record))
    return records


def write_bam(path: Path, records: list[tuple[int, pysam.AlignedSegment]], header: pysam.AlignmentHeader) -> None:
    """Sorts by position (ties in order of making), writes and indexes."""
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        for i in np.argsort([position for position, _ in records], kind="stable"):
            out.write(records[i][1])
    pysam.index(str(path))
