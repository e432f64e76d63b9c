"""What a run says about itself: its lines, its table of blocks, and the names of its Spark jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cnnspark.common import stopwatch
from cnnspark.common.log import about
from cnnspark.execution import block_times
from cnnspark.execution.blocks import Block, block_range
from cnnspark.execution.session import described, read_properties
from cnnspark.formats.regions import Region
from tests.conftest import ROOT, Sample, rows_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_jobs_have_the_stage_as_group_while_it_lasts(spark: SparkSession) -> None:
    context = spark.sparkContext
    before = len(context.statusTracker().getJobIdsForGroup("cnnspark probe"))  # of other tests
    context.setJobGroup("mine", "my own")
    try:
        with about(stage="probe", sample="S1"), described(spark, "1 of 1 blocks"):
            context.parallelize([1], 1).count()
            assert context.getLocalProperty("spark.job.description") == "cnnspark probe S1: 1 of 1 blocks"
            with described(spark, "within"):
                assert context.getLocalProperty("spark.job.description") == "cnnspark probe S1: within"
            assert context.getLocalProperty("spark.job.description") == "cnnspark probe S1: 1 of 1 blocks"
        assert len(context.statusTracker().getJobIdsForGroup("cnnspark probe")) == before + 1
        assert context.getLocalProperty("spark.jobGroup.id") == "mine"
        assert context.getLocalProperty("spark.job.description") == "my own"
    finally:
        for name in ("spark.jobGroup.id", "spark.job.description"):
            context.setLocalProperty(name, None)  # type: ignore[arg-type]


def test_a_range_of_blocks_names_first_and_last() -> None:
    blocks = [Block(i, Region("c1", 1000 * i, 1000 * i + 1000)) for i in (3, 5, 8)]
    assert block_range(blocks, 10) == "3 of 10 blocks, 3 (c1:3001-4000) to 8 (c1:8001-9000)"


@pytest.fixture(scope="module")
def scored(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict], list[dict]]:
    """A run with an event log: its folder, the lines that it wrote, and Spark's events."""
    folder = tmp_path_factory.mktemp("observed")
    (folder / "events").mkdir()
    paths = sample.unlabelled
    command = [
        *(sys.executable, "-m", "cnnspark.cli", "score", "--vcf", str(paths.vcf), "--reads", str(paths.reads)),
        *("--reference", str(paths.reference), "--model", sample.model, "--out", str(folder / "out")),
        *("--set", "blocks.records=20", "--master", "local[2]", "--log-format", "json"),
        *("--conf-spark", "spark.eventLog.enabled=true", "--conf-spark", f"spark.eventLog.dir={folder / 'events'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (log,) = (folder / "events").iterdir()
    return folder / "out", parsed(done.stderr.splitlines()), parsed(log.read_text().splitlines())


def parsed(lines: Sequence[str]) -> list[dict]:
    return [json.loads(line) for line in lines]


def test_every_line_of_a_run_is_json_and_names_its_stage(scored: tuple[Path, list[dict], list[dict]]) -> None:
    lines = scored[1]
    assert {line["level"] for line in lines} <= {"info", "warning"}
    planned = next(line for line in lines if "blocks" in line)
    manifest = json.loads((scored[0] / "manifest.json").read_text())
    assert (planned["stage"], planned["records"], planned["blocks"]) == (
        "score",
        manifest["conservation"]["records_in"],
        len(manifest["shards"]),
    )
    assert planned["sample"] and any("block_seconds" in line for line in lines)


def test_the_event_log_names_stage_sample_and_blocks(scored: tuple[Path, list[dict], list[dict]]) -> None:
    started = [event for event in scored[2] if event["Event"] == "SparkListenerJobStart"]
    (sample_name,) = {row["sample"] for row in rows_of(scored[0] / "blocks.tsv")}
    blocks = rows_of(scored[0] / "blocks.tsv")
    names = [event["Properties"]["spark.job.description"] for event in started]
    assert names[:2] == [
        f"cnnspark score {sample_name}: compare the executors with the driver",
        f"cnnspark score {sample_name}: count records and cut blocks",
    ]
    assert names[2].startswith(f"cnnspark score {sample_name}: {len(blocks)} of {len(blocks)} blocks, 0 (")
    assert f" to {len(blocks) - 1} (" in names[2]
    assert names[3:] == [f"cnnspark score {sample_name}: merge {len(blocks)} shards"]
    assert {event["Properties"]["spark.jobGroup.id"] for event in started} == {"cnnspark score"}


def test_the_report_says_of_each_block_where_its_time_went(scored: tuple[Path, list[dict], list[dict]]) -> None:
    rows = rows_of(scored[0] / "blocks.tsv")
    manifest = json.loads((scored[0] / "manifest.json").read_text())
    assert tuple(rows[0]) == block_times.COLUMNS
    assert [int(row["block"]) for row in rows] == [shard["block"] for shard in manifest["shards"]]
    assert sum(int(row["records"]) for row in rows) == manifest["conservation"]["records_out"]
    assert sum(int(row["alleles"]) for row in rows) == manifest["counts"]["alleles scored"]
    for row in rows:
        parts = {name: float(row[f"{name}_seconds"]) for name in stopwatch.PARTS}
        assert sum(parts.values()) == pytest.approx(float(row["seconds"]), abs=0.002)
        assert parts["label"] == 0 and all(parts[name] > 0 for name in ("read", "encode", "predict", "write"))
        assert int(row["reads"]) > 0 and int(row["peak_mib"]) > 100 and row["host"]
    # Spark's own record of the tasks has each task that the report names.
    ended = [event for event in scored[2] if event["Event"] == "SparkListenerTaskEnd"]
    tasks = {f"{e['Stage ID']}.{e['Task Info']['Index']}.{e['Task Info']['Attempt']}": e["Task Info"] for e in ended}
    for name in {row["task"] for row in rows}:
        info = tasks[name]
        of_blocks = sum(float(row["seconds"]) for row in rows if row["task"] == name)
        assert of_blocks <= (info["Finish Time"] - info["Launch Time"]) / 1000
    summary = manifest["runtime"]
    assert summary["tasks"] == len({row["task"] for row in rows})
    assert summary["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in rows), abs=0.01)
    assert summary["block_seconds"]["max"] == max(float(row["seconds"]) for row in rows)
    assert "runtime" not in manifest["shards"][0]


@pytest.mark.parametrize("name", ["yarn", "k8s"])
def test_clusters_keep_an_event_log(name: str) -> None:
    properties = read_properties(str(ROOT / "conf" / "spark" / f"{name}.conf"))
    assert properties["spark.eventLog.enabled"] == "true" and "://" in properties["spark.eventLog.dir"]
