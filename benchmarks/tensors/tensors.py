"""How fast reads become tensors on one core, stage by stage, beside plain pysam decoding of the same reads.

    python -m benchmarks.tensors.tensors --data ../shared/data --set HG002 --set "generated 100x" --set "long reads"

One process without Spark, pinned to one core. ``everything`` is what a task of ``cnnspark tensors`` or ``score`` does
before the network: records of the callset, reads, tensor, features, annotations. The limit of all stages is ``pysam
decoding``: pysam reads name, flag, position, mapping quality, CIGAR, bases and qualities of the same reads into arrays.
A ratio above 1 says that a stage takes less time than that. Rates are alleles a second of processor time, medians of
several runs; low and high are the slowest and the fastest.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from benchmarks.support.callsets import SETS, blocks_of, inputs_of, tensor_source
from benchmarks.support.command import arguments, figures_table, machine_text, use_one_core, write_results
from benchmarks.support.measure import Timing, figure, time_in_rounds
from benchmarks.tensors import generated
from cnnspark.execution.blocks import Block
from cnnspark.formats import reads
from cnnspark.formats.reference import CODE_OF_ASCII
from cnnspark.tensors import pileup_kernels, row_kernels, site_feature_kernels
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.schema import TensorBatch
from cnnspark.variants.annotations import AnnotationReader

# The functions of each stage: owner, name, and the stage that their time is added to.
STAGES: tuple[tuple[Any, str, str], ...] = (
    (reads.ReadSource, "read", "reading"),
    (pileup_kernels, "observe", "encoding"),
    (row_kernels, "encode", "encoding"),
    (pileup_kernels, "pileup", "features"),
    (site_feature_kernels, "site_features", "features"),
    (AnnotationReader, "values", "annotations"),
)


@contextmanager
def stage_seconds() -> Iterator[dict[str, float]]:
    """Adds up the seconds of processor time spent in each stage's functions while the block runs."""
    spent = dict.fromkeys(("reading", "encoding", "features", "annotations"), 0.0)
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in STAGES]

    def timed(function: Callable, stage: str) -> Callable:
        def call(*arguments: Any) -> Any:
            started = time.process_time()
            try:
                return function(*arguments)
            finally:
                spent[stage] += time.process_time() - started

        return call

    try:
        for (owner, name, original), (_, _, stage) in zip(originals, STAGES, strict=True):
            setattr(owner, name, timed(original, stage))
        yield spent
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


@contextmanager
def opened_set(data: str, name: str) -> Iterator[Inputs]:
    """The files of a set, of the shared data or generated; they exist while the block runs."""
    if name in SETS:
        yield inputs_of(data, name)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield generated.SETS[name](Path(folder))


def pysam_decoding(inputs: Inputs, regions: list[tuple[str, int, int]]) -> int:
    """Reads these regions through pysam's objects into numpy arrays; returns the number of reads."""
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


def read_regions(build: Callable[[Block], object], blocks: Sequence[Block]) -> list[tuple[str, int, int]]:
    """The regions that are read while the blocks are built."""
    asked = []
    original = reads.ReadSource.read

    def noting(self: reads.ReadSource, region: Any, read_filter: Any) -> Any:
        asked.append((region.contig, region.start, min(region.end, self.contig_lengths[region.contig])))
        return original(self, region, read_filter)

    reads.ReadSource.read = noting  # type: ignore[method-assign]
    try:
        for block in blocks:
            build(block)
    finally:
        reads.ReadSource.read = original  # type: ignore[method-assign]
    return asked


def measure_set(name: str, inputs: Inputs, runs: int, limit: int | None = None) -> dict[str, Any]:
    """The figures of one set; at most ``limit`` blocks of it."""
    blocks = blocks_of(inputs.vcf)[:limit]
    source = tensor_source(inputs)

    def build(block: Block) -> TensorBatch:
        return source.build(source.records(block), block)[0]

    regions = read_regions(build, blocks)
    alleles = sum(len(build(block)) for block in blocks)

    def everything() -> None:
        for block in blocks:
            build(block)

    def by_stage() -> None:
        with stage_seconds() as spent:
            started = time.process_time()
            everything()
            whole = time.process_time() - started
        for stage, seconds in spent.items():
            stages.setdefault(stage, []).append(seconds)
        stages.setdefault("records, haplotypes, rest", []).append(whole - sum(spent.values()))

    stages: dict[str, list[float]] = {}
    found = time_in_rounds(
        {"everything": everything, "stages": by_stage, "decoding": lambda: pysam_decoding(inputs, regions)}, runs
    )
    decoding = found["decoding"]

    def of(stage: str, work: Timing) -> dict[str, Any]:
        return figure(f"{name}: {stage}", alleles, "alleles", work, decoding, "pysam decoding")

    figures = [of(stage, Timing(tuple(seconds[1:]), tuple(seconds[1:]))) for stage, seconds in stages.items()]
    return {
        "records": sum(block.records for block in blocks),
        "alleles": alleles,
        "reads": pysam_decoding(inputs, regions),
        "figures": [*figures, of("everything", found["everything"])],
    }


def report(name: str, result: dict[str, Any]) -> str:
    """One set's rates as text."""
    return (
        f"{name}: {result['records']:,} records, {result['alleles']:,} alleles, {result['reads']:,} reads, on one core "
        f"of {machine_text()}\n{figures_table(result['figures'])}"
    )


def main() -> None:
    parser = arguments(__doc__, runs=7)
    parser.add_argument("--set", dest="sets", action="append", choices=[*SETS, *generated.SETS], help="[HG002]")
    parser.add_argument("--blocks", type=int, metavar="N", help="the first N blocks of each set alone")
    options = parser.parse_args()
    use_one_core()
    sets: dict[str, Any] = {}
    figures = []
    for name in options.sets or ["HG002"]:
        with opened_set(options.data, name) as inputs:
            sets[name] = measure_set(name, inputs, options.runs, options.blocks)
        print(report(name, sets[name]) + "\n", flush=True)
        figures += sets[name].pop("figures")
    write_results(options, {"sets": sets, "figures": figures})


if __name__ == "__main__":
    main()
