"""What Spark adds to the work: ``tensors`` and ``score`` against the same work in one plain process, on one core.

    python -m benchmarks.execution.job --data ../shared/data

All build tensors of the simulated freebayes callset block by block, and label and write them, or score them with the
bundled ``reads`` and write shards. The plain process calls the very functions that the tasks call; Spark's figures are
of the job alone (blocks planned, session up, model loaded): by the clock, and processor time of driver, JVM and
workers together.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.support.callsets import inputs_of, tensor_source, truth_of_sim
from benchmarks.support.command import arguments, finish
from benchmarks.support.measure import Timing, figure, in_rounds
from benchmarks.support.scoring_task import ScoringTask
from cnnspark import stages
from cnnspark.execution.blocks import Block, deal, plan_blocks
from cnnspark.execution.run_folder import RunFolder
from cnnspark.execution.session import spark_session
from cnnspark.execution.shards import SHARDS, shard_folder, write_shard
from cnnspark.execution.tasks import run_tasks
from cnnspark.formats.reference import ReferenceSource
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.dataset import dataset_folder
from cnnspark.variants.labeller import TruthPaths, open_labeller

STAGES = ("tensors", "score")


def build(part: Iterable[Block], inputs: Inputs, truth: TruthPaths, folder: RunFolder) -> Iterator[int]:
    """Does what one task of ``tensors`` does; yields the tensors of each block."""
    source = tensor_source(inputs)
    labeller = open_labeller(truth, source.vcf, inputs.reference)
    for block in part:
        yield stages.write_tensors(folder, block, source, labeller)["tensors"]


def score(part: Iterable[Block], inputs: Inputs, folder: RunFolder) -> Iterator[int]:
    """Does what one task of ``score`` does; yields the records of each block."""
    task = ScoringTask(inputs, "bundled:reads")
    for block in part:
        yield write_shard(folder, block, task.header, task.work).records_out


def cpu_seconds() -> float:
    """Processor time so far of this process and all its living children."""
    process = psutil.Process()
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def run_once(
    stage: str, run: Callable[..., int], blocks: Sequence[Block], inputs: Inputs, truth: TruthPaths
) -> tuple[float, float, int]:
    """Seconds by the clock and of the processor of ``run(work)``, and what it returned."""
    with tempfile.TemporaryDirectory() as out:
        folder = dataset_folder(out) if stage == "tensors" else shard_folder(out)
        folder.open({}, blocks, "overwrite")
        work = partial(build, inputs=inputs, truth=truth, folder=folder)
        if stage == "score":
            (Path(out) / SHARDS).mkdir()
            work = partial(score, inputs=inputs, folder=folder)
        started, used = time.monotonic(), cpu_seconds()
        done = run(work)
        return time.monotonic() - started, cpu_seconds() - used, done


def measure(stage: str, spark: Any, blocks: Sequence[Block], data: str, runs: int) -> tuple[dict, dict]:
    """A row of the table and the figure of one stage."""
    ways: dict[str, Callable[..., int]] = {
        "plain": lambda work: sum(work(blocks)),
        "Spark": lambda work: sum(run_tasks(spark, deal(spark, blocks), work, stage)),
    }
    given = blocks, inputs_of(data, "sim"), truth_of_sim(data)
    found = in_rounds({name: partial(run_once, stage, run, *given) for name, run in ways.items()}, runs)
    done = found["Spark"][-1][2]
    timings = {name: Timing.of(each[:2] for each in of_way) for name, of_way in found.items()}
    row: dict[str, Any] = {"stage": stage, "things": done, "blocks": len(blocks)}
    for clock in ("wall", "cpu"):
        plain, job = (statistics.median(getattr(timings[name], clock)) for name in ways)
        row |= {f"plain {clock} s": plain, f"Spark {clock} s": job, f"added {clock} %": 100 * (job / plain - 1)}
    return row, figure(f"Spark job: {stage}", done, "things", timings["Spark"], timings["plain"], "plain")


def main() -> None:
    options = arguments(__doc__, runs=3).parse_args()
    inputs = inputs_of(options.data, "sim")
    spark = spark_session("job", "local[1]")
    blocks = plan_blocks(spark, inputs.vcf, ReferenceSource(inputs.reference).lengths)
    found = [measure(stage, spark, blocks, options.data, options.runs) for stage in STAGES]
    finish(options, [row for row, _ in found], [made for _, made in found])


if __name__ == "__main__":
    main()
