"""What a task of ``score`` does, in this process: the function of the jobs, without Spark."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnspark.execution.blocks import Block
from cnnspark.execution.shards import SHARDS, ShardRow, shard_folder, write_shard
from cnnspark.formats.vcf import VcfSource
from cnnspark.models.bundle_files import absolute_model
from cnnspark.models.card import model_tensors, read_card
from cnnspark.scoring import cascade
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.score import score_header, score_work
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.stages.costs import Expected as ExpectedCosts
from cnnspark.stages.costs import Weigher, scoring_costs
from cnnspark.tensors.batches import ROWS_AT_ONCE, scoring_batches
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings


class ScoringTask:
    """A model, ready to score the blocks of a callset. Reads are left out if the model does not look at them."""

    def __init__(
        self, inputs: Inputs, model: str, settings: ScoreSettings | None = None, with_first: bool | None = False
    ):  # fmt: skip
        """Opens the files and the model's card.

        Args:
            inputs: The callset's files.
            model: A bundle's path, or ``bundled:NAME``.
            settings: How to score; the defaults if not given.
            with_first: Whether the first model of a bundle of two scores first; None leaves that to its card.

        Raises:
            CnnsparkError: If ``with_first`` is True and the bundle has no first model.
        """
        self.model = absolute_model(model)
        self.card = read_card(self.model)
        self.looks_at_reads = self.card.looks_at_reads
        self.inputs = inputs if self.looks_at_reads else replace(inputs, reads=None)
        self.tensors = model_tensors(self.model, self.card, TensorSettings())
        self.first = cascade.first_stage(self.model, self.card, with_first)
        plan = ScoringPlan(self.model, self.card, self.tensors, settings or ScoreSettings(), self.first)
        with VcfSource(inputs.vcf) as source:
            self.header = score_header(source.header, inputs.vcf, plan, inputs).text()
        self.work = score_work(self.inputs, plan)

    def weigher(self) -> Weigher:
        """Predicts what the model's blocks cost."""
        costs = scoring_costs(self.card.model, self.looks_at_reads)
        return ExpectedCosts(costs, self.inputs.reads, self.tensors.read_limit).open()

    def open_shards(self, out: Path, blocks: Sequence[Block]) -> None:
        """Makes a new folder for the shards of these blocks."""
        self.folder = shard_folder(str(out))
        self.folder.open({}, blocks, "overwrite")
        (out / SHARDS).mkdir(exist_ok=True)

    def write(self, block: Block) -> ShardRow:
        """Scores a block into its shard."""
        return write_shard(self.folder, block, self.header, self.work)

    def cpu_seconds(self, block: Block) -> float:
        """Processor time of scoring a block without writing it."""
        used = time.process_time()
        for _ in self.work(block).lines:
            pass
        return time.process_time() - used


def logits_of(
    bundle: Any, tensors: TensorBatch, size: int = ScoreSettings.batch_size, rows_at_once: int = ROWS_AT_ONCE
) -> np.ndarray:
    """A bundle's logits of alleles, float64 (n,), in the batches that scoring makes of them on a processor."""
    logits = np.zeros(len(tensors), np.float64)
    for chosen, arrays in scoring_batches(tensors, size, getattr(bundle, "inputs", None), rows_at_once):
        logits[chosen] = bundle.logits(arrays)
    return logits
