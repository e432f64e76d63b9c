"""Scoring a callset of several samples: each ALT in its carriers; FORMAT has each score, INFO their mean.

A carrier's tensor is built from its own reads, columns and neighbouring records, and from the record as a callset of
this sample alone would have it (:mod:`cnnspark.variants.carriers`). So its score is the one that such a callset gets.

INFO has the mean of the carriers' log odds. It stays on the scale of one sample's thresholds however many carriers
there are; their maximum grows with the number of carriers, so a threshold would let common alleles pass
(docs/formats.md has figures).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from cnnspark.execution.blocks import Block
from cnnspark.execution.shards import BlockLines, BlockOutput
from cnnspark.formats.vcf import Record, VcfHeader, check_header_field, lines_of, set_sample_values
from cnnspark.models.card import Card
from cnnspark.models.input_drift import add_counts, pack_counts
from cnnspark.scoring.cascade import FirstStage
from cnnspark.scoring.missing_annotations import missing_counts
from cnnspark.scoring.output import drop_stages
from cnnspark.scoring.output import score_header as header_of_one
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.predict import WITHOUT_READS, Predicted, input_counts, predictor
from cnnspark.tensors.block_tensors import AlleleNumber, Inputs
from cnnspark.tensors.carrier_tensors import CarrierTensors
from cnnspark.tensors.chunks import scorable
from cnnspark.tensors.schema import TensorBatch
from cnnspark.variants.score_fields import ALT_SCORES, FORMAT_KEY, STAGE, format_score, has_stages, stages_text

# Of thousands of members each has a few alleles of a block: so many are predicted together.
ALLELES_AT_ONCE = 512


def score_header(header: VcfHeader, path: str, card: Card, first: FirstStage | None = None) -> VcfHeader:
    """The callset's header with the declarations of a scored one.

    Raises:
        InputError: the callset declares one of the fields as something else.
    """
    check_header_field(header, path, FORMAT_KEY, "A", "Float", "FORMAT")
    key = card.score_key
    line = (
        f'##FORMAT=<ID={FORMAT_KEY},Number=A,Type=Float,Description="Natural log of the odds that each ALT is a true '
        "variant of this sample, between -16.118 and 16.118, higher is more likely true, missing where the sample does "
        f'not carry it or was not chosen; INFO/{key} has the mean">'
    )
    of_whom = f", the mean over the scored carriers (FORMAT/{FORMAT_KEY})"
    return header_of_one(header.with_lines([line]), path, card, first, of_whom)


# Of each allele the scores of its carriers, by the number of the column.
CarrierScores = Mapping[AlleleNumber, Mapping[int, float]]


def aggregate(scores: Iterable[float]) -> float:
    """An allele's score from its carriers' scores: their mean."""
    values = list(scores)
    return math.fsum(values) / len(values)


def annotate(
    records: Sequence[Record], scores: CarrierScores, key: str, stages: Mapping[AlleleNumber, int] | None = None
) -> None:
    """Writes the scores into the records: INFO has each ALT's mean and the best of these, FORMAT each carrier's score.

    Scores of another run are removed from records and columns that have none now.

    Args:
        records: the block's; they are changed.
        scores: of each allele, its carriers' scores by column.
        key: the INFO key of the best.
        stages: of each allele, the last stage that a carrier reached; None without a cascade.
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


def score_work(inputs: Inputs, plan: ScoringPlan) -> BlockLines:
    """What a task does with each block: as that of :mod:`cnnspark.scoring.single_sample`, for each allele's carriers.

    The model's inputs are counted once for each scored allele of a sample.
    """
    predict, key = predictor(plan), plan.key
    source = CarrierTensors(inputs, plan.card.annotation_names, plan.tensors, plan.settings.max_carriers)
    had_stages = has_stages(source.vcf.header)

    def work(block: Block) -> BlockOutput:
        found = source.carriers(block)
        scores, stages, more, lie = _predict(
            source.tensors(found), predict, plan, block, any(member.reads for member in inputs.members)
        )
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
    plan: ScoringPlan,
    block: Block,
    with_reads: bool,
) -> tuple[dict[AlleleNumber, dict[int, float]], dict[AlleleNumber, int], Counter[str], list[str]]:
    """Predicts a block's carriers; tensors are released as soon as they are scored.

    Returns:
        The scores by allele and column, each allele's last stage (empty without a cascade), counts of stages and of
        missing annotations, and the packed input counts.
    """
    card = plan.card
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
        if with_reads:
            counts[WITHOUT_READS] += int((np.diff(batch.row_offsets) == 0).sum())
        counts.update(missing_counts(plan, batch))
        packed.append(input_counts(card, batch))
        waiting.clear()

    for member in members:
        waiting.append(member)
        if sum(len(alleles) for _, alleles, _ in waiting) >= ALLELES_AT_ONCE:
            score_waiting()
    score_waiting()
    lie = [] if card.known is None else pack_counts(add_counts(card.known, packed))
    return scores, stages, counts, lie
