"""``encoding: gatk``: tensors by the rules of GATK's NVScoreVariants, so that its networks' weights give its scores.

The fields are those of every tensor (:mod:`cnnspark.tensors.schema`); the networks expand them to GATK's channels. The
rules, defects included, stand in :mod:`cnnspark.tensors.gatk_kernels`. All reads are kept, also duplicates. The ALT is
nowhere in them: ``alternate`` and ``read_support`` hold nothing, all ALTs of a record have the same tensor, and a key's
variant type is that of the record. Where this differs from NVScoreVariants: docs/models.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnspark.formats.reads import ReadSource, no_reads
from cnnspark.formats.reference import ReferenceSource, encode_bases
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record
from cnnspark.tensors import gatk_kernels
from cnnspark.tensors.chunks import Scorable, agreeing, chunks, empty_batch, record_hash, scorable_records
from cnnspark.tensors.kernel_tools import reads_of
from cnnspark.tensors.schema import REF_COLUMN, WINDOW, AlleleKey, TensorBatch
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.annotations import AnnotationReader

if TYPE_CHECKING:
    from cnnspark.tensors.settings import TensorSettings

# One look-up by the index decompresses some 16 kb of reads: what lies nearer than that is read in one go.
_CHUNK_GAP = 2_000
_ONE_BASE = frozenset("ACGTN*")


def build_gatk_tensors(
    records: Sequence[Record],
    reads: ReadSource | None,
    reference: ReferenceSource,
    settings: TensorSettings,
    annotations: AnnotationReader,
    sample: str,
) -> tuple[TensorBatch, Counter[str]]:
    """:func:`cnnspark.tensors.builder.build_tensors` for GATK's encoding.

    Without ``reads`` tensors are as for GATK's 1D network: no rows, and no columns opened in the reference.
    """
    skipped: Counter[str] = Counter()
    batches = []
    for chunk in chunks(list(scorable_records(records, skipped)), _CHUNK_GAP):
        contig, start = chunk[0][0].contig, chunk[0][0].start
        end = max(record.end for record, _ in chunk)
        text_start = max(start - REF_COLUMN, 0)
        text = reference.sequence(contig, text_start, end + 2 * WINDOW)
        kept = agreeing(chunk, text, text_start, reference, settings, skipped)
        if kept:
            batches.append(_build_chunk(kept, text, text_start, end, reads, settings, annotations, sample))
    return TensorBatch.concatenate(batches) if batches else empty_batch(len(annotations.names), 0), skipped


def _build_chunk(
    chunk: Sequence[Scorable],
    text: str,
    text_start: int,
    end: int,
    reads: ReadSource | None,
    settings: TensorSettings,
    annotations: AnnotationReader,
    sample: str,
) -> TensorBatch:
    """``text`` are the reference's letters from ``text_start`` to well behind ``end``, where the last REF ends."""
    records = [record for record, _ in chunk]
    # POS may be 0, a telomere.
    start = max(records[0].start, 0)
    batch = no_reads() if reads is None else reads.read(Region(records[0].contig, start, max(end, start + 1)), None)
    sites = gatk_kernels.GatkSites(
        starts=np.array([record.start for record in records], np.int64),
        ends=np.array([record.end for record in records], np.int64),
        is_snp=np.array([sorts_as_snp(record) for record in records], np.bool_),
        hashes=np.array([record_hash(settings.seed, sample, record) for record in records], np.uint64),
        windows=np.stack([reference_window(record, text, text_start) for record in records]),
    )
    rows = gatk_kernels.encode(reads_of(batch), sites, settings.read_limit)
    column = annotations.sample_index(sample)
    of_records = TensorBatch(
        keys=[],
        row_offsets=rows.offsets,
        read_bases=rows.bases,
        read_quals=rows.quals,
        read_flags=rows.flags,
        read_mapqs=rows.mapqs,
        read_support=rows.support,
        reference=rows.references,
        alternate=rows.alternates,
        annotations=np.zeros((len(records), len(annotations.names)), np.float32),
        site_features=np.zeros((len(records), 0), np.float32),
    )
    tensors = of_records.take([i for i, (_, indexes) in enumerate(chunk) for _ in indexes])
    values = [annotations.values(record, index, column) for record, indexes in chunk for index in indexes]
    tensors.annotations = np.array(values, np.float32).reshape(len(values), len(annotations.names))
    tensors.keys = [
        AlleleKey(
            contig=record.contig,
            start=record.start,
            ref=record.ref,
            alt=record.alts[index - 1],
            alt_index=index,
            record_index=record.index,
            variant_type=int(record_type(record, index)),
        )
        for record, indexes in chunk
        for index in indexes
    ]
    return tensors


def record_type(record: Record, alt_index: int) -> VariantType:
    """The kind of the whole record, by the lengths of REF and of all its ALTs, ``*`` and symbolic ones included.

    SNV: all are one base long, so of GATK's type SNP. INSERTION or DELETION, by the ALT with this number: none is as
    long as REF, so of type INDEL. MNV: all are as long as REF, which is longer than a base; MIXED: anything else; GATK
    tells neither from the other.
    """
    same = {len(alt) == len(record.ref) for alt in record.alts if alt != record.ref}
    if same == {True}:
        return VariantType.SNV if len(record.ref) == 1 else VariantType.MNV
    if same == {False}:
        longer = len(record.alts[alt_index - 1]) > len(record.ref)
        return VariantType.INSERTION if longer else VariantType.DELETION
    return VariantType.MIXED


def sorts_as_snp(record: Record) -> bool:
    """Whether rows are sorted by the base at POS: REF and every ALT one of A, C, G, T, N, ``*``."""
    return len(record.ref) == 1 and _ONE_BASE.issuperset(record.alts)


def reference_window(record: Record, text: str, text_start: int) -> np.ndarray:
    """The reference's codes from 64 bases before POS on: uint8 (W,); ``text`` are its letters from ``text_start`` on.

    Where the contig begins later than the window, the letters stand at the window's left end, so that POS is left of
    its column, and the window ends as many bases behind POS as always, plus one, plus what of REF's other bases there
    is room for. Behind the last letter there is nothing.
    """
    start, end = record.start - REF_COLUMN, record.start - REF_COLUMN + WINDOW
    if start < 0:
        end += min(-start, len(record.ref) - 1) + 1
    letters = text[max(start, 0) - text_start : max(end - text_start, 0)][:WINDOW]
    window = np.zeros(WINDOW, np.uint8)
    window[: len(letters)] = encode_bases(letters)
    return window
