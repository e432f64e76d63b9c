"""The callsets of the shared data that benchmarks take, their blocks and their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnspark.execution.blocks import Block, BlockSettings, cut_window, number_blocks, windows_of
from cnnspark.formats.vcf import VcfSource
from cnnspark.stages.costs import Weigher
from cnnspark.tensors.block_tensors import BlockTensors, Inputs
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.annotations import default_annotations
from cnnspark.variants.labeller import TruthPaths


@dataclass(frozen=True)
class Callset:
    """A callset with its reads and reference, paths relative to the data; ``{caller}`` stands for the caller."""

    vcf: str
    reads: str
    reference: str
    sample: str


SETS = {
    "HG002": Callset(
        "real/HG002/HG002.{caller}.vcf.gz", "real/HG002/HG002.20.bam", "real/HG002/ref.b37.20.fa.gz", "HG002"
    ),
    "NA12878": Callset(
        "real/NA12878/NA12878.{caller}.vcf.gz", "real/NA12878/NA12878.chr20.bam",
        "real/NA12878/ref.hg19.chr20.fa.gz", "NA12878",
    ),
    "sim": Callset("sim/DEV.{caller}.vcf.gz", "sim/DEV.bam", "sim/ref.fa.gz", "SIMDEV"),
}  # fmt: skip
SETS["NA12878-cram"] = replace(SETS["NA12878"], reads="real/NA12878/NA12878.chr20.cram")


def inputs_of(data: str, name: str) -> Inputs:
    """The files of a set as tasks take them, with the callset of freebayes."""
    found, folder = SETS[name], Path(data).absolute()
    vcf = found.vcf.format(caller="freebayes")
    return Inputs(str(folder / vcf), str(folder / found.reads), str(folder / found.reference), found.sample)


def labelled_paths(data: str, name: str, caller: str = "freebayes") -> dict[str, Any]:
    """Callset, reads, reference and labels of a set, by their names in :class:`cnnspark.config.InputPaths`.

    The labels of HG002 do not exist.
    """
    found, folder = SETS[name], Path(data).absolute()
    vcf = found.vcf.format(caller=caller)
    files = {"vcf": vcf, "reads": found.reads, "reference": found.reference}
    files |= {"labels": vcf.replace(".vcf.gz", ".labels.tsv")}
    return {key: str(folder / file) for key, file in files.items()}


def truth_of_sim(data: str) -> TruthPaths:
    """The truth of the simulated callset, and where it is complete."""
    folder = Path(data, "sim").absolute()
    return TruthPaths(str(folder / "DEV.truth.vcf.gz"), str(folder / "DEV.conf.bed"))


def blocks_of(vcf: str, settings: BlockSettings | None = None, weigher: Weigher | None = None) -> list[Block]:
    """A callset's blocks as the jobs cut them, counted here instead of in Spark; each record weighs 1 by default."""
    with VcfSource(vcf) as source:
        windows = windows_of(source.contigs, source.header.contig_lengths)
        used = settings or BlockSettings()
        return number_blocks([(w, cut_window(source.lines(w), w, used, weigher)) for w in windows])


def tensor_source(
    inputs: Inputs, annotations: Sequence[str] | None = None, settings: TensorSettings | None = None
) -> BlockTensors:  # fmt: skip
    """A task's builder of tensors, with these annotations or the callset's usual ones."""
    with VcfSource(inputs.vcf) as source:
        names = default_annotations(source.header) if annotations is None else tuple(annotations)
    return BlockTensors(inputs, names, settings or TensorSettings())


def all_tensors(source: BlockTensors, blocks: Sequence[Block]) -> TensorBatch:
    """The tensors of all blocks."""
    return TensorBatch.concatenate([source.build(source.records(block), block)[0] for block in blocks])
