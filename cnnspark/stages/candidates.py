"""A callset from the reads alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cnnspark.common.log import about, progress
from cnnspark.config import Config, InputPaths
from cnnspark.errors import InputError
from cnnspark.execution.blocks import Block, candidate_windows
from cnnspark.execution.shards import BlockLines, BlockOutput, write_shards
from cnnspark.execution.tasks import Session
from cnnspark.formats import callset
from cnnspark.formats.contigs import check_regions
from cnnspark.formats.reads import ReadSource, open_reads
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import clip_to_contigs, parse_region
from cnnspark.formats.vcf import VcfHeader
from cnnspark.stages.preflight import check_executors, check_one_sample, check_reads
from cnnspark.stages.run_steps import merge_in_task, new_callset, work_folder
from cnnspark.variants.candidates import candidate_header, candidate_lines
from cnnspark.variants.labeller import required


@about(stage="candidates")
def call_candidates(
    session: Session, paths: InputPaths, out: str, config: Config, overwrite: bool = False
) -> dict[str, Any]:
    """Calls every candidate allele from the reads alone and writes the callset with its index.

    Args:
        session: where the tasks run.
        paths: reads and reference; chosen regions and the sample's name.
        out: the callset to write, ``.vcf.gz`` or ``.bcf``.
        config: all settings.
        overwrite: whether an earlier ``out`` is replaced.

    Raises:
        UsageError: ``out`` exists or has another ending, or a path is missing.
        InputError: reads and reference do not fit together, or the regions hold nothing to call.
    """
    target = new_callset(out, overwrite)
    paths = paths.absolute()
    callset.require_file(required(paths.reference, "--reference"), "reference")
    reads, reference = (
        open_reads(required(paths.reads, "--reads"), paths.reference),
        ReferenceSource(str(paths.reference)),
    )
    check_reads(reads, reference)
    check_one_sample(reads)
    sample = paths.sample or (reads.samples[0] if reads.samples else "SAMPLE")
    regions = clip_to_contigs([parse_region(text, reference.lengths) for text in paths.regions], reference.lengths)
    check_regions(regions, reference.lengths, reference.path)
    contigs = {name: length for name, length in reference.lengths.items() if name in reads.contig_lengths}
    header = VcfHeader(candidate_header(contigs, sample))
    windows = candidate_windows(contigs, regions)
    if not windows:
        raise InputError("there is nothing to call in the chosen regions; check --region")
    check_executors(session, [str(paths.reads), str(paths.reference)])
    read_path, reference_path, settings = str(paths.reads), str(paths.reference), config.candidates

    def make_work() -> BlockLines:
        source, genome = ReadSource(read_path, reference_path), ReferenceSource(reference_path)

        def call(block: Block) -> BlockOutput:
            return BlockOutput(candidate_lines(block.region, source, genome, settings, sample), Counter())

        return call

    with about(sample=sample), work_folder(target, "candidates") as work:
        work.open({"stage": "candidates"}, windows, "overwrite")
        rows = write_shards(session, work, windows, header, make_work)
        merge_in_task(session, work, rows, header, target)
    found = sum(row.records_out for row in rows)
    progress(f"{found} candidate alleles in {len(windows)} windows")
    return {"stage": "candidates", "out": out, "records": found, "sample": sample}
