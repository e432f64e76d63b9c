"""Reads an allele and the records around it from a callset, in the same way as scoring does.

Tensors come from the classes that ``cnnspark score`` builds them with, so that the score is that of the scored callset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cnnspark.errors import InputError
from cnnspark.execution.blocks import Block
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.reports.allele.position import alts_of, choose_alt, nothing_there, parse_position
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.tensors.block_tensors import BlockTensors, Inputs, TensorSource
from cnnspark.tensors.carrier_tensors import CarrierTensors
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.site_features import FURTHEST
from cnnspark.variants.alleles import ref_agrees

# How many records on each side belong to a site.
NEIGHBOURS = 5


@dataclass(frozen=True)
class Site:
    """An allele of one sample, the records around it, and the tensors of their scorable alleles.

    Attributes:
        sample: The sample's name; empty if the callset has none.
        header: The callset's.
        records: The records around the position, in the callset's order.
        tensors: Of their scorable alleles.
        alleles: For each tensor the number of its record (``Record.index``) and of its ALT (from 1).
        record: The record of the allele that was asked for.
        alt_number: The number of its ALT, from 1.
        alts: All ALTs at the position.
    """

    sample: str
    header: VcfHeader
    records: tuple[Record, ...]
    tensors: TensorBatch
    alleles: tuple[tuple[int, int], ...]
    record: Record
    alt_number: int
    alts: tuple[str, ...]

    @property
    def index(self) -> int:
        """The number of the allele's tensor."""
        return self.alleles.index((self.record.index, self.alt_number))


def model_digest(lines: Sequence[str]) -> str | None:
    """The SHA-256 of the model in a scored callset's header: the last one of several; None in other callsets."""
    found = [re.search(r"ModelSHA256=([0-9a-f]{64})", line) for line in lines if line.startswith("##cnnspark_model=<")]
    return next((match[1] for match in reversed(found) if match), None)


def find_site(inputs: Inputs, vcf: str, plan: ScoringPlan, at: str, alt: str | None) -> Site:
    """Reads the allele that is asked for and the records around it.

    Args:
        inputs: Of the scoring; with ``members``, one of several samples is scored.
        vcf: What messages call the callset.
        plan: How the callset is scored.
        at: The position, as ``chr20:10000117`` (1-based).
        alt: The ALT; None takes the first that can be scored.

    Raises:
        UsageError: If the position is not one, or has no such ALT that can be scored.
        InputError: If no record is there, its REF is not the reference's, or the sample does not carry the ALT.
    """
    several = bool(inputs.members)
    source: TensorSource = (
        CarrierTensors(inputs, plan.card.annotation_names, plan.tensors, max_carriers=1)
        if several
        else BlockTensors(inputs, plan.card.annotation_names, plan.tensors, text_is_missing=True)
    )
    source.vcf.path = vcf  # messages name the user's file, not a copy
    contig, start = parse_position(at, [*source.vcf.contigs, *source.reference.lengths])
    block = Block(0, Region(contig, start, start + 1).padded(FURTHEST))
    around = list(source.vcf.records(block.region))
    here = [record for record in around if record.start == start]
    if not here:
        raise InputError(nothing_there(source.vcf, contig, start))
    record, number = choose_alt(here, alt, at)
    records = _nearest(around, start)
    alleles, batch = source.named(records, block)
    sample = inputs.sample or (inputs.members[0].sample if several else "")
    if (record.index, number) not in alleles:
        reason = _why_not(source.reference.letters(contig, record.start, record.end), record, at, sample)
        raise InputError(reason)
    return Site(
        sample=sample,
        header=source.vcf.header,
        records=tuple(records),
        tensors=batch,
        alleles=tuple(alleles),
        record=record,
        alt_number=number,
        alts=tuple(alts_of(here)),
    )


def _nearest(records: Sequence[Record], start: int) -> list[Record]:
    """All records at ``start`` and the NEIGHBOURS nearest on each side, in the callset's order."""
    before = [record for record in records if record.start < start][-NEIGHBOURS:]
    after = [record for record in records if record.start > start][:NEIGHBOURS]
    return [*before, *(record for record in records if record.start == start), *after]


def _why_not(letters: str, record: Record, at: str, sample: str) -> str:
    """Why the record has no tensor; ``letters`` are the reference's in place of its REF."""
    if not ref_agrees(record.ref, letters):
        return f"the record at {at} has a REF that the reference does not have there; give the callset's own reference"
    return (
        f"sample '{sample}' does not carry that ALT at {at}, so it has no score there; choose another --sample or --alt"
    )
