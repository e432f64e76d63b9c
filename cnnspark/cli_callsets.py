"""Commands that score, filter, measure and explain callsets. Heavy packages are imported inside them."""

from __future__ import annotations

from typing import Any

import click

from cnnspark import errors
from cnnspark.cli_options import (
    Run,
    cascade_option,
    common_options,
    common_values,
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
    truth_options,
    vcf_option,
    with_setting,
)


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
    from cnnspark.inputs import required
    from cnnspark.plan import plan_callsets, plan_text

    paths = run.paths(**options)
    if sheet:
        from cnnspark.sheet import sheet_callsets

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
    if given := run.sheet(options):
        from cnnspark.sheet_stages import score_sheet

        sheet, cohort = given
        paths = run.paths(**options)
        run.show_cohort(
            score_sheet(
                run.spark("score"), sheet, paths, model, out, run.config, if_exists, not no_merge, strict, cohort,
                output_type,
            )
        )  # fmt: skip
        return
    from cnnspark import scoring, stages

    result = stages.score_callset(
        run.session("score"),
        run.paths(**options),
        model,
        out,
        run.config,
        if_exists,
        not no_merge,
        strict,
        output_type,
    )
    run.show(result, f"{result['statement']}\n{scoring.counts_text(result['counts'])}\n{result['merged'] or out}")


@click.command("filter")
@click.option("--in", "vcf", required=True, metavar="VCF|DIR", help="Scored callset, or the --out of 'cnnspark score'.")
@click.option("--out", required=True, metavar="VCF", help="Callset to write, .vcf.gz or .bcf.")
@filter_options
@replace_option
@local_option
@common_options
def filter_(vcf: str, out: str, invalidate_previous_filters: bool, if_exists: str, **options: Any) -> None:
    """Set FILTER by score: by a number, by the precision or sensitivity that the model's card promises, by an expected
    false discovery rate, or by tranches of sensitivity to known variants."""
    run = Run(common_values(options))
    from cnnspark import filtering, stages

    ways = ("threshold", "precision", "sensitivity", "fdr")
    snp, indel = ({way: options.pop(f"{kind}_{way}") for way in ways} for kind in ("snp", "indel"))
    result = stages.filter_callset(
        run.session("filter"), vcf, out, run.config, snp=snp, indel=indel, keep_filters=not invalidate_previous_filters,
        overwrite=if_exists == "overwrite", **options,
    )  # fmt: skip
    run.show(result, filtering.filter_text(result, out))


@click.command()
@click.option(
    "--vcf",
    "vcfs",
    multiple=True,
    metavar="VCF|DIR",
    help="Callset, or the --out of 'cnnspark score'; may be repeated: callsets of one sample side by side.",
)
@truth_options
@reference_option
@click.option("--out", required=True, metavar="DIR", help="Folder for metrics.json, its tables and report.html.")
@click.option("--score", "scores", multiple=True, metavar="KEY", help="Score to measure [CNN_2D and QUAL].")
@click.option(
    "--compare", multiple=True, metavar="A,B", help="Two scores, e.g. QUAL,CNN_2D: B's gain over A with its interval."
)
@click.option(
    "--stratify", multiple=True, metavar="NAME=BED", help="Measure inside and outside these regions; may be repeated."
)
@click.option("--sample", metavar="NAME", help="The callset's sample that the truth is of, where it has several.")
@click.option("--min-qual", type=float, metavar="Q", help="Leave out records with a lower QUAL.")
@click.option("--causes", metavar="TSV", help="Why false alleles are there, as 'cnnspark simulate' writes it.")
@region_option
@replace_option
@local_option
@common_options
def evaluate(
    vcfs: tuple[str, ...], out: str, scores: tuple[str, ...], compare: tuple[str, ...], stratify: tuple[str, ...],
    min_qual: float | None, causes: str | None, if_exists: str, **options: Any,
) -> None:  # fmt: skip
    """Measure how well scores tell true alleles from false ones: by type, length, depth, repeats and regions."""
    run = Run(common_values(options))
    from cnnspark import stages

    result = stages.evaluate_callset(
        run.session("evaluate"),
        run.paths(vcf=vcfs[0] if vcfs else None, **options),
        out,
        run.config,
        scores,
        min_qual,
        overwrite=if_exists == "overwrite",
        causes=causes,
        stratify=stratify,
        compare=compare,
        others=vcfs[1:],
    )
    run.show(result.measured.to_dict(), f"{result.measured.text()}\n\n{out}/report.html")


@click.command()
@click.option("--run", "run_folder", required=True, metavar="DIR", help="The --out of 'cnnspark score' or 'run'.")
@click.option("--out", required=True, metavar="HTML", help="Page to write.")
@click.option("--vcf", metavar="VCF", help="Filtered callset, for its FILTERs [that of 'run', else the scored one].")
@click.option("--evaluation", metavar="DIR", help="The --out of 'cnnspark evaluate' [that of 'run', if it has one].")
@click.option("--title", metavar="TEXT", help="Heading of the page.")
@replace_option
@output_options
def report(
    run_folder: str,
    out: str,
    vcf: str | None,
    evaluation: str | None,
    title: str | None,
    if_exists: str,
    **options: Any,
) -> None:
    """Write a page about a finished run, with a truth or without: what went, how good it is, how it ran."""
    run = Run({**options, "conf_spark": ()})
    from cnnspark.report_of_run import report_run

    result = report_run(run_folder, out, vcf, evaluation, title, if_exists == "overwrite")
    run.show(result, "\n".join([*result["summary"], out]))


@click.command("show")
@vcf_option
@reads_option
@reference_option
@click.option("--data", metavar="DIR", help="A tensor dataset instead of --vcf, --reads and --reference.")
@click.option("--at", required=True, metavar="CONTIG:POS", help="POS of the record, as chr20:10000117.")
@click.option("--alt", metavar="ALT", help="Which ALT [the first].")
@click.option("--out", required=True, metavar="PNG", help="Picture to write.")
@sample_option
@config_options
@output_options
def show_(data: str | None, at: str, alt: str | None, out: str, **options: Any) -> None:
    """Draw an allele's tensor: reference, alternate, and the reads by what they support."""
    run = Run({"conf_spark": (), **common_values(options)})
    from cnnspark import show
    from cnnspark.inputs import required

    if data and any(options[name] for name in ("vcf", "reads", "reference")):
        raise errors.UsageError("give either --data or --vcf with --reads and --reference")
    if data:
        result = show.show_from_dataset(data, at, alt, out)
    else:
        paths = run.paths(**options)
        result = show.show(
            required(paths.vcf, "--vcf"), required(paths.reads, "--reads"), required(paths.reference, "--reference"),
            at, alt, out, paths.sample, run.config.tensors,
        )  # fmt: skip
    run.show(result, show.summary(result))


@click.command("explain")
@click.option("--vcf", metavar="VCF|DIR", help="Callset, or the --out of 'cnnspark score', which knows the rest.")
@reads_option
@reference_option
@click.option(
    "--model", metavar="DIR|NAME", help="As of 'cnnspark score' [that which the callset was scored with, if bundled]."
)
@click.option("--at", required=True, metavar="CONTIG:POS", help="POS of the record, as chr20:10000117.")
@click.option("--alt", metavar="ALT", help="Which ALT [the first].")
@click.option("--out", required=True, metavar="HTML", help="Page to write.")
@sample_option
@config_options
@output_options
def explain_(model: str | None, at: str, alt: str | None, out: str, **options: Any) -> None:
    """Say why one allele has its score: a page with its tensor, its inputs, and what moves the score."""
    run = Run({"conf_spark": (), **common_values(options)})
    from cnnspark import explanation, explanation_words

    result = explanation.explain(run.paths(**options), model or run.config.model, at, alt, out, run.config)
    run.show(result, explanation_words.summary(result))


@click.command("run")
@vcf_option
@reads_option
@reference_option
@truth_options
@click.option(
    "--model", metavar="DIR|NAME", help="As of 'cnnspark score'; without it one is trained on --truth, if there is one."
)
@click.option("--out", required=True, metavar="DIR", help="Folder for everything.")
@region_option
@sample_option
@sheet_options
@cascade_option
@strict_option
@exists_option
@local_option
@common_options
def run_(out: str, model: str | None, cascade: bool | None, strict: bool, if_exists: str, **options: Any) -> None:
    """Do all of it, from a YAML or flags, for one callset or for a sheet's.

    Candidates where there is no callset, tensors and train where there is no model, score, filter, and evaluate where
    there is a truth.
    """
    run = Run(with_setting(common_values(options), "score.cascade", cascade))
    if given := run.sheet(options):
        from cnnspark.sheet_stages import run_sheet

        sheet, cohort = given
        paths = run.paths(**options)
        run.show_cohort(run_sheet(run.spark("run"), sheet, paths, out, run.config, model, if_exists, strict, cohort))
        return
    from cnnspark import pipeline

    result = pipeline.run_all(run.session("run"), run.paths(**options), out, run.config, model, if_exists, strict)
    run.show(result.to_dict(), result.text())


@click.command()
@click.option("--out", default="demo-out", show_default=True, metavar="DIR", help="Folder for everything.")
@click.option("--seed", default=1, show_default=True, help="Seed of the simulated sample.")
@click.option("--length", default=800_000, show_default=True, help="Bases of the simulated genome.")
@exists_option
@common_options
def demo(out: str, seed: int, length: int, if_exists: str, **options: Any) -> None:
    """Run everything on a simulated sample: a few minutes on two cores."""
    run = Run(common_values(options))
    from cnnspark import pipeline

    result = pipeline.demo(run.spark("demo"), out, run.config, seed, length, if_exists)
    run.show(result.to_dict(), result.text())
