"""The tensors of one block after another, as scoring and datasets build them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from cnnspark.common.stopwatch import add_count, part
from cnnspark.execution.blocks import Block
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.tensors.builder import build_tensors
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import FURTHEST
from cnnspark.variants.annotations import AnnotationReader
from cnnspark.variants.carriers import Member, carried_alts, column_of, starts_of

if TYPE_CHECKING:
    from cnnspark.tensors.schema import TensorBatch


# An allele of the callset: the record's number and the ALT's, from 1.
AlleleNumber = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """A callset and what is read beside it: paths that every executor sees."""

    vcf: str  # bgzipped and indexed
    reads: str | None
    reference: str
    sample: str = ""
    # Of a callset of several samples those with reads of their own, the sample itself if it is one
    # (cnnspark.scoring.multisample).
    members: tuple[Member, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The files that are read."""
        members = (member.reads for member in self.members)
        return list(dict.fromkeys(path for path in (self.vcf, self.reads, self.reference, *members) if path))


class TensorSource(Protocol):
    """Builds the tensors of one block after another, for one sample or for the carriers of several.

    Files stay open between blocks. Make it inside the task.
    """

    vcf: VcfSource
    reference: ReferenceSource

    def named(self, records: Sequence[Record], block: Block) -> tuple[list[AlleleNumber], TensorBatch]:
        """The n alleles of a block that have tensors, at least those of ``records``, and their n tensors."""
        ...


class BlockTensors:
    """The :class:`TensorSource` of a callset that is scored as one sample's.

    Without reads among the inputs tensors have none (:func:`cnnspark.tensors.builder.build_tensors`). Of a callset of
    several samples the annotations (those of the record with ``encoding: gatk``) and the neighbouring records are
    those of the inputs' sample.
    """

    def __init__(
        self, inputs: Inputs, annotations: Sequence[str], settings: TensorSettings, text_is_missing: bool = False
    ):
        self.inputs, self.settings = inputs, settings
        self.vcf = VcfSource(inputs.vcf)
        self.reference = ReferenceSource(inputs.reference)
        self.reads = None if inputs.reads is None else ReadSource(inputs.reads, inputs.reference)
        samples = self.vcf.header.samples
        by_sample = len(samples) > 1 and settings.annotations_by_sample
        self.annotations = AnnotationReader(self.vcf.header, annotations, by_sample, text_is_missing)
        self._column = column_of(samples, inputs.sample)

    @part("read")
    def records(self, block: Block) -> list[Record]:
        """The block's records, numbered through the callset."""
        return list(block.read(self.vcf))

    def carried(self, record: Record) -> Collection[int]:
        """The numbers of the record's ALTs, from 1, that count for the sample.

        In a callset of its own these are all of them, in one of several samples those that it carries.
        """
        if self._column is None:
            return range(1, len(record.alts) + 1)
        return carried_alts(record, (self._column,))[0]

    @part("encode")
    def build(self, records: Sequence[Record], block: Block) -> tuple[TensorBatch, Counter]:
        """Tensors of the block's scorable alleles, and how many alleles were left out, by reason."""
        if not block.more:
            batch, skipped = self._build(records, block.region)
        else:
            of_contig = {contig: list(each) for contig, each in groupby(records, lambda record: record.contig)}
            parts = [self._build(of_contig.get(region.contig, []), region) for region in block.regions]
            batch = TensorBatch.concatenate([of_region for of_region, _ in parts])
            skipped = sum((counts for _, counts in parts), Counter())
        add_count("alleles", len(batch))
        return batch, skipped

    def _build(self, records: Sequence[Record], region: Region) -> tuple[TensorBatch, Counter]:
        # Density features count the callset's records on both sides of the region's ends.
        with part("read"):
            neighbours = starts_of(self.vcf.lines(region.padded(FURTHEST)), self._column)
        return build_tensors(
            records,
            self.reads,
            self.reference,
            self.settings,
            self.annotations,
            self.inputs.sample,
            neighbours,
        )

    def named(self, records: Sequence[Record], block: Block) -> tuple[list[AlleleNumber], TensorBatch]:
        """As :meth:`TensorSource.named`."""
        batch, _ = self.build(records, block)
        return [(key.record_index, key.alt_index) for key in batch.keys], batch
