"""What Spark adds to building tensors: the ``tensors`` stage against the same work in one plain process, on one core.

    python -m benchmarks.job --data ../shared/data

Both build, label and write the simulated freebayes callset's tensors block by block. The plain process calls the very
functions that the tasks call; the stage's figure is the time of its Spark job alone (blocks planned, session up).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from cnnspark import dataset, scoring, stages
from cnnspark.annotations import default_annotations
from cnnspark.blocks import Block, deal, plan_blocks
from cnnspark.config import load_config
from cnnspark.inputs import Labeller, TruthPaths
from cnnspark.reference import ReferenceSource
from cnnspark.session import spark_session
from cnnspark.vcf import VcfSource


def build(part: Iterable[Block], inputs: scoring.Inputs, truth: TruthPaths, out: str) -> Iterator[int]:
    """What one task does."""
    config = load_config()
    names = default_annotations(VcfSource(inputs.vcf).header)
    source = scoring.BlockTensors(inputs, names, config.tensors)
    labeller = Labeller(truth, source.vcf, inputs.reference)
    folder = dataset.dataset_folder(out)
    for block in part:
        yield stages.write_tensors(folder, block, source, labeller)["tensors"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    sim = (Path(options.data) / "sim").absolute()
    truth = TruthPaths(str(sim / "DEV.truth.vcf.gz"), str(sim / "DEV.conf.bed"))
    inputs = scoring.Inputs(
        str(sim / "DEV.freebayes.vcf.gz"), str(sim / "DEV.bam"), str(sim / "ref.fa.gz"), sample="SIMDEV"
    )
    spark = spark_session("job", "local[1]")
    blocks = plan_blocks(spark, inputs.vcf, ReferenceSource(inputs.reference).lengths)
    seconds: dict[str, list[float]] = {"plain": [], "spark": []}
    tensors = 0
    for run in range(options.runs + 1):
        for kind in seconds:
            with tempfile.TemporaryDirectory() as out:
                dataset.dataset_folder(out).open({}, blocks, "overwrite")
                started = time.monotonic()
                if kind == "plain":
                    tensors = sum(build(blocks, inputs, truth, out))
                else:
                    work = partial(build, inputs=inputs, truth=truth, out=out)
                    tensors = sum(deal(spark, blocks).mapPartitions(work).collect())
                if run:  # the first round compiles and warms up
                    seconds[kind].append(time.monotonic() - started)
    plain, job = (statistics.median(values) for values in seconds.values())
    print(f"{tensors} tensors, {len(blocks)} blocks, one core, median of {options.runs}")
    print(f"plain process {plain:.2f} s ({tensors / plain:,.0f}/s), Spark job {job:.2f} s ({tensors / job:,.0f}/s)")
    print(f"Spark adds {100 * (job / plain - 1):.1f} %")
    if options.json:
        Path(options.json).write_text(json.dumps({"tensors": tensors, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
