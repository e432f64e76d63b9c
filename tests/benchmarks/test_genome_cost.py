"""Costs of a genome are arithmetic on what was measured."""

from __future__ import annotations

import pytest

from benchmarks.tensors.genome_cost import Sizes, core_hours, genome_bytes, report
from cnnspark.execution.blocks import BlockSettings
from cnnspark.tensors.site_features import READ_REACH


def test_core_hours_are_records_by_rate():
    assert core_hours(1_000, 3_600_000) == 1.0
    assert core_hours(1_000, 3_600_000, genomes=1_000) == 1_000
    with pytest.raises(ValueError, match="a rate of 0"):
        core_hours(0)


def test_bytes_of_a_genome_count_each_pass():
    """Two blocks: what lies beside each block's two ends is decoded twice."""
    settings = BlockSettings()
    records, bases = 2 * settings.records, 1_000_000
    found = genome_bytes(Sizes(reads_by_base=20, record_in=90, record_out=110), records, bases)
    assert found.reads == pytest.approx(20 * (bases + 2 * 2 * READ_REACH))
    assert (found.callset, found.shards, found.merged) == (2 * records * 90, 2 * records * 110, records * 110)
    # Far between, the bases of a block bound it.
    sparse = genome_bytes(Sizes(20, 90, 110), records=1, bases=10 * settings.bases)
    assert sparse.driver == 10 * found.driver / 2


def test_the_report_is_of_the_rates_at_a_genomes_density():
    figures = {"score reads": {"rate": 1.0}, "score reads, genome": {"rate": 5_000_000 / 3600}}
    text = report(figures, Sizes(20, 90, 110))
    assert [line.split() for line in text.splitlines() if line.startswith("reads")][0] == [
        "reads",
        "1,389",
        "1",
        "1,000",
    ]
    with pytest.raises(SystemExit, match="no figure"):
        report({"score reads": {"rate": 1.0}}, Sizes(20, 90, 110))
