"""Commands that plan, score and filter. Heavy packages are imported inside them."""

from __future__ import annotations

from typing import Any

import click

from cnnspark.cli.options import (
    cascade_option,
    common_options,
    config_options,
    exists_option,
    filter_options,
    local_option,
    model_option,
    output_options,
    reads_option,
    reference_option,
    region_option,
    replace_option,
    sample_option,
    sheet_options,
    strict_option,
    vcf_option,
)
from cnnspark.cli.run import Run, common_values, with_setting


@click.command()
@vcf_option
@reads_option
@reference_option
@model_option
@region_option
@click.option("--sheet", metavar="TSV", help="Sample sheet instead of one sample's files.")
@click.option("--cores", type=click.IntRange(1), metavar="N", help="Spark's task slots [this machine's cores].")
@config_options
@output_options
def plan(model: str | None, sheet: str | None, cores: int | None, **options: Any) -> None:
    """Say what 'score' would take, from indexes alone: blocks, time, memory, output size. Needs no Spark."""
    import os

    run = Run({"conf_spark": (), **common_values(options)})
    from cnnspark.stages.plan import plan_callsets, plan_text
    from cnnspark.variants.labeller import required

    paths = run.paths(**options)
    if sheet:
        from cnnspark.stages.sample_sheet import sheet_callsets

        found = plan_callsets([each.paths for each in sheet_callsets(sheet, paths)], run.config, model)
    else:
        required(paths.vcf, "--vcf")
        found = plan_callsets([paths], run.config, model)
    slots = cores or os.cpu_count() or 1
    run.show(found.to_dict(slots), plan_text(found, slots))


@click.command()
@vcf_option
@reads_option
@reference_option
@model_option
@click.option("--out", required=True, metavar="DIR", help="Folder for shards, manifest and the merged VCF.")
@region_option
@sample_option
@sheet_options
@click.option("--no-merge", is_flag=True, help="Leave the shards; each has the header and an index.")
@click.option(
    "--output-type",
    "-O",
    type=click.Choice(["z", "b"]),
    default="z",
    show_default=True,
    help="The merged file: merged.vcf.gz or, with b, merged.bcf.",
)
@click.option(
    "--on-ref-mismatch",
    type=click.Choice(["error", "skip"]),
    help="A REF that is not the reference's: stop, or pass the record through unscored [error].",
)
@cascade_option
@strict_option
@exists_option
@local_option
@common_options
def score(
    model: str | None,
    out: str,
    no_merge: bool,
    output_type: str,
    on_ref_mismatch: str | None,
    cascade: bool | None,
    strict: bool,
    if_exists: str,
    **options: Any,
) -> None:
    """Score the alleles of a callset, or of a sheet's: INFO/CNN_2D, in VCF shards and one merged, indexed VCF."""
    kept = with_setting(common_values(options), "tensors.on_ref_mismatch", on_ref_mismatch)
    run = Run(with_setting(kept, "score.cascade", cascade))
    model = model or run.config.model
    given = run.sheet(options)
    from cnnspark import stages
    from cnnspark.scoring.score import counts_text

    request = stages.ScoreRequest(
        run.paths(**options), model, out, run.config, if_exists, not no_merge, strict, output_type
    )
    if given:
        from cnnspark.stages.sheet_stages import score_sheet

        sheet, settings = given
        run.show_sheet(score_sheet(run.spark("score"), sheet, request, settings))
        return
    result = stages.score_callset(run.session("score"), request)
    run.show(result, f"{result['statement']}\n{counts_text(result['counts'])}\n{result['merged'] or out}")


@click.command("filter")
@click.option("--in", "vcf", required=True, metavar="VCF|DIR", help="Scored callset, or the --out of 'cnnspark score'.")
@click.option("--out", required=True, metavar="VCF", help="Callset to write, .vcf.gz or .bcf.")
@filter_options
@replace_option
@local_option
@common_options
def filter_(vcf: str, out: str, invalidate_previous_filters: bool, if_exists: str, **options: Any) -> None:
    """Set FILTER by score, by one of four ways to a threshold, or by tranches of sensitivity to known variants.

    A threshold is a number, or the one that gives a precision or a sensitivity by the model's card, or the one with an
    expected false discovery rate.
    """
    run = Run(common_values(options))
    from cnnspark import stages
    from cnnspark.filtering.thresholds import filter_text

    ways = ("threshold", "precision", "sensitivity", "fdr")
    snp, indel = ({way: options.pop(f"{kind}_{way}") for way in ways} for kind in ("snp", "indel"))
    chosen = stages.FilterOptions(snp=snp, indel=indel, keep_filters=not invalidate_previous_filters, **options)
    session = run.session("filter")
    result = stages.filter_callset(session, vcf, out, run.config, chosen, overwrite=if_exists == "overwrite")
    run.show(result, filter_text(result, out))
