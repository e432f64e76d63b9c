"""What a callset's scores are worth, against a truth."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from cnnspark.blocks import Block, deal
from cnnspark.causes import read_causes
from cnnspark.compared_callsets import (
    BlockAlleles,
    BlockCollector,
    EvaluationTask,
    blocks_of_all,
    check_contigs,
    measured_callsets,
    pairs_of,
    pairs_to_compare,
)
from cnnspark.config import Config, InputPaths
from cnnspark.curves import draw_curves
from cnnspark.errors import UsageError
from cnnspark.evaluation import cause_facts
from cnnspark.files import absolute, has_files, location, make_folder
from cnnspark.inputs import TruthPaths, checked_inputs, required
from cnnspark.labels import require_both_labels
from cnnspark.log import about
from cnnspark.measurements import Measurements, callset_summary, check_scores, measure, warn_of_empty
from cnnspark.metrics import AlleleScores, Metrics
from cnnspark.report import write_report
from cnnspark.report_of_run import store_pictures
from cnnspark.run_facts import RunFacts, run_of
from cnnspark.session import block_range
from cnnspark.stages.common import merged_callset, planned_blocks
from cnnspark.strata import dimensions, parse_region_files
from cnnspark.tally import add_tallies
from cnnspark.tasks import Session, run_tasks


@dataclass(frozen=True)
class Evaluation:
    """The outcome of :func:`evaluate_callset`: the figures, and the alleles that they are of."""

    measured: Measurements
    alleles: AlleleScores

    @property
    def metrics(self) -> Metrics:
        return self.measured.metrics

    @property
    def counts(self) -> dict[str, int]:
        return self.measured.counts

    @property
    def by_cause(self) -> Metrics:
        return self.measured.by_cause


@about(stage="evaluate")
def evaluate_callset(
    spark: Session, paths: InputPaths, out: str, config: Config, scores: Sequence[str] = (),
    min_qual: float | None = None, title: str = "Evaluation", overwrite: bool = False,
    history: list[dict] | None = None, facts: Mapping[str, Any] | None = None, causes: str | None = None,
    stratify: Sequence[str] = (), compare: Sequence[str] = (), others: Sequence[str] = (), run: RunFacts | None = None,
) -> Evaluation:  # fmt: skip
    """Labels a callset's alleles, measures each score and writes the figures (:class:`Measurements`) and a report.

    ``causes`` is a table of why false alleles are there: each mechanism is then measured on its own, too. ``stratify``
    are ``name=bed``, ``compare`` are ``A,B``, two scores; ``others`` are more callsets of the same sample, whose scores
    are then called ``callset:KEY`` (:mod:`cnnspark.compared_callsets`). ``run`` is what the report says of the run that
    scored; where the callset is a scoring run's folder, its own.

    Labelled alleles come to the driver as arrays of some 60 bytes each; their records do not.
    """
    paths, folder = paths.absolute(), location(out)
    if has_files(folder) and not overwrite:
        raise UsageError(f"{out} exists; choose another --out, or --if-exists overwrite")
    truth = TruthPaths.of(paths)
    if truth is None:
        raise UsageError("there is nothing to compare with; give --truth with --bed, or --labels")
    pairs, region_files = pairs_of(compare), [
        dataclasses.replace(file, path=absolute(file.path)) for file in parse_region_files(stratify)
    ]  # fmt: skip
    given = [required(paths.vcf, "--vcf"), *(absolute(path) for path in others)]
    truth.check(paths.reference)
    cause_table = absolute(causes) if causes else None
    if cause_table:
        read_causes(cause_table)  # said now, not by a task
    with ExitStack() as stack:
        opened = []
        for path in given:
            of_one = dataclasses.replace(paths, vcf=merged_callset(path))
            opened.append(stack.enter_context(checked_inputs(of_one, config, folder, needs_reads=False)))
        callsets = measured_callsets(given, opened, paths, scores, pairs)
        pairs = list(pairs_to_compare(pairs, callsets))
        contigs = check_contigs(opened, truth, paths.reference, region_files)
        make_folder(folder)
        checked = opened[0]
        blocks = planned_blocks(spark, checked, config)
        if len(callsets) > 1:
            blocks = blocks_of_all(blocks, contigs, checked.preflight.contig_lengths, checked.regions)
        task = EvaluationTask(callsets, truth, paths.reference, tuple(region_files), cause_table, min_qual)

        def collect(part: Iterable[Block]) -> Iterator[BlockAlleles]:
            collector = BlockCollector(task)
            for block in part:
                yield collector.collect(block)

        collected = run_tasks(spark, deal(spark, blocks), collect, block_range(blocks, len(blocks)))
    collected.sort(key=lambda part: part.block)
    counts = [sum((part.counts[i] for part in collected), Counter()) for i in range(len(callsets))]
    require_both_labels(sum(counts, Counter()), " and ".join(given))
    summaries = {
        callset.name: callset_summary(counts[i], sum((part.composition[i] for part in collected), Counter()))
        for i, callset in enumerate(callsets)
    }
    alleles = AlleleScores.concatenate([part.alleles for part in collected])
    check_scores(alleles, [*scores, *(name for pair in pairs for name in pair)], " and ".join(given))
    divided = dimensions(paths.reference is not None, region_files)
    measured = measure(alleles, counts[0], divided, pairs, summaries, bool(causes))
    warn_of_empty(measured, region_files)
    by_cause = measured.by_cause
    shown = {**(facts or {}), **({"By mechanism": cause_facts(by_cause)} if by_cause else {}), "counts": counts[0]}
    run = run or run_of(given[0])
    curves, tally = (
        draw_curves(alleles, paths.regions),
        add_tallies([part.tally for part in collected], callsets[0].key),
    )
    store_pictures(folder, curves, tally)
    if history is None and run is not None and run.card is not None:
        history = list(run.card.history)
    read = run.inputs if run else {"reads": paths.reads, "reference": paths.reference, "sample": paths.sample}
    write_report(
        folder / "report.html", title, measured.metrics, curves, history, shown,
        tally=tally, strata=measured.strata, comparison=measured.comparison, callsets=measured.callsets, run=run,
        inputs={**read, "vcf": merged_callset(given[0])},
    )  # fmt: skip
    measured.write(folder)
    return Evaluation(measured, alleles)
