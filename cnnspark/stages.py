"""The stages as one call each: preflight, blocks, work in executors, commit.

Commands, jobs and Python callers use these. Each takes a SparkSession, or where no JVM is wanted a
:class:`cnnspark.tasks.LocalSession` (``tensors`` alone needs Spark), the paths and the configuration, and returns a
summary of plain values.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark import __version__, bcf, callset, cohort, dataset, filtering, scoring
from cnnspark.annotations import GATK_ANNOTATIONS, default_annotations
from cnnspark.blocks import Block, add_digests, candidate_windows, deal, plan_blocks
from cnnspark.candidates import candidate_header, candidate_lines
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
from cnnspark.costs import Costs, Expected, line_costs, scoring_costs, tensor_costs
from cnnspark.curves import draw_curves
from cnnspark.errors import InputError, UsageError
from cnnspark.evaluation import cause_facts
from cnnspark.failures import explain
from cnnspark.files import (
    absolute,
    explained,
    has_files,
    is_remote,
    is_url,
    location,
    make_folder,
    make_room,
)
from cnnspark.filter_request import FilterRequest, settle
from cnnspark.first_stage import first_stage
from cnnspark.inputs import CheckedInputs, Labeller, TruthPaths, checked_inputs, require_reads, required
from cnnspark.labels import require_both_labels
from cnnspark.log import about, progress, subject
from cnnspark.measurements import Measurements, callset_summary, check_scores, measure, warn_of_empty
from cnnspark.merge import check_conservation, merge_shards, total_counts
from cnnspark.metrics import AlleleScores, Metrics
from cnnspark.models.bundled import absolute_model, chosen_model, is_bundled, notice
from cnnspark.models.card import read_card, require_finished
from cnnspark.owner import private_folder
from cnnspark.pace import Tally, following
from cnnspark.preflight import check_executors, check_one_sample, check_reads
from cnnspark.reads import ReadSource
from cnnspark.reference import ReferenceSource
from cnnspark.regions import check_regions, clip_to_contigs, parse_region
from cnnspark.report import write_report
from cnnspark.report_of_run import store_pictures
from cnnspark.run_facts import RunFacts, run_of
from cnnspark.runs import SUCCESS, RunFolder, file_identity, write_json
from cnnspark.runtime import blocks_table, measured, summarise, summary_text
from cnnspark.schema import UNKNOWN
from cnnspark.session import block_range, described
from cnnspark.shards import (
    GUARD,
    MERGED,
    MERGED_BCF,
    BlockLines,
    BlockOutput,
    ShardRow,
    merged_file,
    shard_folder,
    write_shards,
)
from cnnspark.strata import dimensions, parse_region_files
from cnnspark.tally import add_tallies
from cnnspark.tasks import Session, run_tasks
from cnnspark.tensors import feature_names
from cnnspark.vcf import VcfHeader

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.files import Location


def _plan(spark: Session, checked: CheckedInputs, config: Config, costs: Costs | None = None) -> list[Block]:
    vcf, lengths = checked.inputs.vcf, checked.preflight.contig_lengths
    # Where one sample's reads are dense, those of the others are, too.
    reads = checked.inputs.reads or next((member.reads for member in checked.inputs.members if member.reads), None)
    expected = Expected(costs or line_costs(), reads, config.tensors.read_limit)
    blocks = plan_blocks(spark, vcf, lengths, checked.regions, config.blocks, expected)
    if not blocks:
        raise InputError("the callset holds no records in the chosen regions; check --region")
    counted = sum(block.records for block in blocks)
    if checked.stale_index and not checked.regions and callset.count_records(checked.inputs.vcf) != counted:
        raise InputError(
            "the callset's index is older than the callset and misses records; run 'tabix -f -p vcf' on it"
        )
    alleles = sum(block.alleles for block in blocks)
    counts = {"records": counted, "alleles": alleles, "blocks": len(blocks)}
    progress(f"{counted} records, {alleles} alleles, {len(blocks)} blocks", **counts)
    return blocks


def _merge(spark: Session, folder: RunFolder, rows: Sequence[ShardRow], header: VcfHeader, target: Location) -> None:
    """Merges the shards to ``target``, in a task: the driver would have to copy a whole sheet's callsets by itself."""
    # Of the rows as much as the merge looks at.
    light = [dataclasses.replace(row, input_counts=(), runtime={}, counts={}) for row in rows]
    out, text = folder.out, header.text()

    def merge(_: Iterable[int]) -> Iterator[int]:
        merge_shards(out, light, text, target)
        yield 1

    try:
        run_tasks(spark, [[0]], merge, f"merge {len(rows)} shards")
    except Exception as error:
        raise explain(error) from error


def _finish(
    spark: Session, folder: RunFolder, blocks: Sequence[Block], rows: Sequence[ShardRow], header: VcfHeader,
    target: Location | None, facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Proves conservation, merges to ``target`` (none: leaves shards), writes the manifest and the success mark."""
    proof = check_conservation(blocks, rows)
    if target is not None:
        _merge(spark, folder, rows, header, target)
    manifest = {
        **facts,
        "conservation": asdict(proof),
        "runtime": _report(folder, blocks, {row.block: row.runtime for row in rows}),
        "counts": total_counts(rows),
        "merged": str(target) if target else None,
        # The inputs' counts stand there added up, and the runtimes in a table of their own.
        "shards": [{k: v for k, v in asdict(row).items() if k not in ("input_counts", "runtime")} for row in rows],
    }
    folder.succeed(manifest)
    return {k: v for k, v in manifest.items() if k not in ("shards", "config")} | {"statement": str(proof)}


def check_output_type(output_type: str, merge: bool) -> None:
    """Raises UsageError where a merged file of some type is asked for and nothing is merged."""
    if output_type != "z" and not merge:
        raise UsageError(f"--output-type {output_type} is of the merged file; leave out --no-merge")


def _report(folder: RunFolder, blocks: Sequence[Block], reports: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Writes the blocks' runtimes as a table, says and returns their summary."""
    folder.report(blocks_table(blocks, reports, subject().get("sample", "")))
    summary = summarise(reports.values(), sum(block.cost for block in blocks))
    # Lines that are only copied are read while they are written, so that their parts say nothing.
    if summary and folder.stage != "filter":
        progress(summary_text(summary), **summary)
    return summary


@about(stage="score")
def score_callset(
    spark: Session, paths: InputPaths, model: str | None, out: str, config: Config, if_exists: str = "fail",
    merge: bool = True, strict: bool = False, output_type: str = "z",
) -> dict[str, Any]:  # fmt: skip
    """Scores every scorable allele of a callset and writes ``out``: shards, manifest and the merged VCF.

    The merged file is a ``.vcf.gz`` (``output_type`` z) or a BCF (b); the shards are the same for both.
    ``model`` is a bundle's folder or the name of a bundled one (:func:`cnnspark.models.bundled.chosen_model`).

    Raises InputError (preflight), UsageError (``out`` is in use), RunError (records lost, blocks missing), and with
    ``strict`` QualityError where the callset is not what the model was trained on; the shards then stay.
    """
    check_output_type(output_type, merge)
    paths, folder = paths.absolute(), shard_folder(out)
    folder.check(if_exists)
    model = absolute_model(chosen_model(model, paths.has_reads))
    card = read_card(model)
    require_finished(card, model)
    if said := notice(model):
        progress(said)
    if strict and card.known is None:
        raise UsageError(f"the card of {model} does not say what it was trained on; leave --strict out or train again")
    needs_reads = scoring.looks_at_reads(card)
    if needs_reads and not paths.members:
        require_reads(paths.reads, model)
    tensors = scoring.model_tensors(model, card, config.tensors)
    first = first_stage(model, card, config.score.cascade)
    with (
        checked_inputs(paths, config, folder.out, needs_reads, needs_reference=True) as checked,
        ExitStack() as stack,
    ):
        scorer = cohort if checked.inputs.members else scoring
        header = scorer.score_header(checked.header, str(paths.vcf), card, first)
        make_room(folder.out)
        own = [] if is_bundled(model) else [model]
        seen = [*checked.inputs.paths, *own, *([] if is_remote(folder.out) else [str(folder.out.parent)])]
        check_executors(spark, seen)
        blocks = _plan(spark, checked, config, scoring_costs(card.title, needs_reads))
        if output_type == "b":
            bcf.require_contigs(header, (block.region.contig for block in blocks))
        identity = checked.identity | {
            "stage": "score",
            "model": card.sha256,
            "tensors": dataclasses.asdict(tensors),
            "score": {k: v for k, v in dataclasses.asdict(config.score).items() if k != "read_ahead"}
            | {"cascade": first and first.identity()},
        }
        stack.enter_context(folder.opened(identity, blocks, if_exists))
        inputs, settings = checked.inputs, config.score

        def make_work() -> BlockLines:
            return scorer.score_work(inputs, model, card, tensors, settings, first)

        rows = write_shards(spark, folder, blocks, header, make_work)
        compared = scoring.compare_inputs(folder.out / GUARD, card, rows, strict)
        facts = {
            "stage": "score",
            "config": dataclasses.replace(config, inputs=paths, model=model).to_dict(),
            "model": card.sha256,
            "cascade": first and first.identity(),
            "key": scoring.score_key(card),
            "guard": compared,
        }
        target = merged_file(folder, output_type) if merge else None
        summary = _finish(spark, folder, blocks, rows, header, target, facts)
        return summary | {"guard": compared and {k: v for k, v in compared.items() if k != "inputs"}}


@about(stage="filter")
def filter_callset(
    spark: Session, vcf: str, out: str, config: Config, precision: float | None = None,
    threshold: float | None = None, key: str | None = None, keep_filters: bool = True, overwrite: bool = False,
    sensitivity: float | None = None, fdr: float | None = None, snp: Mapping[str, float | None] | None = None,
    indel: Mapping[str, float | None] | None = None, resources: Sequence[str] = (),
    snp_tranches: Sequence[float] = (), indel_tranches: Sequence[float] = (), strict: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Sets FILTER by score and writes ``out`` (``.vcf.gz`` or ``.bcf``) with its index, and what was decided beside it
    (:data:`cnnspark.filtering.DECISION`).

    ``vcf`` may be the folder of a scoring run. One of ``threshold``, ``precision`` and ``sensitivity`` (of the model's
    card) and ``fdr`` (expected, of this callset) is given, for both types or in ``snp`` and ``indel`` by these names
    for one (a type without is not filtered); or ``resources``, VCFs of known variants, for tranches as those of
    FilterVariantTranches. ``strict`` makes errors of what is otherwise a warning.
    """
    request = FilterRequest.of(
        {"threshold": threshold, "precision": precision, "sensitivity": sensitivity, "fdr": fdr},
        {"SNP": snp or {}, "INDEL": indel or {}},
        resources, {"snp": snp_tranches, "indel": indel_tranches}, key, keep_filters, strict,
    )  # fmt: skip
    target = _new_callset(out, overwrite)
    vcf = merged_callset(vcf)
    with (
        checked_inputs(InputPaths(vcf=vcf).absolute(), config, target, needs_reads=False) as checked,
        _work_folder(target, "filter") as work,
    ):
        key = filtering.score_key_of(checked.header, request.key)
        known = request.check(checked.header, key)
        used, warnings = request.open_resources(list(checked.preflight.contig_lengths), vcf)
        if used:
            check_executors(spark, [*checked.inputs.paths, *request.resources])
        blocks = _plan(spark, checked, config)
        path = checked.inputs.vcf
        settings, said = settle(spark, request, key, known, checked.header, path, blocks)
        warnings += said
        for warning in warnings:
            progress(f"warning: {warning}")
        header = settings.header(checked.header)
        if target.suffix == bcf.SUFFIX:
            bcf.require_contigs(header, (block.region.contig for block in blocks))
        work.open(checked.identity, blocks, "overwrite")

        def make_work() -> BlockLines:
            return settings.work(path)

        rows, by_filter = filtering.split_counts(write_shards(spark, work, blocks, header, make_work))
        facts = {
            "stage": "filter", **settings.facts(), "by_filter": by_filter, "keep_filters": keep_filters,
            "strict": strict, "warnings": warnings, "resources": used,
        }  # fmt: skip
        decision = target.with_name(target.name + filtering.DECISION)
        decision.unlink(missing_ok=True)  # that of a callset which is about to go
        summary = _finish(spark, work, blocks, rows, header, target, facts)
        inputs = {"input": checked.identity["inputs"], "version": __version__}
        write_json(decision, {**facts, **inputs, "counts": summary["counts"]})
        progress(summary["statement"])  # the result's text does not say it, as that of scoring does
        return {**summary, "decision": str(decision)}


def _new_callset(out: str, overwrite: bool) -> Location:
    """Where a stage whose result is one VCF writes it. Raises UsageError where it cannot."""
    target = location(out)
    if not out.endswith((".vcf.gz", bcf.SUFFIX)):
        raise UsageError(f"{out} must end in .vcf.gz or .bcf; it is written compressed and indexed")
    with explained(out):
        if target.exists() and not overwrite:
            raise UsageError(f"{out} exists; choose another --out, or --if-exists overwrite")
    return target


def merged_callset(path: str) -> str:
    """The merged VCF or BCF of a scoring run's folder; any other path as it is."""
    if is_url(path) and path.endswith((".gz", bcf.SUFFIX)):
        return path  # a URL's file: there is no need to look
    folder = location(path)
    with explained(path):
        if not folder.is_dir():
            return path
    merged = next((file for name in (MERGED, MERGED_BCF) if (file := folder / name).exists()), None)
    if merged is None:
        if not (folder / SUCCESS).exists():
            raise InputError(f"{path} is not finished, or was stopped by --strict; score it with --if-exists resume")
        raise InputError(f"{path} has no {MERGED}; score it without --no-merge, or give one of its shards")
    return str(merged)


@contextmanager
def _work_folder(target: Location, stage: str) -> Iterator[RunFolder]:
    """A run folder beside ``target`` that is gone afterwards: for results that are one file."""
    make_room(target)
    with private_folder(target, "work") as folder:
        yield shard_folder(str(folder), stage)


@about(stage="tensors")
def build_dataset(
    spark: SparkSession, paths: InputPaths, out: str, config: Config, if_exists: str = "fail"
) -> dict[str, Any]:
    """Builds labelled tensors of a callset and writes them through Petastorm. Alleles of unknown label are left out.

    Without truth or labels all alleles are written, unlabelled. Without reads tensors have none, and no site features:
    for models that look at none.
    """
    paths, folder = paths.absolute(), dataset.dataset_folder(out)
    if paths.members:
        raise UsageError("tensors are built of one sample; give its --reads and --sample instead of members")
    folder.check(if_exists)
    truth = TruthPaths.of(paths)
    with_reads = paths.reads is not None
    with checked_inputs(paths, config, folder.out, with_reads, needs_reference=True) as checked, ExitStack() as stack:
        used = truth.check(paths.reference) if truth else []
        names = config.annotations or (
            GATK_ANNOTATIONS
            if config.tensors.encoding == "gatk"
            else default_annotations(checked.header, len(checked.header.samples) > 1)
        )
        features = feature_names(config.tensors, with_reads)
        check_executors(spark, [*checked.inputs.paths, *used])
        blocks = _plan(spark, checked, config, tensor_costs(with_reads))
        identity = checked.identity | {
            "stage": "tensors",
            "truth": {path: file_identity(path) for path in used},
            "annotations": list(names),
            "tensors": dataclasses.asdict(config.tensors),
        }
        stack.enter_context(folder.opened(identity, blocks, if_exists))
        inputs, settings = checked.inputs, config.tensors
        finished = {row["block"] for row in dataset.finished_rows(folder)}
        missing = [block for block in blocks if block.index not in finished]

        def write(part: Iterable[Block]) -> Iterator[int]:
            source = scoring.BlockTensors(inputs, names, settings)
            labeller = Labeller(truth, source.vcf, inputs.reference) if truth else None
            for block in part:
                # An earlier attempt of this task may have come this far.
                if not dataset.finished_rows(folder, block):
                    write_tensors(folder, block, source, labeller)
                yield block.index

        with (
            described(spark, "Petastorm's metadata"),
            dataset.materialize(spark, folder, len(names), len(features)),
        ):
            if missing:
                with following(Tally(folder, blocks, missing)):
                    run_tasks(spark, deal(spark, missing), write, block_range(missing, len(blocks)))
        facts = {
            "sample": inputs.sample,
            "with_reads": with_reads,
            "config": dataclasses.replace(config, inputs=paths).to_dict(),
            "inputs": identity["inputs"] | identity["truth"],
            # Of the callset's records: what conservation is proved by elsewhere.
            "callset_digest": add_digests(block.digest for block in blocks),
        }
        card = dataset.write_card(spark, folder, names, features, facts)
        labelled = card["labels"]["true"] + card["labels"]["false"]
        if truth and not labelled:
            raise InputError("no allele lies inside the confident BED; give the BED of this sample and build")
        summary = {"stage": "tensors", "out": str(folder.out)} | {
            name: card[name] for name in ("tensors", "labels", "counts", "bytes")
        }
        summary["runtime"] = _report(folder, blocks, {row["block"]: row["runtime"] for row in folder.rows()})
        folder.succeed(summary)
        progress(
            f"{card['tensors']} tensors ({card['labels']['true']} true, {card['labels']['false']} false), "
            f"{card['bytes'] / max(1, card['tensors']) / 1000:.1f} kB each"
        )
        return summary


@measured("write")
def write_tensors(
    folder: RunFolder, block: Block, source: scoring.BlockTensors, labeller: Labeller | None
) -> dict[str, Any]:
    """Builds, labels and writes one block's tensors: of a callset of several samples of what its sample carries."""
    records = source.records(block)
    carried = {record.index: source.carried(record) for record in records}
    if labeller is None:
        batch, counts = source.build([record for record in records if carried[record.index]], block)
        batch = batch.take([i for i, key in enumerate(batch.keys) if key.alt_index in carried[key.record_index]])
        return dataset.write_block(folder, block, batch, np.full(len(batch), UNKNOWN), source.inputs.sample, counts)
    labels, counts = labeller.labels(records, block)
    of_record = {
        record.index: [label if n in carried[record.index] else UNKNOWN for n, label in enumerate(each, 1)]
        for record, each in zip(records, labels, strict=True)
    }
    # An allele that nobody will train on needs no tensor; a record with one labelled allele is built whole.
    wanted = [record for record in records if any(label != UNKNOWN for label in of_record[record.index])]
    batch, skipped = source.build(wanted, block)
    chosen = [i for i, k in enumerate(batch.keys) if of_record[k.record_index][k.alt_index - 1] != UNKNOWN]
    known = np.array([of_record[batch.keys[i].record_index][batch.keys[i].alt_index - 1] for i in chosen], np.int32)
    counts = counts + Counter({f"no tensor: {reason}": n for reason, n in skipped.items()})
    return dataset.write_block(folder, block, batch.take(chosen), known, source.inputs.sample, counts)


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
        blocks = _plan(spark, checked, config)
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


@about(stage="candidates")
def call_candidates(
    spark: Session, paths: InputPaths, out: str, config: Config, overwrite: bool = False
) -> dict[str, Any]:
    """Calls every candidate allele from the reads alone and writes ``out`` (``.vcf.gz`` or ``.bcf``) with its index."""
    target = _new_callset(out, overwrite)
    paths = paths.absolute()
    callset.require_file(required(paths.reference, "--reference"), "reference")
    reads, reference = (
        ReadSource(required(paths.reads, "--reads"), paths.reference),
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
    check_executors(spark, [str(paths.reads), str(paths.reference)])
    read_path, reference_path, settings = str(paths.reads), str(paths.reference), config.candidates

    def make_work() -> BlockLines:
        source, genome = ReadSource(read_path, reference_path), ReferenceSource(reference_path)

        def work(block: Block) -> BlockOutput:
            return BlockOutput(candidate_lines(block.region, source, genome, settings, sample), Counter())

        return work

    with about(sample=sample), _work_folder(target, "candidates") as work_folder:
        work_folder.open({"stage": "candidates"}, windows, "overwrite")
        rows = write_shards(spark, work_folder, windows, header, make_work)
        _merge(spark, work_folder, rows, header, target)
    found = sum(row.records_out for row in rows)
    progress(f"{found} candidate alleles in {len(windows)} windows")
    return {"stage": "candidates", "out": out, "records": found, "sample": sample}
