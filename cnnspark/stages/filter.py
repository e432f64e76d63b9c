"""FILTER by score."""

from __future__ import annotations

from typing import Any

from cnnspark._version import __version__
from cnnspark.common.log import about, progress
from cnnspark.common.storage import write_json
from cnnspark.config import Config, InputPaths
from cnnspark.execution.shards import BlockLines, merged_callset, write_shards
from cnnspark.execution.tasks import Session
from cnnspark.filtering.record_filter import DECISION, split_counts
from cnnspark.filtering.request import FilterOptions, FilterRequest, decide_filter
from cnnspark.filtering.thresholds import score_key_of
from cnnspark.formats import bcf
from cnnspark.stages.inputs import checked_inputs
from cnnspark.stages.preflight import check_executors
from cnnspark.stages.run_steps import finish_run, new_callset, planned_blocks, work_folder


@about(stage="filter")
def filter_callset(
    session: Session, vcf: str, out: str, config: Config, options: FilterOptions, overwrite: bool = False
) -> dict[str, Any]:
    """Sets FILTER by score and writes the callset with its index, and what was decided beside it.

    Args:
        session: where the tasks run.
        vcf: a scored callset, or the folder of a scoring run.
        out: the callset to write, ``.vcf.gz`` or ``.bcf``; the decision is written to ``out`` + ``.filter.json``.
        config: all settings.
        options: what to filter by.
        overwrite: whether an earlier ``out`` is replaced.

    Returns:
        Plain values of the decision and the counts, with ``statement`` (that no record was lost).

    Raises:
        UsageError: options that contradict each other, or a threshold that the model's card does not have.
        InputError: the callset or a resource cannot be used.
        RunError: records were lost.
    """
    request = FilterRequest.of(options)
    target = new_callset(out, overwrite)
    vcf = merged_callset(vcf)
    with (
        checked_inputs(InputPaths(vcf=vcf).absolute(), config, target, needs_reads=False) as checked,
        work_folder(target, "filter") as work,
    ):
        key = score_key_of(checked.header, request.key)
        known = request.check(checked.header, key)
        used, warnings = request.open_resources(list(checked.preflight.contig_lengths), vcf)
        if used:
            check_executors(session, [*checked.inputs.paths, *request.resources])
        blocks = planned_blocks(session, checked, config, join_contigs=True)
        path = checked.inputs.vcf
        by, more = decide_filter(session, request, key, known, checked.header, path, blocks)
        warnings += more
        for warning in warnings:
            progress(f"warning: {warning}")
        header = by.header(checked.header)
        if target.suffix == bcf.SUFFIX:
            bcf.require_contigs(header, (region.contig for block in blocks for region in block.regions))
        work.open(checked.identity, blocks, "overwrite")

        def make_work() -> BlockLines:
            return by.work(path)

        rows, by_filter = split_counts(write_shards(session, work, blocks, header, make_work))
        facts = {
            "stage": "filter", **by.facts(), "by_filter": by_filter, "keep_filters": request.keep_filters,
            "strict": request.strict, "warnings": warnings, "resources": used,
        }  # fmt: skip
        decision = target.with_name(target.name + DECISION)
        decision.unlink(missing_ok=True)  # that of the callset which is about to be replaced
        summary = finish_run(session, work, blocks, rows, header, target, facts)
        inputs = {"input": checked.identity["inputs"], "version": __version__}
        write_json(decision, {**facts, **inputs, "counts": summary["counts"]})
        progress(summary["statement"])  # the result's text does not say it, unlike that of scoring
        return {**summary, "decision": str(decision)}
