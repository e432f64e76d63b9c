"""From records and reads to tensors: the driver of all encodings.

Records that lie close together share one decoding of their reads (a chunk). What an allele's tensor holds depends on
the reads within fixed distances of it only, never on how records were grouped into blocks or chunks.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record
from cnnspark.tensors.chunks import Scorable, agreeing, chunks, empty_batch, scorable_records
from cnnspark.tensors.cnnspark_encoder import CnnsparkEncoder
from cnnspark.tensors.encoder import Chunk, Encoder, OpenedInputs
from cnnspark.tensors.gatk_encoder import GatkEncoder
from cnnspark.tensors.schema import AlleleKey, TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.annotations import AnnotationReader

# By ``TensorSettings.encoding``.
ENCODERS: Mapping[str, Encoder] = {"cnnspark": CnnsparkEncoder(), "gatk": GatkEncoder()}


def build_tensors(
    records: Sequence[Record],
    reads: ReadSource | None,
    reference: ReferenceSource,
    settings: TensorSettings,
    annotations: AnnotationReader,
    sample: str,
    neighbours: np.ndarray | None,
) -> tuple[TensorBatch, Counter[str]]:
    """Builds one tensor for each scorable ALT of consecutive, position-sorted records of one contig.

    Without reads, tensors have no rows and, as all site features are of reads, no site features.

    Args:
        records: of one contig, sorted by position.
        reads: opened BAM or CRAM, or None.
        reference: the callset's reference.
        settings: the encoding and its settings.
        annotations: which numbers of QUAL, INFO and FORMAT tensors have.
        sample: names the FORMAT column, and takes part in the choice of reads.
        neighbours: int64 (n,), sorted 0-based starts of the callset's records on the contig, at least those within
            ``site_features.FURTHEST`` bases of the records; None stands for the starts of ``records``.

    Returns:
        The tensors, and how many ALTs and records have no tensor, by reason.

    Raises:
        InputError: if REF disagrees with the reference and ``settings`` do not say that such records are skipped, if
            reads or reference do not have the contig, or if the reads cannot be read.
    """
    starts = [record.start for record in records] if neighbours is None else neighbours
    inputs = OpenedInputs(reads, reference, settings, annotations, sample, np.array(starts, np.int64))
    return build(records, inputs, ENCODERS[settings.encoding])


def build(records: Sequence[Record], inputs: OpenedInputs, encoder: Encoder) -> tuple[TensorBatch, Counter[str]]:
    """Builds tensors by the rules of one encoding; see :func:`build_tensors`."""
    skipped: Counter[str] = Counter()
    batches = []
    for group in chunks(list(scorable_records(records, skipped)), encoder.gap):
        chunk = _chunk(group, inputs, encoder, skipped)
        if chunk.records:
            batches.append(_with_keys(encoder.encode(chunk, inputs), chunk, inputs, encoder))
    if batches:
        return TensorBatch.concatenate(batches), skipped
    features = encoder.feature_names(inputs.reads is not None)
    return empty_batch(len(inputs.annotations.names), len(features)), skipped


def feature_names(settings: TensorSettings, with_reads: bool) -> tuple[str, ...]:
    """The site features that tensors of these settings have: none without reads, and none for GATK's networks."""
    return ENCODERS[settings.encoding].feature_names(with_reads)


def _chunk(group: Sequence[Scorable], inputs: OpenedInputs, encoder: Encoder, skipped: Counter[str]) -> Chunk:
    """The records as a chunk, with their stretch of the reference; those that disagree with it are left out."""
    contig, start = group[0][0].contig, group[0][0].start
    end = max(max(record.end, record.start + 1) for record, _ in group)
    text_start = max(start - encoder.before, 0)
    text = inputs.reference.sequence(contig, text_start, end + encoder.after)
    kept = agreeing(group, text, text_start, inputs.reference, inputs.settings, skipped)
    return Chunk(contig, start, end, text_start, text, kept)


def _with_keys(batch: TensorBatch, chunk: Chunk, inputs: OpenedInputs, encoder: Encoder) -> TensorBatch:
    """The tensors of a chunk with their keys and annotations."""
    column = inputs.annotations.sample_index(inputs.sample)
    alleles = [(record, index) for record, indexes in chunk.records for index in indexes]
    keys = [
        AlleleKey(
            contig=record.contig,
            start=record.start,
            ref=record.ref,
            alt=record.alts[index - 1],
            alt_index=index,
            record_index=record.index,
            variant_type=int(encoder.variant_type(record, index)),
        )
        for record, index in alleles
    ]
    values = [inputs.annotations.values(record, index, column) for record, index in alleles]
    annotations = np.array(values, np.float32).reshape(len(keys), len(inputs.annotations.names))  # (n, A)
    return dataclasses.replace(batch, keys=keys, annotations=annotations)
