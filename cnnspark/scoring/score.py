"""Scoring a callset of one sample or of several: its header, and what a task does with each block."""

from __future__ import annotations

from collections.abc import Mapping

from cnnspark.execution.shards import BlockLines
from cnnspark.formats.vcf import VcfHeader
from cnnspark.scoring import multisample, output, single_sample
from cnnspark.scoring.cascade import passed_on_text
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.tensors.block_tensors import Inputs


def score_header(header: VcfHeader, path: str, plan: ScoringPlan, inputs: Inputs) -> VcfHeader:
    """The callset's header with the declarations of a scored one.

    Args:
        header: the callset's.
        path: the callset's, for messages.
        plan: how the run scores.
        inputs: their members decide whether each sample gets scores of its own in FORMAT.

    Raises:
        InputError: the callset declares one of the fields as something else.
    """
    if inputs.members:
        return multisample.score_header(header, path, plan.card, plan.first)
    return output.score_header(header, path, plan.card, plan.first)


def score_work(inputs: Inputs, plan: ScoringPlan) -> BlockLines:
    """What a task does with each block: its lines with scores, counts by reason, and counts of the model's inputs.

    Files are opened and the model is loaded here, so call it inside the task.
    """
    return multisample.score_work(inputs, plan) if inputs.members else single_sample.score_work(inputs, plan)


def counts_text(counts: Mapping[str, int]) -> str:
    """Summary of a run's counts for the terminal: what was scored, and what was passed through by reason."""
    by_sample = counts.get("alleles scored, by sample")
    said = f"{counts.get('alleles scored', 0)} alleles scored" + (f" in {by_sample} carriers" if by_sample else "")
    if passed_on := passed_on_text(counts):
        said += f", {passed_on}"
    prefix = "passed through: "
    passed = [f"{count} {key.removeprefix(prefix)}" for key, count in counts.items() if key.startswith(prefix)]
    return f"{said}, passed through: {', '.join(passed)}" if passed else said
