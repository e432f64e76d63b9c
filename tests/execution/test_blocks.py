"""Blocks: they tile the callset, whatever the windows, and their digests add up."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cnnspark import execution, stages
from cnnspark.config import load_config
from cnnspark.errors import InputError
from cnnspark.execution.blocks import (
    Block,
    BlockSettings,
    candidate_windows,
    cut_window,
    deal,
    join_small_contigs,
    number_blocks,
    share_out,
    windows_of,
)
from cnnspark.execution.records_digest import add_digests
from cnnspark.execution.tasks import run_tasks
from cnnspark.formats.binning_index import WINDOW_BASES
from cnnspark.formats.read_depth import ReadDepths
from cnnspark.formats.regions import END_OF_CONTIG, Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.stages.costs import Weigher, scoring_costs
from cnnspark.stages.requests import ScoreRequest
from tests.conftest import Sample, write_vcf

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def lines_at(starts: list[int]) -> list[str]:
    return [f"c1\t{start + 1}\t.\tA\tC\t.\t.\t." for start in starts]


def test_blocks_tile_their_window_and_hold_each_record_once() -> None:
    rng = random.Random(3)
    starts = sorted(rng.choices(range(5000), k=400))
    window = Region("c1", 0, END_OF_CONTIG)
    cuts = cut_window(lines_at(starts), window, BlockSettings(records=30, bases=900))
    assert cuts[0].start == 0 and cuts[-1].end == END_OF_CONTIG
    assert all(a.end == b.start for a, b in zip(cuts, cuts[1:], strict=False))
    assert sum(cut.records for cut in cuts) == len(starts)
    for cut in cuts:
        inside = [s for s in starts if cut.start <= s < cut.end]
        assert len(inside) == cut.records
        assert (inside[0], inside[-1]) == (cut.first_start, cut.last_start)
        assert inside[-1] - inside[0] < 900 or len(set(inside)) == 1


def test_records_of_one_position_stay_in_one_block() -> None:
    cuts = cut_window(lines_at([5] * 10 + [6] * 10), Region("c1", 0, 100), BlockSettings(records=3))
    assert [cut.records for cut in cuts] == [10, 10]


def test_a_window_without_records_has_no_block() -> None:
    assert cut_window([], Region("c1", 0, 100), BlockSettings()) == []


@pytest.mark.parametrize("length", [None, 5, 10_000_000, 25_000_000])
def test_windows_tile_a_contig_to_its_open_end(length: int | None) -> None:
    windows = windows_of(["c1"], {"c1": length})
    assert windows[0].start == 0 and windows[-1].end == END_OF_CONTIG
    assert all(a.end == b.start for a, b in zip(windows, windows[1:], strict=False))


def test_chosen_regions_are_taken_in_the_callsets_order_and_once() -> None:
    regions = [Region("c2", 5, 9), Region("c1", 10, 20), Region("c1", 15, 30), Region("c3", 0, 5)]
    assert windows_of(["c1", "c2"], {}, regions) == [Region("c1", 10, 30), Region("c2", 5, 9)]


def test_records_are_numbered_through_all_blocks() -> None:
    window = Region("c1", 0, 100)
    other = Region("c2", 0, 100)
    settings = BlockSettings(records=2)
    counted = [
        (window, cut_window(lines_at([1, 2, 3]), window, settings)),
        (other, cut_window(lines_at([1]), other, settings)),
    ]
    blocks = number_blocks(counted)
    assert [(b.index, b.first_record, b.records) for b in blocks] == [(0, 0, 2), (1, 2, 1), (2, 3, 1)]


def test_candidate_windows_follow_the_references_order() -> None:
    windows = candidate_windows({"c1": 250_000, "c2": 50_000}, [Region("c2", 0, 50_000), Region("c1", 90_000, 120_000)])
    assert [(w.region.contig, w.region.start, w.region.end) for w in windows] == [
        ("c1", 90_000, 100_000),
        ("c1", 100_000, 120_000),
        ("c2", 0, 50_000),
    ]
    assert len(candidate_windows({"c1": 250_000, "c2": 50_000})) == 4


def test_a_line_with_too_few_columns_is_an_input_error() -> None:
    with pytest.raises(InputError, match="too few columns"):
        cut_window(["c1\t5\t.\tA\tC"], Region("c1"), BlockSettings())


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
def test_dealt_tasks_are_the_groups(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution.blocks, "TASKS_PER_SLOT", 4)
    blocks = blocks_of([1.0] * 9 + [8.0])
    tasks = run_tasks(spark, deal(spark, blocks), lambda part: iter([[b.index for b in part]]), "look")
    assert tasks == [[b.index for b in group] for group in share_out(blocks, 4 * spark.sparkContext.defaultParallelism)]
    assert tasks[0] == [9]


@pytest.mark.spark
def test_a_runs_manifest_has_predicted_and_real_seconds(spark: SparkSession, sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    config = load_config(None, ["blocks.records=20"])
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), config))
    manifest = json.loads((out / "manifest.json").read_text())
    run = json.loads((out / "run.json").read_text())
    assert [row["predicted_seconds"] for row in manifest["shards"]] == [block["cost"] for block in run["blocks"]]
    assert all(row["predicted_seconds"] > 0 for row in manifest["shards"])
    found = manifest["runtime"]
    predicted = sum(row["predicted_seconds"] for row in manifest["shards"])
    assert found["predicted_seconds"] == pytest.approx(predicted, abs=1e-3)
    slots = spark.sparkContext.defaultParallelism
    assert found["tasks"] == min(len(run["blocks"]), execution.blocks.TASKS_PER_SLOT * slots)
    assert found["block_seconds"]["max_over_mean"] >= 1 and found["task_seconds"]["max_over_mean"] >= 1
    # Stopped half way and begun again: the blocks are the same, their costs included.
    (out / "_SUCCESS").unlink()
    (out / "manifest" / "block-000001.json").unlink()
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), config, "resume"))
    again = json.loads((out / "manifest.json").read_text())
    assert again["conservation"] == manifest["conservation"]


def test_a_dense_hundredth_of_the_genome_is_cut_into_even_blocks() -> None:
    """50 times the records and 5 times the reads in 1 % of 3 Mb, by predicted cost: benchmarks.execution.balance."""
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


def test_small_contigs_make_one_block_as_far_as_it_holds_them() -> None:
    settings = BlockSettings(records=4, bases=1000)
    starts = {
        "a": [5],
        "b": [7, 9],
        "c": [],
        "d": [1],
        "e": [2],
        "f": [1, 500],
        "g": [3],
        "h": [1, 2, 3, 4, 5],
        "i": [1],
    }
    counted = [
        (Region(contig), cut_window([line.replace("c1", contig) for line in lines_at(at)], Region(contig), settings))
        for contig, at in starts.items()
    ]
    blocks = number_blocks(join_small_contigs(counted, settings))
    assert [[region.contig for region in block.regions] for block in blocks] == [
        ["a", "b", "d"], ["e", "f", "g"], ["h"], ["h"], ["i"],
    ]  # fmt: skip
    assert [block.records for block in blocks] == [4, 4, 4, 1, 1]
    assert [block.first_record for block in blocks] == [0, 4, 8, 12, 13]
    apart = number_blocks(counted)
    assert add_digests(block.digest for block in blocks) == add_digests(block.digest for block in apart)
    assert [block.more for block in apart] == [()] * len(apart)
    narrow = BlockSettings(records=4, bases=400)
    assert [block.region.contig for block in number_blocks(join_small_contigs(counted, narrow))] == list("aefghhi")


def test_a_block_reads_the_records_of_all_its_contigs(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "in.vcf.gz", ["c1 5 . A C . . .", "c1 9 . A C . . .", "c2 3 . A G . . ."])
    with VcfSource(path) as source:
        block = Block(0, Region("c1"), first_record=7, more=(Region("c2"),))
        assert [(record.index, record.contig, record.start) for record in block.read(source)] == [
            (7, "c1", 4), (8, "c1", 8), (9, "c2", 2),
        ]  # fmt: skip
