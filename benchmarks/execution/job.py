"""What Spark adds to the work: ``tensors`` and ``score`` against the same work in one plain process, on one core.

    python -m benchmarks.execution.job --data ../shared/data

All build tensors of the simulated freebayes callset block by block, and label and write them, or score them with the
bundled ``reads`` and write shards. The plain process calls the very functions that the tasks call; Spark's figures are
of the job alone (blocks planned, session up, model loaded): by the clock, and processor time of driver, JVM and
workers together.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.support.measure import Timing, figure, figures_table, machine, table
from cnnspark import stages
from cnnspark.config import load_config
from cnnspark.execution.blocks import Block, deal, plan_blocks
from cnnspark.execution.run_folder import RunFolder
from cnnspark.execution.session import spark_session
from cnnspark.execution.shards import SHARDS, shard_folder, write_shard
from cnnspark.execution.tasks import run_tasks
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import VcfSource
from cnnspark.models.bundle_files import chosen_model
from cnnspark.models.card import model_tensors, read_card
from cnnspark.scoring import output
from cnnspark.scoring import score as scoring
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.tensors import block_tensors, dataset
from cnnspark.variants.annotations import default_annotations
from cnnspark.variants.labeller import TruthPaths, open_labeller

Work = Callable[[Iterable[Block]], Iterator[int]]


def build(part: Iterable[Block], inputs: block_tensors.Inputs, truth: TruthPaths, folder: RunFolder) -> Iterator[int]:
    """What one task of ``tensors`` does."""
    config = load_config()
    names = default_annotations(VcfSource(inputs.vcf).header)
    source = block_tensors.BlockTensors(inputs, names, config.tensors)
    labeller = open_labeller(truth, source.vcf, inputs.reference)
    for block in part:
        yield stages.write_tensors(folder, block, source, labeller)["tensors"]


def score(part: Iterable[Block], inputs: block_tensors.Inputs, folder: RunFolder) -> Iterator[int]:
    """What one task of ``score`` does."""
    config, model = load_config(), chosen_model("reads", with_reads=True)
    card = read_card(model)
    header = output.score_header(VcfSource(inputs.vcf).header, inputs.vcf, card).text()
    work = scoring.score_work(
        inputs, ScoringPlan(model, card, model_tensors(model, card, config.tensors), config.score)
    )
    for block in part:
        yield write_shard(folder, block, header, work).records_out


def cpu_seconds() -> float:
    """Processor time so far of this process and all that it started and that live."""
    process = psutil.Process()
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def timing(wall: dict[str, list[float]], cpu: dict[str, list[float]], kind: str) -> Timing:
    """The runs of one kind."""
    return Timing(tuple(wall[kind]), tuple(cpu[kind]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    sim = (Path(options.data) / "sim").absolute()
    truth = TruthPaths(str(sim / "DEV.truth.vcf.gz"), str(sim / "DEV.conf.bed"))
    inputs = block_tensors.Inputs(
        str(sim / "DEV.freebayes.vcf.gz"), str(sim / "DEV.bam"), str(sim / "ref.fa.gz"), sample="SIMDEV"
    )
    spark = spark_session("job", "local[1]")
    blocks = plan_blocks(spark, inputs.vcf, ReferenceSource(inputs.reference).lengths)
    rows, figures = [], []
    for stage in ("tensors", "score"):
        wall: dict[str, list[float]] = {"plain": [], "spark": []}
        cpu: dict[str, list[float]] = {"plain": [], "spark": []}
        for run in range(options.runs + 1):
            for kind in wall:
                with tempfile.TemporaryDirectory() as out:
                    work: Work
                    folder = dataset.dataset_folder(out) if stage == "tensors" else shard_folder(out)
                    folder.open({}, blocks, "overwrite")
                    if stage == "tensors":
                        work = partial(build, inputs=inputs, truth=truth, folder=folder)
                    else:
                        (Path(out) / SHARDS).mkdir()
                        work = partial(score, inputs=inputs, folder=folder)
                    started, used = time.monotonic(), cpu_seconds()
                    if kind == "plain":
                        done = sum(work(blocks))
                    else:
                        done = sum(run_tasks(spark, deal(spark, blocks), work, stage))
                    if run:  # the first round compiles and warms up
                        wall[kind].append(time.monotonic() - started)
                        cpu[kind].append(cpu_seconds() - used)
        figures.append(
            figure(
                f"Spark job: {stage}", done, "things", timing(wall, cpu, "spark"), timing(wall, cpu, "plain"), "plain"
            )
        )
        row: dict[str, Any] = {"stage": stage, "things": done, "blocks": len(blocks)}
        for name, seconds in (("wall", wall), ("cpu", cpu)):
            plain, job = statistics.median(seconds["plain"]), statistics.median(seconds["spark"])
            row |= {f"plain {name} s": plain, f"Spark {name} s": job, f"added {name} %": 100 * (job / plain - 1)}
        rows.append(row)
    print(machine())
    print(table(rows))
    print(figures_table(figures))
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, "figures": figures}) + "\n")


if __name__ == "__main__":
    main()
