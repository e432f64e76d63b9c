"""The same bytes however the blocks are dealt to tasks: blocks are cut by the callset and the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cnnspark import stages
from cnnspark.config import InputPaths, load_config
from cnnspark.execution import blocks
from cnnspark.formats.regions import Region
from cnnspark.stages.requests import ScoreRequest
from cnnspark.tensors.dataset import CARD
from tests.conftest import Sample

pytestmark = pytest.mark.spark

PARTITIONS = (1, 2, 5, 40)


@contextmanager
def dealt(spark: Any, tasks: int) -> Iterator[None]:
    """Stages deal their blocks to so many tasks, as Spark's default parallelism says, which its backend looks up."""
    conf = spark.sparkContext._jsc.sc().conf()
    before = blocks.TASKS_PER_SLOT
    conf.set("spark.default.parallelism", str(tasks))
    blocks.TASKS_PER_SLOT = 1
    try:
        yield
    finally:
        blocks.TASKS_PER_SLOT = before
        conf.remove("spark.default.parallelism")


def scored(spark: Any, paths: InputPaths, model: str, settings: list[str], folder: Path) -> list[tuple[bytes, bytes]]:
    """Merged file and index by each number of partitions."""
    outcomes = []
    for tasks in PARTITIONS:
        with dealt(spark, tasks):
            out = folder / str(tasks)
            result = stages.score_callset(spark, ScoreRequest(paths, model, str(out), load_config(None, settings)))
        assert result["conservation"]["blocks"] >= 40
        assert result["conservation"]["records_in"] == result["conservation"]["records_out"]
        outcomes.append(((out / "merged.vcf.gz").read_bytes(), (out / "merged.vcf.gz.tbi").read_bytes()))
    return outcomes


def test_blocks_are_dealt_to_as_many_tasks_as_are_wanted(spark: Any) -> None:
    for tasks in PARTITIONS:
        with dealt(spark, tasks):
            some = [blocks.Block(number, Region("c1", number, number + 1), cost=1.0) for number in range(50)]
            assert len(blocks.deal(spark, some)) == tasks


def test_any_number_of_partitions_scores_the_same_bytes(spark: Any, sample: Sample, tmp_path: Path) -> None:
    outcomes = scored(spark, sample.unlabelled, sample.model, ["blocks.records=5"], tmp_path)
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_any_number_of_partitions_makes_the_same_tensors(spark: Any, sample: Sample, tmp_path: Path) -> None:
    with dealt(spark, 40):
        stages.build_dataset(spark, sample.paths, str(tmp_path / "tensors"), sample.config)
    # The card has each file's SHA-256.
    assert (tmp_path / "tensors" / CARD).read_text() == (Path(sample.dataset) / CARD).read_text()


SETS = {
    "real": ("real/HG002/HG002.freebayes.vcf.gz", "real/HG002/HG002.20.bam", "real/HG002/ref.b37.20.fa.gz"),
    "sim": ("sim/DEV.freebayes.vcf.gz", "sim/DEV.bam", "sim/ref.fa.gz"),
}


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(("name", "records"), [("real", 10), pytest.param("sim", 250, marks=pytest.mark.slow)])
def test_any_number_of_partitions_scores_real_and_simulated_reads_the_same(
    spark: Any, data: Path, tmp_path: Path, name: str, records: int
) -> None:
    paths = InputPaths(*(str(data / path) for path in SETS[name]))
    outcomes = scored(spark, paths, "bundled:reads", [f"blocks.records={records}"], tmp_path)
    assert all(outcome == outcomes[0] for outcome in outcomes)
