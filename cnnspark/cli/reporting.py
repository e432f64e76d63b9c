"""Commands that measure, report on and explain callsets. Heavy packages are imported inside them."""

from __future__ import annotations

from typing import Any

import click

from cnnspark import errors
from cnnspark.cli.options import (
    common_options,
    config_options,
    local_option,
    output_options,
    reads_option,
    reference_option,
    region_option,
    replace_option,
    sample_option,
    truth_options,
    vcf_option,
)
from cnnspark.cli.run import Run, common_values


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
@click.option("--sample", metavar="NAME", help="The callset's sample that the truth belongs to.")
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

    request = stages.EvaluationRequest(
        run.paths(vcf=vcfs[0] if vcfs else None, **options), out, run.config, scores, min_qual,
        overwrite=if_exists == "overwrite", causes=causes, stratify=stratify, compare=compare, others=vcfs[1:],
    )  # fmt: skip
    result = stages.evaluate_callset(run.session("evaluate"), request)
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
    from cnnspark.reports.callset.finished_run import report_run

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
    from cnnspark.stages import show
    from cnnspark.variants.labeller import required

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
    "--model", metavar="DIR|NAME", help="As for 'cnnspark score' [the one that scored the callset, if it is bundled]."
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
    from cnnspark.reports.allele import sentences
    from cnnspark.stages import explain

    result = explain.explain(run.paths(**options), model or run.config.model, at, alt, out, run.config)
    run.show(result, sentences.summary(result))
