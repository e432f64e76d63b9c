"""Blocks are shared out by predicted cost, and a run's manifest says how even it was."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cnnspark import stages
from cnnspark.config import load_config
from cnnspark.execution.blocks import Block, BlockSettings, cut_window, deal, share_out
from cnnspark.execution.tasks import run_tasks
from cnnspark.formats.binning_index import WINDOW_BASES
from cnnspark.formats.read_depth import ReadDepths
from cnnspark.formats.regions import Region
from cnnspark.stages.costs import Weigher, scoring_costs
from tests.conftest import Sample
from tests.test_blocks import lines_at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def blocks_of(costs: list[float]) -> list[Block]:
    return [Block(i, Region("c1", i, i + 1), 1, cost=cost) for i, cost in enumerate(costs)]


@pytest.mark.parametrize("tasks", [1, 2, 5, 16, 40])
def test_tasks_of_even_cost_hold_every_block_once(tasks: int) -> None:
    rng = random.Random(tasks)
    blocks = blocks_of([rng.uniform(0.5, 1.5) for _ in range(300)] + [20.0])
    groups = share_out(blocks, tasks)
    assert sorted(b.index for group in groups for b in group) == list(range(301))
    assert all([b.index for b in group] == sorted(b.index for b in group) for group in groups)
    costs = [sum(b.cost for b in group) for group in groups]
    assert len(costs) == tasks and costs == sorted(costs, reverse=True)
    best = max(20.0, sum(costs) / tasks)
    assert max(costs) <= 1.05 * best
    assert share_out(blocks, tasks) == groups


def test_blocks_of_unknown_cost_are_shared_out_by_number() -> None:
    assert sorted(len(group) for group in share_out(blocks_of([0.0] * 10), 4)) == [2, 2, 3, 3]
    assert share_out(blocks_of([1.0] * 2), 8) == [[b] for b in blocks_of([1.0] * 2)]
    assert share_out([], 8) == []


@pytest.mark.spark
def test_dealt_tasks_are_the_groups(spark: SparkSession) -> None:
    blocks = blocks_of([1.0] * 9 + [8.0])
    tasks = run_tasks(spark, deal(spark, blocks), lambda part: iter([[b.index for b in part]]), "look")
    assert tasks == [[b.index for b in group] for group in share_out(blocks, 4 * spark.sparkContext.defaultParallelism)]
    assert tasks[0] == [9]


@pytest.mark.spark
def test_a_runs_manifest_has_predicted_and_real_seconds(spark: SparkSession, sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    config = load_config(None, ["blocks.records=20"])
    stages.score_callset(spark, sample.unlabelled, sample.model, str(out), config)
    manifest = json.loads((out / "manifest.json").read_text())
    run = json.loads((out / "run.json").read_text())
    assert [row["predicted_seconds"] for row in manifest["shards"]] == [block["cost"] for block in run["blocks"]]
    assert all(row["predicted_seconds"] > 0 for row in manifest["shards"])
    found = manifest["runtime"]
    predicted = sum(row["predicted_seconds"] for row in manifest["shards"])
    assert found["predicted_seconds"] == pytest.approx(predicted, abs=1e-3)
    assert found["tasks"] == min(len(run["blocks"]), 4 * spark.sparkContext.defaultParallelism)
    assert found["block_seconds"]["max_over_mean"] >= 1 and found["task_seconds"]["max_over_mean"] >= 1
    # Stopped half way and begun again: the blocks are the same, their costs included.
    (out / "_SUCCESS").unlink()
    (out / "manifest" / "block-000001.json").unlink()
    stages.score_callset(spark, sample.unlabelled, sample.model, str(out), config, "resume")
    again = json.loads((out / "manifest.json").read_text())
    assert again["conservation"] == manifest["conservation"]


def test_a_dense_hundredth_of_the_genome_is_cut_into_even_blocks() -> None:
    """50 times the records and 5 times the reads in 1 % of 3 Mb, by predicted cost (benchmarks/balance.py measures)."""
    windows = 3_000_000 // WINDOW_BASES
    dense = range(1_500_000, 1_530_000)
    depths = np.full(windows, 30.0)
    depths[dense.start // WINDOW_BASES : dense.stop // WINDOW_BASES] *= 5
    reads = ReadDepths.of({"c1": depths * WINDOW_BASES / 150}, 150)
    starts = sorted({*range(0, 3_000_000, 1_000), *range(dense.start, dense.stop, 20)})
    weigher = Weigher(scoring_costs("reads", True), reads)
    cuts = cut_window(lines_at(starts), Region("c1"), BlockSettings(records=100), weigher)
    costs = [cut.cost for cut in cuts]
    assert max(costs) / (sum(costs) / len(costs)) < 1.5
    equal = np.histogram(starts, len(cuts))[0]
    assert equal.max() / equal.mean() > 5
    groups = share_out(blocks_of(costs), 8)
    tasks = [sum(block.cost for block in group) for group in groups]
    assert max(tasks) / (sum(tasks) / len(tasks)) < 1.2
