"""What an encoding is to the driver :func:`cnnspark.tensors.builder.build`: from a chunk of records to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record
from cnnspark.tensors.chunks import Scorable
from cnnspark.tensors.kernel_tools import Rows
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.annotations import AnnotationReader


@dataclass(frozen=True)
class OpenedInputs:
    """What tensors are built from, the same for all chunks."""

    reads: ReadSource | None
    reference: ReferenceSource
    settings: TensorSettings
    annotations: AnnotationReader
    sample: str  # names the FORMAT column, and takes part in the choice of reads
    neighbours: np.ndarray  # int64 (records,), sorted 0-based starts of the callset's records on the contig


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one contig that share one decoding of their reads, REF as in the reference."""

    contig: str
    start: int  # of the first record, -1 if its POS is 0 (a telomere)
    end: int  # one past the last base of a REF
    text_start: int
    text: str  # the reference's letters from text_start on, Encoder.before and after bases more than [start, end)
    records: Sequence[Scorable]


class Encoder(Protocol):
    """The rules by which the reads at a record become tensors of its scorable ALTs."""

    gap: int  # records with more bases between them are in two chunks
    before: int  # bases of the reference that are needed before the first record
    after: int  # and behind the last

    def feature_names(self, with_reads: bool) -> tuple[str, ...]:
        """The site features that the tensors have."""
        ...

    def variant_type(self, record: Record, alt_index: int) -> VariantType:
        """The kind of the ALT with this number, from 1, as the keys have it."""
        ...

    def encode(self, chunk: Chunk, inputs: OpenedInputs) -> TensorBatch:
        """The tensors of a chunk's scorable ALTs, in order, without keys and annotations, which the driver adds."""
        ...


def batch_of(rows: Rows, site_features: np.ndarray) -> TensorBatch:
    """The tensors of n alleles without keys and annotations.

    Args:
        rows: of the n alleles.
        site_features: float32 (n, F).
    """
    return TensorBatch(
        keys=[],
        row_offsets=rows.offsets,
        read_bases=rows.bases,
        read_quals=rows.quals,
        read_flags=rows.flags,
        read_mapqs=rows.mapqs,
        read_support=rows.support,
        reference=rows.references,
        alternate=rows.alternates,
        annotations=np.zeros((len(rows.references), 0), np.float32),
        site_features=site_features,
    )
