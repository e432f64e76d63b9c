"""The tensors of the carriers of each allele, in callsets of several samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from cnnspark.common.stopwatch import add_count, part
from cnnspark.execution.blocks import Block
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.tensors.block_tensors import AlleleNumber, Inputs
from cnnspark.tensors.builder import build_tensors
from cnnspark.tensors.chunks import agreeing, empty_batch
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import FURTHEST
from cnnspark.variants.alleles import NO_ALT, REF_MISMATCH, unscorable_reason
from cnnspark.variants.carriers import (
    NO_CARRIER,
    Member,
    MemberAnnotations,
    MemberRecord,
    call_text,
    carried_alts,
    choose_carriers,
)

# Members whose reads stay open between blocks: an index of a whole genome's reads is some 10 MB.
OPEN_READS = 8


@dataclass
class BlockCarriers:
    """A block's records and who is to be scored in them."""

    records: list[Record] = field(default_factory=list)
    # By member: the records as it has them, and the alleles that it was chosen for.
    views: list[list[MemberRecord]] = field(default_factory=list)
    chosen: list[set[AlleleNumber]] = field(default_factory=list)
    # By member and contig: the sorted starts of the records that it carries, including those around the block.
    starts: list[dict[str, list[int]]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # alleles passed through, by reason
    left_out: int = 0  # carriers beyond the limit


class CarrierTensors:
    """The :class:`cnnspark.tensors.block_tensors.TensorSource` of a callset of several samples with reads of their own.

    Each member has tensors of the alleles that it was chosen for. The annotations are a model's: those that the callset
    declares as text are missing.
    """

    def __init__(self, inputs: Inputs, annotations: Sequence[str], settings: TensorSettings, max_carriers: int):
        self.inputs, self.settings, self.max_carriers = inputs, settings, max_carriers
        self.vcf = VcfSource(inputs.vcf)
        self.reference = ReferenceSource(inputs.reference)
        self.members: tuple[Member, ...] = inputs.members
        self.columns = tuple(self.vcf.header.samples.index(member.sample) for member in self.members)
        self.annotations = MemberAnnotations(
            self.vcf.header, annotations, settings.annotations_by_sample, text_is_missing=True
        )
        self._open: dict[str, ReadSource] = {}

    @part("read")
    def carriers(self, block: Block) -> BlockCarriers:
        """The block's records, and the members that are scored in each of their ALTs."""
        found = BlockCarriers(
            views=[[] for _ in self.members],
            chosen=[set() for _ in self.members],
            starts=[defaultdict(list) for _ in self.members],
        )
        index = block.first_record
        for region in block.regions:
            for line in self.vcf.lines(region.padded(FURTHEST)):
                record = Record(line)
                carried = carried_alts(record, self.columns)
                for starts, numbers in zip(found.starts, carried, strict=True):
                    if numbers:
                        starts[record.contig].append(record.start)
                if region.owns(record.start):
                    record.index = index
                    index += 1
                    found.records.append(record)
                    self._choose(record, carried, found)
        return found

    def _choose(self, record: Record, carried: Sequence[tuple[int, ...]], found: BlockCarriers) -> None:
        by_alt: dict[int, list[int]] = defaultdict(list)
        for member, numbers in enumerate(carried):
            for number in numbers:
                by_alt[number].append(member)
        wanted: dict[int, set[AlleleNumber]] = defaultdict(set)
        if not record.alts:
            found.counts[NO_ALT] += 1
        of_alts = 0
        for number, alt in enumerate(record.alts, 1):
            reason = unscorable_reason(record.ref, alt)
            if reason is not None or number not in by_alt:
                found.counts[reason or NO_CARRIER] += 1
                continue
            of_alts += 1
            carriers = {self.members[member].sample: member for member in by_alt[number]}
            names = choose_carriers(
                list(carriers), self.max_carriers, self.settings.seed, record.contig, record.start, record.ref, alt
            )
            found.left_out += len(carriers) - len(names)
            for name in names:
                wanted[carriers[name]].add((record.index, number))
        if not wanted or not self._agrees(record, of_alts, found.counts):
            return
        for member, alleles in wanted.items():
            found.views[member].append(MemberRecord(record, carried[member], call_text(record, self.columns[member])))
            found.chosen[member] |= alleles

    def _agrees(self, record: Record, alts: int, counts: Counter[str]) -> bool:
        """Whether REF is the reference's.

        If not, ``alts`` alleles are counted or, by the settings, an InputError is raised: once for the record.
        """
        start = max(record.start, 0)
        text = self.reference.sequence(record.contig, start, max(record.end, start))
        mismatched: Counter[str] = Counter()
        kept = agreeing([(record, (1,))], text, start, self.reference, self.settings, mismatched)
        if mismatched:
            counts[REF_MISMATCH] += alts
        return bool(kept)

    def tensors(self, found: BlockCarriers) -> Iterator[tuple[int, list[AlleleNumber], TensorBatch]]:
        """Each member's column, alleles and their tensors, one member after another in the order of the columns."""
        for number, member in enumerate(self.members):
            views = found.views[number]
            if not views:
                continue
            with part("encode"):
                parts = [
                    build_tensors(
                        list(of_contig),
                        self._reads(member),
                        self.reference,
                        self.settings,
                        self.annotations,
                        member.sample,
                        np.array(found.starts[number][contig], np.int64),
                    )[0]
                    for contig, of_contig in groupby(views, lambda view: view.contig)
                ]
                batch = parts[0] if len(parts) == 1 else TensorBatch.concatenate(parts)
            numbers = {view.index: view.numbers for view in views}
            alleles = [(key.record_index, numbers[key.record_index][key.alt_index - 1]) for key in batch.keys]
            # Tensors are built of all ALTs that the member carries: they take part in each other's.
            kept = [i for i, allele in enumerate(alleles) if allele in found.chosen[number]]
            add_count("alleles", len(kept))
            yield self.columns[number], [alleles[i] for i in kept], batch.take(kept)

    def named(self, records: Sequence[Record], block: Block) -> tuple[list[AlleleNumber], TensorBatch]:
        """As :meth:`cnnspark.tensors.block_tensors.TensorSource.named`; an allele is there once for each carrier."""
        batches = list(self.tensors(self.carriers(block)))
        if not batches:
            return [], empty_batch(len(self.annotations.names), 0)
        alleles = [allele for _, each, _ in batches for allele in each]
        return alleles, TensorBatch.concatenate([batch for _, _, batch in batches])

    def _reads(self, member: Member) -> ReadSource | None:
        if not member.reads:
            return None
        if member.reads in self._open:
            return self._open[member.reads]
        while len(self._open) >= OPEN_READS:
            self._open.pop(next(iter(self._open))).close()
        return self._open.setdefault(member.reads, ReadSource(member.reads, self.inputs.reference))
