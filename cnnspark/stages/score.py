"""A callset's scores, as shards and one merged file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from cnnspark.common.log import about, progress
from cnnspark.common.storage import is_remote, make_room, write_json
from cnnspark.errors import InputError, QualityError, UsageError
from cnnspark.execution.merge import total_counts
from cnnspark.execution.shards import (
    GUARD,
    BlockLines,
    ShardRow,
    merged_file,
    remove_merged_of_other_type,
    shard_folder,
    write_shards,
)
from cnnspark.execution.tasks import Session
from cnnspark.formats import bcf
from cnnspark.models.card import Card
from cnnspark.models.input_drift import add_counts, compare
from cnnspark.models.selection import select_model
from cnnspark.scoring.missing_annotations import header_warnings, run_warnings
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.predict import WITHOUT_READS
from cnnspark.scoring.score import score_header, score_work
from cnnspark.stages.costs import scoring_costs
from cnnspark.stages.inputs import CheckedInputs, checked_inputs, require_reads
from cnnspark.stages.preflight import check_executors
from cnnspark.stages.requests import ScoreRequest
from cnnspark.stages.run_steps import finish_run, planned_blocks

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

# Scored alleles without a read: the share from which a run warns, and how many are too many to have none at all.
WARNED_SHARE, MIN_WITHOUT_READS = 0.05, 10


@about(stage="score")
def score_callset(session: Session, request: ScoreRequest, checked: CheckedInputs | None = None) -> dict[str, Any]:
    """Scores every scorable allele of a callset and writes shards, manifest and the merged callset.

    Args:
        session: where the tasks run.
        request: what to score, with which model, where to.
        checked: the request's inputs, if an earlier stage of the same run has checked them.

    Returns:
        Plain values of the manifest: counts, ``statement`` (that no record was lost), ``merged``, ``key``, ``guard``.

    Raises:
        InputError: the inputs do not fit together.
        UsageError: the output is in use, or the model needs reads and there are none.
        RunError: records were lost, or blocks are missing.
        QualityError: with ``strict``, the callset is unlike the model's training data; the shards stay.
    """
    paths, folder, config = request.paths.absolute(), shard_folder(request.out), request.config
    folder.check(request.if_exists)
    selected = select_model(request.model, paths.has_reads)
    if selected.notice:
        progress(selected.notice)
    if request.strict and selected.card.known is None:
        raise UsageError(
            f"the card of {selected.path} does not say what it was trained on; leave --strict out or train again"
        )
    if selected.needs_reads and not paths.members:
        require_reads(paths.reads, selected.path)
    plan = ScoringPlan.of(selected, config.tensors, config.score)
    card = plan.card
    of_model, whole = dataclasses.replace(config, tensors=plan.tensors), card.scores_whole_records
    if paths.has_reads and not selected.needs_reads:
        progress(f"the model {selected.path} looks at no reads; those that were given are not used")
    opened = checked_inputs(paths, of_model, folder.out, selected.needs_reads, True, whole)
    with nullcontext(checked) if checked else opened as found, ExitStack() as stack:
        inputs = found.inputs
        if whole and inputs.members:  # they were checked for a stage that goes by sample
            inputs = dataclasses.replace(inputs, members=(), sample="")
        vcf = str(paths.vcf)
        header = score_header(found.header, vcf, plan, inputs)
        for warning in header_warnings(plan, found.header, vcf):
            progress(f"warning: {warning}")
        make_room(folder.out)
        own = [] if selected.is_bundled else [selected.path]
        seen = [*inputs.paths, *own, *([] if is_remote(folder.out) else [str(folder.out.parent)])]
        check_executors(session, seen)
        blocks = planned_blocks(session, found, config, scoring_costs(card.model, selected.needs_reads), True)
        if request.output_type == "b":
            bcf.require_contigs(header, (region.contig for block in blocks for region in block.regions))
        identity = found.identity | {"stage": "score"} | plan.identity()
        stack.enter_context(folder.opened(identity, blocks, request.if_exists))

        def make_work() -> BlockLines:
            return score_work(inputs, plan)

        rows = write_shards(session, folder, blocks, header, make_work)
        counts = total_counts(rows)
        check_reads_found(counts, str(paths.reads or "the samples' reads"))
        for warning in run_warnings(plan, found.header, vcf, counts):
            progress(f"warning: {warning}")
        compared = compare_inputs(folder.out / GUARD, card, rows, request.strict)
        facts = {
            "stage": "score",
            "config": dataclasses.replace(config, inputs=paths, model=selected.path).to_dict(),
            "model": card.sha256,
            "cascade": plan.first and plan.first.identity(),
            "key": plan.key,
            "guard": compared,
        }
        target = merged_file(folder, request.output_type) if request.merge else None
        if request.merge:
            remove_merged_of_other_type(folder, request.output_type)
        summary = finish_run(session, folder, blocks, rows, header, target, facts)
        return summary | {"guard": compared and {k: v for k, v in compared.items() if k != "inputs"}}


def check_reads_found(counts: Mapping[str, int], reads: str) -> None:
    """Warns of scored alleles at which there was no read; too many are no gaps of coverage.

    Args:
        counts: of the run.
        reads: what messages call them.

    Raises:
        InputError: there was none at any of MIN_WITHOUT_READS alleles or more.
    """
    scored = counts.get("alleles scored, by sample", counts.get("alleles scored", 0))
    missing = counts.get(WITHOUT_READS, 0)
    said = f"no reads at {missing} of {scored} scored alleles"
    if missing == scored >= MIN_WITHOUT_READS:
        raise InputError(
            f"{said}: {reads} and the callset do not belong together, or the index of the reads is damaged; check "
            "both, and index the reads again with 'samtools index'"
        )
    if missing > WARNED_SHARE * scored:
        progress(f"warning: {said}; check that {reads} covers the callset")


def compare_inputs(path: Location, card: Card, rows: Iterable[ShardRow], strict: bool) -> dict[str, Any] | None:
    """Compares the callset's model inputs with the training data, writes the result and warns of drift.

    Args:
        path: file to write.
        card: the model's.
        rows: the finished blocks, with their counts of inputs.
        strict: whether drift is an error.

    Returns:
        What was written, or None if the card does not describe the training data.

    Raises:
        QualityError: with ``strict``, instead of the warning.
    """
    if card.known is None:
        return None
    comparison = compare(card.known, add_counts(card.known, (row.input_counts for row in rows)))
    found = comparison.to_json()
    write_json(path, found)
    if not comparison.inputs:
        progress(f"{comparison.alleles} alleles are too few to compare the callset with the training data")
    if sentence := comparison.sentence():
        if strict:
            raise QualityError(f"{sentence}, or leave --strict out and run again with --if-exists resume")
        progress(f"warning: {sentence}")
    return found
