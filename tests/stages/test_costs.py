"""Costs add up, weights follow depth, and the sums of a block are those that building its tensors really meets."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspark.config import InputPaths
from cnnspark.execution.blocks import BlockSettings, cut_window, number_blocks
from cnnspark.formats.binning_index import WINDOW_BASES
from cnnspark.formats.read_depth import ReadDepths
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.models.names import MODELS
from cnnspark.stages.costs import (
    NETWORKS,
    Costs,
    Expected,
    Weigher,
    Work,
    line_costs,
    scoring_costs,
    tensor_costs,
)
from cnnspark.tensors.block_tensors import BlockTensors, Inputs
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import unscorable_reason
from tests.execution.test_blocks import lines_at


def depths_of(*depths: float) -> ReadDepths:
    """Windows with these depths, of reads of 150 bases."""
    return ReadDepths.of({"c1": np.array(depths) * WINDOW_BASES / 150}, 150)


def test_work_and_costs_add_up() -> None:
    one, other = Work(1, 2, 3, 4, 5), Work(1, 1, 1, 1, 1)
    costs = Costs(1, 10, 100, 1000, 10_000)
    assert one + other == Work(2, 3, 4, 5, 6)
    assert costs.seconds(one) == 1 + 20 + 300 + 4000 + 50_000
    assert (costs + costs).seconds(one) == 2 * costs.seconds(one)
    assert costs.seconds(one + other) == costs.seconds(one) + costs.seconds(other)


def test_every_network_has_its_costs_and_reads_cost_where_they_are_looked_at() -> None:
    assert set(NETWORKS) == set(MODELS)
    for name in MODELS:
        assert scoring_costs(name, True).read > 0 and scoring_costs(name, True).allele > 0
        assert scoring_costs(name, False).read == 0
    assert tensor_costs(True).read > 0 and line_costs().read == 0 and line_costs().record > 0
    assert scoring_costs("of another kind", True) == scoring_costs("reads", True)
    usual = Work(blocks=1, alleles=1000, rows=30_000)
    seconds = {name: scoring_costs(name, True).seconds(usual) for name in ("features", "reads")}
    assert seconds["features"] < seconds["reads"] / 6


def test_a_usual_record_weighs_one_and_deeper_ones_weigh_more() -> None:
    weigher = Weigher(scoring_costs("reads", True), depths_of(5, 30, 90, 1000))
    weights = [weigher.weight("c1", w * WINDOW_BASES + 2000, w * WINDOW_BASES + 1000, 1) for w in range(4)]
    assert weights[:2] == pytest.approx([1, 1])
    assert 1.5 < weights[2] < 4 and weights[3] > weights[2]
    assert weigher.weight("c1", 2 * WINDOW_BASES, -1, 3) > weights[2]
    assert weigher.weight("c9", 5, -1, 1) == 1
    assert Weigher(scoring_costs("reads", True)).weight("c1", 5, -1, 4) == 1


def test_blocks_of_deep_regions_hold_fewer_records_and_blocks_of_usual_depth_as_many_as_they_may() -> None:
    starts = list(range(0, 2 * WINDOW_BASES, 20))
    weigher = Weigher(scoring_costs("reads", True), depths_of(30, 200))
    cuts = cut_window(lines_at(starts), Region("c1"), BlockSettings(records=100), weigher)
    usual = [cut.records for cut in cuts if cut.end <= WINDOW_BASES]
    deep = [cut.records for cut in cuts if cut.start > WINDOW_BASES + 2000]
    assert set(usual) == {100} and max(deep) < 60
    assert sum(cut.records for cut in cuts) == len(starts)
    assert min(cut.cost for cut in cuts) > 0
    again = cut_window(lines_at(starts), Region("c1"), BlockSettings(records=100), weigher)
    assert [cut.cost for cut in again] == [cut.cost for cut in cuts]


def test_without_depths_blocks_hold_the_same_number_of_records() -> None:
    weigher = Expected(scoring_costs("reads", True), "s3://bucket/reads.bam").open()
    cuts = cut_window(lines_at(list(range(1000))), Region("c1"), BlockSettings(records=100), weigher)
    assert [cut.records for cut in cuts] == [100] * 10
    assert all(cut.cost > 0 for cut in cuts)


def test_the_work_of_a_block_is_what_building_its_tensors_meets(
    simulated: InputPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = ReadSource.read

    def counting(self: ReadSource, region: Region, read_filter: object) -> object:
        batch = original(self, region, read_filter)  # type: ignore[arg-type]
        read.append(len(batch) + sum(batch.dropped.values()))
        return batch

    monkeypatch.setattr(ReadSource, "read", counting)
    inputs = Inputs(str(simulated.vcf), str(simulated.reads), str(simulated.reference), "SIM1")
    source = BlockTensors(inputs, (), TensorSettings())
    weigher = Expected(scoring_costs("reads", True), inputs.reads).open()
    with VcfSource(inputs.vcf) as lines:
        cuts = cut_window(lines.lines(Region("chrA")), Region("chrA"), BlockSettings(records=40), weigher)
        rows: list[tuple[float, int]] = []
        for block in number_blocks([(Region("chrA"), cuts)]):
            work = weigher.block()
            for line in lines.lines(block.region):
                columns = line.split("\t")
                scorable = sum(unscorable_reason(columns[3], alt) is None for alt in columns[4].split(","))
                work.add(columns[0], int(columns[1]) - 1, len(columns[3]), scorable)
            found = work.work()
            assert round(weigher.costs.seconds(found), 6) == block.cost
            read.clear()
            batch, _ = source.build(source.records(block), block)
            assert (found.records, found.alleles) == (block.records, len(batch))
            assert found.reads == pytest.approx(sum(read), rel=0.15)
            rows += [(found.rows, int(batch.row_offsets[-1]))]
    # Depth is a window's mean, and false alleles are where it is highest (collapsed paralogs).
    estimated, built = map(sum, zip(*rows, strict=True))
    assert estimated == pytest.approx(built, rel=0.4), rows
