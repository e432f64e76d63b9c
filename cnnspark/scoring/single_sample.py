"""Scoring a callset of one sample: records to tensors, through the network, scores into the records' INFO."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from cnnspark.execution.blocks import Block
from cnnspark.execution.prefetch import Steps
from cnnspark.execution.shards import BlockLines, BlockOutput
from cnnspark.formats.vcf import Record, lines_of, set_sample_values
from cnnspark.scoring.missing_annotations import missing_counts
from cnnspark.scoring.output import annotate, drop_stages
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.predict import WITHOUT_READS, input_counts, predictor
from cnnspark.tensors.block_tensors import BlockTensors, Inputs
from cnnspark.tensors.chunks import scorable
from cnnspark.variants.score_fields import (
    FORMAT_KEY,
    has_sample_scores,
    has_stages,
)

if TYPE_CHECKING:
    from cnnspark.tensors.schema import TensorBatch


def score_work(inputs: Inputs, plan: ScoringPlan) -> BlockLines:
    """What a task does with each block: its lines with scores, counts by reason, and counts of the model's inputs."""
    predict, card, key = predictor(plan), plan.card, plan.key
    source = BlockTensors(inputs, card.annotation_names, plan.tensors, text_is_missing=True)
    has_old, had_stages = has_sample_scores(source.vcf.header), has_stages(source.vcf.header)

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
        if inputs.reads is not None:
            counts[WITHOUT_READS] = int((np.diff(batch.row_offsets) == 0).sum())
        counts.update(predicted.counts)
        counts.update(missing_counts(plan, batch))
        counts["records scored"] = len({allele.record_index for allele in batch.keys})
        counts["records without a scorable allele"] = sum(not scorable(record) for record in records)
        return BlockOutput(lines_of(records), counts, input_counts(card, batch))

    return Steps(prepare, finish, plan.settings.read_ahead)
