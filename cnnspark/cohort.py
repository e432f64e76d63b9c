"""Scoring a callset of several samples: each ALT in its carriers, FORMAT has each score, INFO their mean.

A carrier's tensor is built from its own reads, columns and neighbouring records, and of the record as a callset of
this sample alone would have it (:mod:`cnnspark.members`), so that its score is what that callset would be given.

INFO has the mean of the carriers' log odds. It stays on the scale of one sample's thresholds however many carriers
there are; their maximum grows with them, so that a threshold would let pass whatever is common (docs/formats.md has
figures).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnspark.alleles import NO_ALT, REF_MISMATCH, unscorable_reason
from cnnspark.blocks import Block
from cnnspark.chunks import agreeing
from cnnspark.features import FURTHEST
from cnnspark.first_stage import STAGE, FirstStage, has_stages, stages_text
from cnnspark.guard import add_counts, pack_counts
from cnnspark.members import (
    NO_CARRIER,
    Member,
    MemberAnnotations,
    MemberRecord,
    call_text,
    carried_alts,
    choose_carriers,
)
from cnnspark.models.card import Card
from cnnspark.preflight import check_header_field
from cnnspark.reads import ReadSource
from cnnspark.reference import ReferenceSource
from cnnspark.runtime import add_count, part
from cnnspark.sample_columns import set_sample_values
from cnnspark.schema import TensorBatch
from cnnspark.scoring import (
    ALT_SCORES,
    FORMAT_KEY,
    Inputs,
    Predicted,
    ScoreSettings,
    drop_stages,
    format_score,
    input_counts,
    lines_of,
    predictor,
    scorable,
    score_key,
)
from cnnspark.scoring import score_header as header_of_one
from cnnspark.shards import BlockLines, BlockOutput
from cnnspark.tensors import TensorSettings, build_tensors
from cnnspark.vcf import Record, VcfHeader, VcfSource

# Members whose reads stay open between blocks: an index of a whole genome's reads is some 10 MB.
OPEN_READS = 8
# Of thousands of members each has a few alleles of a block: so many are predicted together.
ALLELES_AT_ONCE = 512

# An allele of the callset: the record's number and the ALT's, from 1.
AlleleNumber = tuple[int, int]


def score_header(header: VcfHeader, path: str, card: Card, first: FirstStage | None = None) -> VcfHeader:
    """The callset's header with the declarations of a scored one.

    Raises InputError where the callset declares one of the fields as something else.
    """
    check_header_field(header, path, FORMAT_KEY, "A", "Float", "FORMAT")
    key = score_key(card)
    line = (
        f'##FORMAT=<ID={FORMAT_KEY},Number=A,Type=Float,Description="Natural log of the odds that each ALT is a true '
        "variant of this sample, between -16.118 and 16.118, higher is more likely true, missing where the sample does "
        f'not carry it or was not chosen; INFO/{key} has the mean">'
    )
    of_whom = f", the mean over the scored carriers (FORMAT/{FORMAT_KEY})"
    return header_of_one(header.with_lines([line]), path, card, first, of_whom)


@dataclass
class BlockCarriers:
    """A block's records and who is to be scored in them."""

    records: list[Record] = field(default_factory=list)
    # By member: the records as it has them, and the alleles that it was chosen for.
    views: list[list[MemberRecord]] = field(default_factory=list)
    chosen: list[set[AlleleNumber]] = field(default_factory=list)
    # By member: the sorted starts of the records that it carries, those around the block, too.
    starts: list[list[int]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # alleles passed through, by reason
    left_out: int = 0  # carriers beyond the limit


class CohortTensors:
    """Builds the tensors of one block after another, each member's of the alleles that it was chosen for.

    Files stay open between blocks. Make it inside the task.
    """

    def __init__(self, inputs: Inputs, annotations: Sequence[str], settings: TensorSettings, max_carriers: int):
        self.inputs, self.settings, self.max_carriers = inputs, settings, max_carriers
        self.vcf = VcfSource(inputs.vcf)
        self.reference = ReferenceSource(inputs.reference)
        self.members: tuple[Member, ...] = inputs.members
        self.columns = tuple(self.vcf.header.samples.index(member.sample) for member in self.members)
        self.annotations = MemberAnnotations(self.vcf.header, annotations, of_one_sample=True)
        self._open: dict[str, ReadSource] = {}

    @part("read")
    def carriers(self, block: Block) -> BlockCarriers:
        """The block's records, and the members that are scored in each of their ALTs."""
        found = BlockCarriers(
            views=[[] for _ in self.members], chosen=[set() for _ in self.members], starts=[[] for _ in self.members]
        )
        index = block.first_record
        for line in self.vcf.lines(block.region.padded(FURTHEST)):
            record = Record(line)
            carried = carried_alts(record, self.columns)
            for starts, numbers in zip(found.starts, carried, strict=True):
                if numbers:
                    starts.append(record.start)
            if block.region.owns(record.start):
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
        """Whether REF is the reference's; else ``alts`` alleles are counted or, by the settings, an InputError is
        raised: once for the record, whoever carries it."""
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
                batch, _ = build_tensors(
                    views,
                    self._reads(member),
                    self.reference,
                    self.settings,
                    self.annotations,
                    member.sample,
                    np.array(found.starts[number], np.int64),
                )
            numbers = {view.index: view.numbers for view in views}
            alleles = [(key.record_index, numbers[key.record_index][key.alt_index - 1]) for key in batch.keys]
            # Tensors are built of all ALTs that the member carries: they take part in each other's.
            kept = [i for i, allele in enumerate(alleles) if allele in found.chosen[number]]
            add_count("alleles", len(kept))
            yield self.columns[number], [alleles[i] for i in kept], batch.take(kept)

    def _reads(self, member: Member) -> ReadSource | None:
        if not member.reads:
            return None
        if member.reads in self._open:
            return self._open[member.reads]
        while len(self._open) >= OPEN_READS:
            self._open.pop(next(iter(self._open))).close()
        return self._open.setdefault(member.reads, ReadSource(member.reads, self.inputs.reference))


# Of each allele the scores of its carriers, by the number of the column.
CarrierScores = Mapping[AlleleNumber, Mapping[int, float]]


def aggregate(scores: Iterable[float]) -> float:
    """An allele's score from those of its carriers: their mean."""
    values = list(scores)
    return math.fsum(values) / len(values)


def annotate(
    records: Sequence[Record], scores: CarrierScores, key: str, stages: Mapping[AlleleNumber, int] | None = None
) -> None:
    """Writes the scores into the records: INFO has each ALT's aggregate and the best, FORMAT each carrier's.

    ``stages`` are the last that a carrier of the allele came to, where there are two.

    Scores of another run are taken out of records and columns that have none now.
    """
    for record in records:
        of_alts = [scores.get((record.index, number), {}) for number in range(1, len(record.alts) + 1)]
        columns = sorted({column for of_alt in of_alts for column in of_alt})
        texts = {c: ",".join(format_score(of_alt.get(c)) for of_alt in of_alts) for c in columns}
        set_sample_values(record, FORMAT_KEY, texts)
        if not columns:
            if f"{key}=" in record.info:
                record.drop_info((key, ALT_SCORES))
            continue
        each = [aggregate(of_alt.values()) if of_alt else None for of_alt in of_alts]
        best = max(value for value in each if value is not None)
        values = {key: format_score(best), ALT_SCORES: ",".join(map(format_score, each))}
        if stages:
            values[STAGE] = stages_text([stages.get((record.index, i)) for i in range(1, len(record.alts) + 1)])
        record.set_info(values)


def score_work(
    inputs: Inputs, model: str, card: Card, tensors: TensorSettings, settings: ScoreSettings,
    first: FirstStage | None = None,
) -> BlockLines:  # fmt: skip
    """What a task does with each block: as :func:`cnnspark.scoring.score_work`, of each allele's carriers.

    The model's inputs are counted once for each scored allele of a sample.
    """
    predict = predictor(model, card, settings, first)
    source = CohortTensors(inputs, card.annotation_names, tensors, settings.max_carriers)
    key, had_stages = score_key(card), has_stages(source.vcf.header)

    def work(block: Block) -> BlockOutput:
        found = source.carriers(block)
        scores, stages, more, lie = _predict(source.tensors(found), predict, card, block)
        if had_stages:
            drop_stages(found.records)
        annotate(found.records, scores, key, stages)
        counts = Counter({f"passed through: {reason}": n for reason, n in found.counts.items()})
        counts["alleles scored"] = len(scores)
        counts["alleles scored, by sample"] = sum(map(len, scores.values()))
        counts.update(more)
        counts["records scored"] = len({record for record, _ in scores})
        counts["records without a scorable allele"] = sum(not scorable(record) for record in found.records)
        if found.left_out:
            counts["carriers beyond score.max_carriers"] = found.left_out
        return BlockOutput(lines_of(found.records), counts, lie)

    return work


def _predict(
    members: Iterable[tuple[int, list[AlleleNumber], TensorBatch]],
    predict: Callable[[TensorBatch, Block], Predicted],
    card: Card,
    block: Block,
) -> tuple[dict[AlleleNumber, dict[int, float]], dict[AlleleNumber, int], Counter[str], list[str]]:
    """The scores of a block's carriers, each allele's last stage where there are two, what is counted of these, and how
    the carriers' inputs lie. Tensors are let go as soon as they are scored."""
    scores: dict[AlleleNumber, dict[int, float]] = defaultdict(dict)
    stages: dict[AlleleNumber, int] = {}
    counts: Counter[str] = Counter()
    packed: list[list[str]] = []
    waiting: list[tuple[int, list[AlleleNumber], TensorBatch]] = []

    def score_waiting() -> None:
        if not waiting:
            return
        batch = TensorBatch.concatenate([tensors for _, _, tensors in waiting])
        names = [(allele, column) for column, alleles, _ in waiting for allele in alleles]
        found = predict(batch, block)
        for (allele, column), value in zip(names, found.scores, strict=True):
            scores[allele][column] = float(value)
        if found.stages is not None:
            for (allele, _), stage in zip(names, found.stages.tolist(), strict=True):
                stages[allele] = max(stage, stages.get(allele, 0))
        counts.update(found.counts)
        packed.append(input_counts(card, batch))
        waiting.clear()

    for member in members:
        waiting.append(member)
        if sum(len(alleles) for _, alleles, _ in waiting) >= ALLELES_AT_ONCE:
            score_waiting()
    score_waiting()
    lie = [] if card.known is None else pack_counts(add_counts(card.known, packed))
    return scores, stages, counts, lie
