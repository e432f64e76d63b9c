"""FILTER by score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnspark._version import __version__
from cnnspark.common.log import about, progress
from cnnspark.common.storage import write_json
from cnnspark.config import Config, InputPaths
from cnnspark.execution.shards import BlockLines, merged_callset, write_shards
from cnnspark.execution.tasks import Session
from cnnspark.filtering import thresholds
from cnnspark.filtering.request import FilterRequest, settle
from cnnspark.formats import bcf
from cnnspark.stages.inputs import checked_inputs
from cnnspark.stages.preflight import check_executors
from cnnspark.stages.run_steps import finish_run, new_callset, planned_blocks, work_folder


@about(stage="filter")
def filter_callset(
    spark: Session, vcf: str, out: str, config: Config, precision: float | None = None,
    threshold: float | None = None, key: str | None = None, keep_filters: bool = True, overwrite: bool = False,
    sensitivity: float | None = None, fdr: float | None = None, snp: Mapping[str, float | None] | None = None,
    indel: Mapping[str, float | None] | None = None, resources: Sequence[str] = (),
    snp_tranches: Sequence[float] = (), indel_tranches: Sequence[float] = (), strict: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Sets FILTER by score and writes ``out`` (``.vcf.gz`` or ``.bcf``) with its index, and what was decided beside it
    (:data:`cnnspark.filtering.thresholds.DECISION`).

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
    target = new_callset(out, overwrite)
    vcf = merged_callset(vcf)
    with (
        checked_inputs(InputPaths(vcf=vcf).absolute(), config, target, needs_reads=False) as checked,
        work_folder(target, "filter") as work,
    ):
        key = thresholds.score_key_of(checked.header, request.key)
        known = request.check(checked.header, key)
        used, warnings = request.open_resources(list(checked.preflight.contig_lengths), vcf)
        if used:
            check_executors(spark, [*checked.inputs.paths, *request.resources])
        blocks = planned_blocks(spark, checked, config)
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

        rows, by_filter = thresholds.split_counts(write_shards(spark, work, blocks, header, make_work))
        facts = {
            "stage": "filter", **settings.facts(), "by_filter": by_filter, "keep_filters": keep_filters,
            "strict": strict, "warnings": warnings, "resources": used,
        }  # fmt: skip
        decision = target.with_name(target.name + thresholds.DECISION)
        decision.unlink(missing_ok=True)  # that of a callset which is about to go
        summary = finish_run(spark, work, blocks, rows, header, target, facts)
        inputs = {"input": checked.identity["inputs"], "version": __version__}
        write_json(decision, {**facts, **inputs, "counts": summary["counts"]})
        progress(summary["statement"])  # the result's text does not say it, as that of scoring does
        return {**summary, "decision": str(decision)}
