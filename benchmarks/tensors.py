"""How fast reads become tensors on one core, stage by stage, beside plain pysam decoding of the same reads.

    python -m benchmarks.tensors --data ../shared/data --set HG002 --set NA12878 --set NA12878-cram --set sim

One process without Spark, pinned to one core. ``everything`` is what a task of ``cnnspark tensors`` or ``score`` does
before the network: records of the callset, reads, tensor, features, annotations. ``pysam decoding`` goes through the
same reads with pysam and takes name, flag, position, mapping quality, CIGAR, bases and qualities of each into arrays,
nothing more; the ratio says how much faster than that alone ``everything`` is. Rates are alleles a second, medians of
several runs; the spread is slowest to fastest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from benchmarks.measure import Timing, blocks_of, machine, pin_to_one_core, repeat, table
from cnnspark import dataset, features, kernels, reads, rows
from cnnspark.annotations import AnnotationReader, default_annotations
from cnnspark.blocks import Block
from cnnspark.reference import CODE_OF_ASCII
from cnnspark.schema import UNKNOWN
from cnnspark.scoring import BlockTensors, Inputs
from cnnspark.tensors import TensorSettings
from cnnspark.vcf import VcfSource

# callset, reads, reference, sample
SETS = {
    "HG002": ("real/HG002/HG002.freebayes.vcf.gz", "real/HG002/HG002.20.bam", "real/HG002/ref.b37.20.fa.gz", "HG002"),
    "NA12878": (
        "real/NA12878/NA12878.freebayes.vcf.gz",
        "real/NA12878/NA12878.chr20.bam",
        "real/NA12878/ref.hg19.chr20.fa.gz",
        "NA12878",
    ),
    "NA12878-cram": (
        "real/NA12878/NA12878.freebayes.vcf.gz",
        "real/NA12878/NA12878.chr20.cram",
        "real/NA12878/ref.hg19.chr20.fa.gz",
        "NA12878",
    ),
    "sim": ("sim/DEV.freebayes.vcf.gz", "sim/DEV.bam", "sim/ref.fa.gz", "SIMDEV"),
}
# What each stage calls: the place of the function, and the name under which its time is added up.
STAGES: tuple[tuple[Any, str, str], ...] = (
    (reads.ReadSource, "read", "reading"),
    (kernels, "observe", "encoding"),
    (rows, "encode", "encoding"),
    (kernels, "pileup", "features"),
    (features, "site_features", "features"),
    (AnnotationReader, "values", "annotations"),
)


@contextmanager
def stage_seconds() -> Iterator[dict[str, float]]:
    """Adds up the seconds spent in each stage's functions while the block runs."""
    spent = dict.fromkeys(("reading", "encoding", "features", "annotations"), 0.0)
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in STAGES]

    def timed(function: Callable, stage: str) -> Callable:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent[stage] += time.perf_counter() - started

        return call

    try:
        for (owner, name, original), (_, _, stage) in zip(originals, STAGES, strict=True):
            setattr(owner, name, timed(original, stage))
        yield spent
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def inputs_of(data: str, name: str) -> Inputs:
    """The paths of one of the sets."""
    vcf, read_path, reference, sample = SETS[name]
    folder = Path(data)
    return Inputs(str(folder / vcf), str(folder / read_path), str(folder / reference), sample)


def pysam_decoding(inputs: Inputs, regions: list[tuple[str, int, int]]) -> int:
    """The reads of these regions through pysam's objects into numpy arrays; returns how many."""
    count = 0
    assert inputs.reads is not None
    with pysam.AlignmentFile(inputs.reads, reference_filename=inputs.reference) as file:
        for contig, start, end in regions:
            kept = []
            for segment in file.fetch(contig, start, end):
                if segment.flag & 0xF04 or not segment.query_sequence:
                    continue
                letters = np.frombuffer(segment.query_sequence.encode(), np.uint8)
                quals = segment.query_qualities
                kept.append(
                    (
                        segment.query_name,
                        segment.flag,
                        segment.reference_start,
                        segment.mapping_quality,
                        segment.template_length,
                        np.array(segment.cigartuples, np.int32),
                        CODE_OF_ASCII[letters],
                        np.zeros(len(letters), np.uint8) if quals is None else np.frombuffer(quals, np.uint8),
                    )
                )
            count += len(kept)
    return count


def read_regions(source: BlockTensors, blocks: list[Block]) -> list[tuple[str, int, int]]:
    """The regions whose reads the encoder asks for."""
    asked = []
    original = reads.ReadSource.read

    def noting(self: reads.ReadSource, region: Any, read_filter: Any) -> Any:
        asked.append((region.contig, region.start, min(region.end, self.contig_lengths[region.contig])))
        return original(self, region, read_filter)

    reads.ReadSource.read = noting  # type: ignore[method-assign]
    try:
        for block in blocks:
            source.build(source.records(block), block)
    finally:
        reads.ReadSource.read = original  # type: ignore[method-assign]
    return asked


def measure_set(inputs: Inputs, runs: int, limit: int | None = None) -> dict[str, Any]:
    """The rates of one set, in alleles a second; at most ``limit`` blocks of it."""
    blocks = blocks_of(inputs.vcf)[:limit]
    with VcfSource(inputs.vcf) as callset:
        names = default_annotations(callset.header)
    source = BlockTensors(inputs, names, TensorSettings())
    regions = read_regions(source, blocks)
    batches = [source.build(source.records(block), block)[0] for block in blocks]
    alleles = sum(len(batch) for batch in batches)

    def everything() -> None:
        for block in blocks:
            source.build(source.records(block), block)

    def by_stage() -> None:
        with stage_seconds() as spent:
            started = time.perf_counter()
            everything()
            whole = time.perf_counter() - started
        for stage, seconds in spent.items():
            stages.setdefault(stage, []).append(seconds)
        core = spent["reading"] + spent["encoding"] + spent["features"]
        stages.setdefault("records, haplotypes, rest", []).append(whole - core - spent["annotations"])

    stages: dict[str, list[float]] = {}
    whole = repeat(everything, runs)
    repeat(by_stage, runs)
    decoding = repeat(lambda: pysam_decoding(inputs, regions), max(3, runs // 3))
    with tempfile.TemporaryDirectory() as folder:
        run = dataset.dataset_folder(folder)
        run.open({}, blocks, "fail")

        def write() -> None:
            for block, batch in zip(blocks, batches, strict=True):
                dataset.write_block(run, block, batch, np.full(len(batch), UNKNOWN), inputs.sample, {})

        writing = repeat(write, max(3, runs // 3))

    medians = {stage: statistics.median(seconds[1:]) for stage, seconds in stages.items()}
    rates = {stage: Timing(tuple(seconds[1:])).rate(alleles) for stage, seconds in stages.items()}
    core_seconds = medians["reading"] + medians["encoding"] + medians["features"]
    return {
        "records": sum(block.records for block in blocks),
        "alleles": alleles,
        "reads": pysam_decoding(inputs, regions),
        "runs": runs,
        "stages": rates,
        "reading_encoding_features": round(alleles / core_seconds, 1),
        "everything": whole.rate(alleles),
        "writing": writing.rate(alleles),
        "pysam_decoding": decoding.rate(alleles),
        "ratio_to_pysam_decoding": round(statistics.median(decoding.wall) / statistics.median(whole.wall), 2),
        "machine": machine(),
    }


def report(name: str, result: dict[str, Any]) -> str:
    """One set's rates as text."""
    rows_ = [{"stage": stage} | rate for stage, rate in result["stages"].items()]
    rows_ += [
        {"stage": stage} | result[stage.replace(" ", "_")] for stage in ("everything", "writing", "pysam decoding")
    ]
    facts = result["machine"]
    return (
        f"{name}: {result['records']:,} records, {result['alleles']:,} alleles, {result['reads']:,} reads, one core of "
        f"{facts['processor']}, load {facts['load']}; alleles a second, {result['runs']} runs\n{table(rows_)}\n"
        f"reading + encoding + features: {result['reading_encoding_features']:,.0f} alleles/s; everything is "
        f"{result['ratio_to_pysam_decoding']} x as fast as pysam decoding alone"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--set", dest="sets", action="append", choices=sorted(SETS), help="[HG002]")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--blocks", type=int, metavar="N", help="the first N blocks of each set alone")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    pin_to_one_core()
    results = {}
    for name in options.sets or ["HG002"]:
        results[name] = measure_set(inputs_of(options.data, name), options.runs, options.blocks)
        print(report(name, results[name]) + "\n", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
