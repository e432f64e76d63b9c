"""Compiles all kernels at once, so that no run has to: when the package or a container's image is installed."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pysam

if TYPE_CHECKING:
    from cnnspark.tensors import Inputs

# A sample that needs no kernel to be made: reads of 100 bases, one base apart, over one record with an indel.
_CONTIG, _LENGTH, _READ = "c", 1000, 100


def compile_kernels() -> float:
    """Compiles the kernels of tensors, evaluation and simulator by using them on small samples, in two processes.

    The compiled code is kept on disk (:mod:`cnnspark.common.numba_jit`); where it is there already, this takes seconds.

    Returns:
        Seconds that it took.
    """
    start = time.monotonic()
    # Not forked: another library may have started threads.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(part) for part in (_use_tensors, _use_simulator)]:
            done.result()
    return time.monotonic() - start


def _use_simulator() -> None:
    from cnnspark.evaluation.metrics import AlleleScores, evaluate_scores
    from cnnspark.simulation import simulate

    with tempfile.TemporaryDirectory(prefix="cnnspark-kernels-") as folder:
        simulate(Path(folder), seed=5, length=30_000, coverage=10)
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    values = {"CNN_2D": labels + rng.normal(size=40)}
    scores = AlleleScores(np.full(40, _CONTIG), np.arange(40) * 1_000_000, np.zeros(40, np.int64), labels, values)
    evaluate_scores(scores, n_replicates=2)


def _use_tensors() -> None:
    from cnnspark.execution.blocks import Block
    from cnnspark.formats.regions import Region
    from cnnspark.tensors import BlockTensors, TensorSettings

    with tempfile.TemporaryDirectory(prefix="cnnspark-kernels-") as folder:
        inputs = _small_sample(Path(folder))
        for encoding in ("cnnspark", "gatk"):
            source = BlockTensors(inputs, (), TensorSettings(encoding=encoding))
            block = Block(0, Region(_CONTIG, 0, _LENGTH))
            source.build(source.records(block), block)


def _small_sample(folder: Path) -> Inputs:
    """A reference, reads and a callset of one record in this folder."""
    from cnnspark.tensors import Inputs

    bases = "".join(np.random.default_rng(1).choice(list("ACGT"), _LENGTH))
    reference, reads, callset = (str(folder / name) for name in ("reference.fa", "reads.bam", "callset.vcf"))
    Path(reference).write_text(f">{_CONTIG}\n{bases}\n")
    pysam.faidx(reference)
    header = pysam.AlignmentHeader.from_references([_CONTIG], [_LENGTH])
    with pysam.AlignmentFile(reads, "wb", header=header) as out:
        for start in range(450, 550):
            read = pysam.AlignedSegment(header)
            read.query_name, read.query_sequence, read.flag = f"r{start}", bases[start : start + _READ], 0
            read.reference_id, read.reference_start, read.mapping_quality = 0, start, 60
            read.cigartuples, read.query_qualities = [(0, _READ)], pysam.qualitystring_to_array("I" * _READ)
            out.write(read)
    pysam.index(reads)
    ref = bases[549]
    alt = "ACGT"["CGTA".index(ref)]
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts"
    Path(callset).write_text(
        f"##fileformat=VCFv4.2\n##contig=<ID={_CONTIG},length={_LENGTH}>\n"
        f'##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n{columns}\n'
        f"{_CONTIG}\t550\t.\t{ref}\t{alt},{ref}{alt}\t50\tPASS\t.\tGT\t1/2\n"
    )
    return Inputs(pysam.tabix_index(callset, preset="vcf", force=True), reads, reference)
