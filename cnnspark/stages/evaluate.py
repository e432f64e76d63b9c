"""How good a callset's scores are, against a truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cnnspark.common.log import about
from cnnspark.common.storage import absolute, location, make_folder, require_free
from cnnspark.config import InputPaths
from cnnspark.errors import UsageError
from cnnspark.evaluation.callset_counts import CallsetCounts, add_counts
from cnnspark.evaluation.collect import (
    BlockAlleles,
    BlockCollector,
    EvaluationTask,
    MeasuredCallset,
    callset_names,
    keys_of_each,
    pairs_of,
    pairs_to_compare,
)
from cnnspark.evaluation.curves import draw_curves
from cnnspark.evaluation.metrics import AlleleScores, Metrics
from cnnspark.evaluation.results import Measurements, callset_summary, check_scores, measure, warn_of_empty
from cnnspark.evaluation.score_reader import cause_facts, sample_column, score_names
from cnnspark.evaluation.strata import RegionFile, check_region_files, dimensions, parse_region_files
from cnnspark.execution.blocks import Block, block_range, deal, windows_of
from cnnspark.execution.shards import merged_callset
from cnnspark.execution.tasks import Session, run_tasks
from cnnspark.formats.contigs import check_build, require_shared_contig
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region, read_bed
from cnnspark.formats.vcf import VcfSource
from cnnspark.reports.callset.contents import ReportContents
from cnnspark.reports.callset.finished_run import store_pictures
from cnnspark.reports.callset.page import write_report
from cnnspark.reports.callset.run_facts import RunFacts, run_of
from cnnspark.stages.inputs import CheckedInputs, checked_inputs
from cnnspark.stages.requests import EvaluationRequest
from cnnspark.stages.run_steps import planned_blocks
from cnnspark.variants.label_tables import read_causes
from cnnspark.variants.labeller import TruthPaths, required
from cnnspark.variants.truth import require_both_labels

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


@dataclass(frozen=True)
class Evaluation:
    """The outcome of :func:`evaluate_callset`: the figures, and the alleles that they are of."""

    measured: Measurements
    alleles: AlleleScores

    @property
    def metrics(self) -> Metrics:
        """The figures: group -> score -> name -> value."""
        return self.measured.metrics

    @property
    def counts(self) -> dict[str, int]:
        """Records and alleles, by why they are labelled or not."""
        return self.measured.counts

    @property
    def by_cause(self) -> Metrics:
        """The figures by mechanism, if causes were given."""
        return self.measured.by_cause


@about(stage="evaluate")
def evaluate_callset(session: Session, request: EvaluationRequest) -> Evaluation:
    """Labels a callset's alleles, measures each score, and writes the figures (:class:`Measurements`) and a report.

    Labelled alleles come to the driver as arrays of some 60 bytes each; their records do not.

    Args:
        session: where the tasks run.
        request: what to measure, and against what.

    Raises:
        UsageError: the output exists, no truth is given, or a score, pair or region that makes no sense.
        InputError: callset, truth, reference and regions do not fit together, or one class has no alleles.
    """
    paths, folder = request.paths.absolute(), location(request.out)
    require_free(request.out, request.overwrite, empty_ok=True)
    truth = TruthPaths.of(paths.truth, paths.bed, paths.labels)
    if truth is None:
        raise UsageError("there is nothing to compare with; give --truth with --bed, or --labels")
    pairs = pairs_of(request.compare)
    files = [replace(file, path=absolute(file.path)) for file in parse_region_files(request.stratify)]
    given = [required(paths.vcf, "--vcf"), *(absolute(path) for path in request.others)]
    truth.check(paths.reference)
    causes = absolute(request.causes) if request.causes else None
    if causes:
        read_causes(causes)  # a bad table is said now, not by a task
    with ExitStack() as stack:
        opened = []
        for path in given:
            of_one = replace(paths, vcf=merged_callset(path))
            opened.append(stack.enter_context(checked_inputs(of_one, request.config, folder, needs_reads=False)))
        callsets = measured_callsets(given, opened, paths, request.scores, pairs)
        pairs = list(pairs_to_compare(pairs, callsets))
        contigs = check_contigs(opened, truth, paths.reference, files)
        make_folder(folder)
        checked = opened[0]
        blocks = planned_blocks(session, checked, request.config)
        if len(callsets) > 1:
            blocks = blocks_of_all(blocks, contigs, checked.preflight.contig_lengths, checked.regions)
        task = EvaluationTask(callsets, truth, paths.reference, tuple(files), causes, request.min_qual)
        collected = _collect(session, task, blocks)
    evaluation = _measure(collected, task, given, [*request.scores, *(name for pair in pairs for name in pair)], pairs)
    _write(folder, evaluation, request, given, add_counts([part.callset_counts for part in collected], callsets[0].key))
    return evaluation


def _collect(session: Session, task: EvaluationTask, blocks: Sequence[Block]) -> list[BlockAlleles]:
    """The labelled alleles and counts of each block, in the blocks' order."""

    def collect(part: Iterable[Block]) -> Iterator[BlockAlleles]:
        collector = BlockCollector(task)
        for block in part:
            yield collector.collect(block)

    collected = run_tasks(session, deal(session, blocks), collect, block_range(blocks, len(blocks)))
    return sorted(collected, key=lambda part: part.block)


def _measure(
    collected: Sequence[BlockAlleles], task: EvaluationTask, given: Sequence[str], scores: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> Evaluation:  # fmt: skip
    """All figures of the collected alleles; ``given`` are the callsets' paths, for messages."""
    names = " and ".join(given)
    counts = [sum((part.counts[i] for part in collected), Counter()) for i in range(len(task.callsets))]
    require_both_labels(sum(counts, Counter()), names)
    summaries = {
        callset.name: callset_summary(counts[i], sum((part.composition[i] for part in collected), Counter()))
        for i, callset in enumerate(task.callsets)
    }
    alleles = AlleleScores.concatenate([part.alleles for part in collected])
    check_scores(alleles, scores, names)
    divided = dimensions(task.reference is not None, task.region_files)
    measured = measure(alleles, counts[0], divided, pairs, summaries, bool(task.causes))
    warn_of_empty(measured, task.region_files)
    return Evaluation(measured, alleles)


def _write(
    folder: Location, evaluation: Evaluation, request: EvaluationRequest, given: Sequence[str], counts: CallsetCounts
) -> None:
    """Writes figures, pictures and the report; ``counts`` are those of all records of the first callset."""
    paths, measured = request.paths.absolute(), evaluation.measured
    run = request.run or run_of(given[0])
    curves = draw_curves(evaluation.alleles, paths.regions)
    store_pictures(folder, curves, counts)
    mechanisms = {"By mechanism": cause_facts(measured.by_cause)} if measured.by_cause else {}
    history = list(run.card.history) if run is not None and run.card is not None else None
    read = run.inputs if run else {"reads": paths.reads, "reference": paths.reference, "sample": paths.sample}
    contents = ReportContents(
        title=request.title,
        metrics=measured.metrics,
        curves=curves,
        history=history or (),
        facts={**mechanisms, "counts": measured.counts},
        counts=counts,
        strata=measured.strata,
        comparison=measured.comparison,
        callsets=measured.callsets,
        run=run or RunFacts(),
        inputs={**read, "vcf": merged_callset(given[0])},
    )
    write_report(folder / "report.html", contents)
    measured.write(folder)


def measured_callsets(
    given: Sequence[str], opened: Sequence[CheckedInputs], paths: InputPaths, scores: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> tuple[MeasuredCallset, ...]:  # fmt: skip
    """The callsets with the scores to measure in each: those asked for and those to compare, else the default ones.

    ``given`` are their paths as the user gave them. Raises UsageError and InputError where a score or the sample is not
    there (:func:`score_names`, :func:`sample_column`).
    """
    names = callset_names(given)
    wanted = list(dict.fromkeys([*scores, *(name for pair in pairs for name in pair)]))
    headers = [checked.header for checked in opened]
    keys = keys_of_each(names, headers, wanted) if len(given) > 1 else [wanted]
    callsets = []
    for name, path, checked, of_it in zip(names, given, opened, keys, strict=True):
        header = checked.header
        # Other callsets may call the sample otherwise; where there is only one, there is no doubt which.
        sample = paths.sample if len(header.samples) > 1 or path == given[0] else None
        if sample is None and len(header.samples) > 1 and paths.reads:
            with ReadSource(paths.reads, paths.reference) as reads:
                sample = next((each for each in reads.samples if each in header.samples), None)
        column = sample_column(header, path, sample, paths.labels is None)
        found = (
            () if wanted and not of_it else score_names(header, of_it, column is not None and len(header.samples) > 1)
        )
        prefix = f"{name}:" if len(given) > 1 else ""
        callsets.append(MeasuredCallset(name, checked.inputs.vcf, header, found, column, prefix))
    return tuple(callsets)


def check_contigs(
    opened: Sequence[CheckedInputs], truth: TruthPaths, reference: str | None, files: Sequence[RegionFile]
) -> list[str]:
    """The contigs that the callsets have records on, those of the first in its order first.

    Raises InputError where reference, confident regions or a region file are of another build.
    """
    contigs: dict[str, None] = {}
    for checked in opened:
        with VcfSource(checked.inputs.vcf) as source:
            source.path = next(iter(checked.identity["inputs"]))  # the user's own, not a copy's
            chosen = {region.contig for region in checked.regions}
            own = [contig for contig in source.contigs if not chosen or contig in chosen]
            if reference is not None:
                with closing(ReferenceSource(reference)) as genome:
                    check_build(source, genome, own)
            if truth.bed:
                require_shared_contig(truth.bed, {region.contig for region in read_bed(truth.bed)}, source.path, own)
            check_region_files(files, own, source.path)
            contigs |= dict.fromkeys(own)
    return list(contigs)


def blocks_of_all(
    blocks: Sequence[Block], contigs: Sequence[str], lengths: Mapping[str, int | None], regions: Sequence[Region]
) -> list[Block]:
    """The blocks of the first callset, and those stretches of ``contigs`` on which it has no record.

    ``contigs`` are those of all callsets, its own first; ``lengths`` are those that its blocks were cut by.
    """
    held = {(block.region.contig, block.region.start) for block in blocks}
    # Windows that hold a record are tiled by blocks, the first of which begins where the window does.
    more = [w for w in windows_of(contigs, lengths, regions) if (w.contig, w.start) not in held]
    return [*blocks, *(Block(len(blocks) + number, window) for number, window in enumerate(more))]
