"""A callset's scores, as shards and one merged file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cnnspark.common.log import about, progress
from cnnspark.common.storage import is_remote, make_room, write_json
from cnnspark.config import Config, InputPaths
from cnnspark.errors import QualityError, UsageError
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
from cnnspark.models.bundle_files import absolute_model, chosen_model, is_bundled, notice
from cnnspark.models.card import Card, looks_at_reads, model_tensors, read_card, require_finished, score_key
from cnnspark.models.input_drift import add_counts, compare
from cnnspark.scoring import multisample, score
from cnnspark.scoring.cascade import first_stage
from cnnspark.stages.costs import scoring_costs
from cnnspark.stages.inputs import checked_inputs, require_reads
from cnnspark.stages.preflight import check_executors
from cnnspark.stages.run_steps import finish_run, planned_blocks

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


def check_output_type(output_type: str, merge: bool) -> None:
    """Raises UsageError where a merged file of some type is asked for and nothing is merged."""
    if output_type != "z" and not merge:
        raise UsageError(f"--output-type {output_type} is of the merged file; leave out --no-merge")


@about(stage="score")
def score_callset(
    spark: Session, paths: InputPaths, model: str | None, out: str, config: Config, if_exists: str = "fail",
    merge: bool = True, strict: bool = False, output_type: str = "z",
) -> dict[str, Any]:  # fmt: skip
    """Scores every scorable allele of a callset and writes ``out``: shards, manifest and the merged VCF.

    The merged file is a ``.vcf.gz`` (``output_type`` z) or a BCF (b); the shards are the same for both.
    ``model`` is a bundle's folder or the name of a bundled one (:func:`cnnspark.models.bundle_files.chosen_model`).

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
    needs_reads = looks_at_reads(card)
    if needs_reads and not paths.members:
        require_reads(paths.reads, model)
    tensors = model_tensors(model, card, config.tensors)
    first = first_stage(model, card, config.score.cascade)
    with (
        checked_inputs(paths, config, folder.out, needs_reads, needs_reference=True) as checked,
        ExitStack() as stack,
    ):
        scorer = multisample if checked.inputs.members else score
        header = scorer.score_header(checked.header, str(paths.vcf), card, first)
        make_room(folder.out)
        own = [] if is_bundled(model) else [model]
        seen = [*checked.inputs.paths, *own, *([] if is_remote(folder.out) else [str(folder.out.parent)])]
        check_executors(spark, seen)
        blocks = planned_blocks(spark, checked, config, scoring_costs(card.model, needs_reads))
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
        compared = compare_inputs(folder.out / GUARD, card, rows, strict)
        facts = {
            "stage": "score",
            "config": dataclasses.replace(config, inputs=paths, model=model).to_dict(),
            "model": card.sha256,
            "cascade": first and first.identity(),
            "key": score_key(card),
            "guard": compared,
        }
        target = merged_file(folder, output_type) if merge else None
        if merge:
            remove_merged_of_other_type(folder, output_type)
        summary = finish_run(spark, folder, blocks, rows, header, target, facts)
        return summary | {"guard": compared and {k: v for k, v in compared.items() if k != "inputs"}}


def compare_inputs(path: Location, card: Card, rows: Iterable[ShardRow], strict: bool) -> dict[str, Any] | None:
    """Writes how far the callset's inputs are from the training data to ``path``, and warns where they are elsewhere.

    Returns what it wrote; None where the card does not say what the model knows. Raises QualityError with ``strict``
    instead of the warning.
    """
    if card.known is None:
        return None
    comparison = compare(card.known, add_counts(card.known, (row.input_counts for row in rows)))
    found = comparison.to_json()
    write_json(path, found)
    if not comparison.inputs:
        progress(f"{comparison.alleles} alleles are too few to tell whether the model knows such a callset")
    if sentence := comparison.sentence():
        if strict:
            raise QualityError(f"{sentence}, or leave --strict out and run again with --if-exists resume")
        progress(f"warning: {sentence}")
    return found
