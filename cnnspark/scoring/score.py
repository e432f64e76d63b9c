"""Scoring a callset: blocks of records to tensors, through the network, back into the records' INFO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cnnspark.execution.blocks import Block
from cnnspark.execution.prefetch import Steps
from cnnspark.execution.shards import BlockLines, BlockOutput
from cnnspark.formats.vcf import Record, lines_of, set_sample_values
from cnnspark.models.card import Card, score_key
from cnnspark.scoring.cascade import FirstStage, passed_on_text
from cnnspark.scoring.output import annotate, drop_stages, score_header  # noqa: F401
from cnnspark.scoring.predict import input_counts, predictor
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.tensors.block_tensors import BlockTensors, Inputs
from cnnspark.tensors.chunks import scorable
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.score_fields import (
    FORMAT_KEY,
    has_sample_scores,
    has_stages,
)

if TYPE_CHECKING:
    from cnnspark.tensors.schema import TensorBatch


def score_work(
    inputs: Inputs, model: str, card: Card, tensors: TensorSettings, settings: ScoreSettings,
    first: FirstStage | None = None,
) -> BlockLines:  # fmt: skip
    """What a task does with each block: its lines with scores, the counts of what was scored and why not, and how the
    model's inputs lie."""
    predict = predictor(model, card, settings, first)
    source = BlockTensors(inputs, card.annotation_names, tensors)
    key, has_old, had_stages = score_key(card), has_sample_scores(source.vcf.header), has_stages(source.vcf.header)

    def prepare(block: Block) -> tuple[list[Record], TensorBatch, Counter]:
        records = source.records(block)
        return records, *source.build(records, block)

    def finish(block: Block, prepared: tuple[list[Record], TensorBatch, Counter]) -> BlockOutput:
        records, batch, counts = prepared
        predicted = predict(batch, block)
        if had_stages:
            drop_stages(records)
        annotate(records, batch, predicted.scores, key, predicted.stages)
        if has_old:
            for record in records:
                set_sample_values(record, FORMAT_KEY, {})
        counts = Counter({f"passed through: {reason}": n for reason, n in counts.items()})
        counts["alleles scored"] = len(batch)
        counts.update(predicted.counts)
        counts["records scored"] = len({allele.record_index for allele in batch.keys})
        counts["records without a scorable allele"] = sum(not scorable(record) for record in records)
        return BlockOutput(lines_of(records), counts, input_counts(card, batch))

    return Steps(prepare, finish, settings.read_ahead)


def counts_text(counts: Mapping[str, int]) -> str:
    """What was scored and what was passed through, by reason, in one line for a person."""
    by_sample = counts.get("alleles scored, by sample")
    said = f"{counts.get('alleles scored', 0)} alleles scored" + (f" in {by_sample} carriers" if by_sample else "")
    if passed_on := passed_on_text(counts):
        said += f", {passed_on}"
    prefix = "passed through: "
    passed = [f"{count} {key.removeprefix(prefix)}" for key, count in counts.items() if key.startswith(prefix)]
    return f"{said}, passed through: {', '.join(passed)}" if passed else said
