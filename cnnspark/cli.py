"""The command line. ``jobs/*.py`` are the same commands for spark-submit.

Heavy packages are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from cnnspark import __version__, errors
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
    training_options,
    truth_options,
    vcf_option,
    with_setting,
)
from cnnspark.failures import explain
from cnnspark.lean import own_process
from cnnspark.log import fail, progress, quiet_stderr, set_format
from cnnspark.models.bundled import chosen_model
from cnnspark.models.names import MODELS

EXIT_CODES = """\b
Exit codes: 0 done, 2 usage or configuration, 3 the inputs do not fit (preflight),
4 failed and resumable (--if-exists resume), 5 not good enough (--strict)."""


class NaturalOrderGroup(click.Group):
    """Commands in the order in which the data goes through them, not the alphabet's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=NaturalOrderGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cnnspark")
def cli() -> None:
    """Filter variant callsets with a convolutional network, distributed on Apache Spark.

    Start with 'cnnspark demo'. A usual run: 'tensors' on a sample with a truth set, 'train', then 'score' and
    'filter' on every callset; or all of it with 'run'.
    """


@cli.command()
@click.option("--out", required=True, metavar="DIR", help="Folder for the files.")
@reference_option
@region_option
@click.option("--seed", type=int, metavar="N", help="Another seed, another sample [1].")
@click.option("--length", type=int, metavar="BASES", help="Size of the genome that is made up without --reference.")
@click.option("--coverage", type=float, metavar="X", help="Mean read depth [30].")
@click.option("--read-length", type=int, metavar="BASES", help="100, 150 or 250 [150].")
@click.option("--profile", metavar="NAME", help="Base qualities: hiseq or novaseq (binned) [hiseq].")
@click.option(
    "--mechanisms",
    multiple=True,
    metavar="NAME=SHARE",
    help="How much of a cause of false alleles: 1 is usual, 0 none.",
)
@config_options
@output_options
def simulate(out: str, mechanisms: tuple[str, ...], reference: str, regions: tuple[str, ...], **options: Any) -> None:
    """Make a sample's reads, truth and a callset with plenty of false positives, each of known cause.

    On sequence of --reference, or on a small genome of its own.
    """
    import dataclasses

    from cnnspark.causes import counts_by_cause
    from cnnspark.files import local_folder
    from cnnspark.simulate import simulate as make

    run = Run({"conf_spark": (), **common_values(options)})
    chosen = dataclasses.replace(
        run.config.simulate,
        mechanisms=run.config.simulate.mechanisms.changed(mechanisms),
        **{name: value for name, value in options.items() if value is not None},
    )
    paths = run.paths(reference=reference, regions=regions)
    files = make(
        local_folder(out), chosen, reference=paths.reference, regions=paths.regions, candidates=run.config.candidates
    )
    result = {name: str(path) for name, path in dataclasses.asdict(files).items()}
    by_cause = counts_by_cause(result["causes"])
    text = "\n".join(f"{name:12} {path}" for name, path in result.items())
    counts = ", ".join(f"{n} {cause}" for cause, n in by_cause.items())
    run.show({**result, "alleles": by_cause}, f"{text}\n{'alleles':12} {counts}")


@cli.command()
@reads_option
@reference_option
@click.option("--out", required=True, metavar="VCF", help="Callset to write, .vcf.gz or .bcf.")
@region_option
@sample_option
@replace_option
@local_option
@common_options
def candidates(
    reads: str, reference: str, out: str, regions: tuple[str, ...], sample: str, if_exists: str, **options: Any
) -> None:
    """Call every candidate allele from the reads alone: a start without a caller."""
    run = Run(common_values(options))
    from cnnspark import stages

    paths = run.paths(reads=reads, reference=reference, regions=regions, sample=sample)
    result = stages.call_candidates(run.session("candidates"), paths, out, run.config, if_exists == "overwrite")
    run.show(result, f"{result['records']} candidate alleles: {out}")


@cli.command()
@vcf_option
@reads_option
@reference_option
@truth_options
@click.option("--out", required=True, metavar="DIR", help="Folder for the dataset.")
@region_option
@sample_option
@sheet_options
@exists_option
@common_options
def tensors(out: str, if_exists: str, **options: Any) -> None:
    """Build labelled tensors of a callset, or of a sheet's, and write them to Parquet through Petastorm."""
    run = Run(common_values(options))
    if given := run.sheet(options):
        from cnnspark.sheet_stages import tensors_sheet

        sheet, cohort = given
        paths = run.paths(**options)
        run.show_cohort(tensors_sheet(run.spark("tensors"), sheet, paths, out, run.config, if_exists, cohort))
        return
    from cnnspark import stages

    result = stages.build_dataset(run.spark("tensors"), run.paths(**options), out, run.config, if_exists)
    labels = result["labels"]
    run.show(result, f"{result['tensors']} tensors ({labels['true']} true, {labels['false']} false): {out}")


@cli.command()
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="DIR",
    help="Dataset, the --out of 'cnnspark tensors', without labels or with; may be repeated.",
)
@click.option("--model-out", required=True, metavar="DIR", help="Folder for the bundle that 'train --init' takes.")
@click.option("--model", type=click.Choice(MODELS), help="The network, none of GATK's [reads].")
@training_options
@click.option("--patience", type=int, metavar="N", help="End after N epochs without a lower validation loss [never].")
@exists_option
@common_options
def pretrain(
    data: tuple[str, ...], model_out: str, validation: tuple[str, ...], if_exists: str, **options: Any
) -> None:
    """Train a network without labels: it learns to say what was hidden of reads, annotations and features."""
    run = Run(common_values(options))
    from cnnspark import training

    settings = run.config.train.with_flags(validation, if_exists=if_exists, objective="pretrain", **options)
    result = training.train(run.spark("pretrain"), data, model_out, settings, progress)
    run.show(result.to_dict(), result.text())


@cli.command()
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="DIR",
    help="Dataset, the --out of 'cnnspark tensors'; may be repeated: trained on together.",
)
@click.option("--model-out", required=True, metavar="DIR", help="Folder for the model bundle.")
@click.option("--model", type=click.Choice(MODELS), help="The network; that of --init where it is given [reads].")
@click.option("--init", metavar="DIR", help="Model bundle whose weights training starts from.")
@training_options
@click.option("--patience", type=int, metavar="N", help="End after N epochs without a better validation AUPRC [never].")
@exists_option
@common_options
def train(data: tuple[str, ...], model_out: str, validation: tuple[str, ...], if_exists: str, **options: Any) -> None:
    """Train a network on one dataset or several, one replica a task, gradients all-reduced."""
    run = Run(common_values(options))
    from cnnspark import training

    settings = run.config.train.with_flags(validation, if_exists=if_exists, objective="classify", **options)
    result = training.train(run.spark("train"), data, model_out, settings, progress)
    run.show(result.to_dict(), result.text())


@cli.command()
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="DIR",
    help="Labelled dataset, the --out of 'cnnspark tensors'; may be repeated. Of those that a model was trained on the "
    "blocks count that it held out.",
)
@click.option(
    "--first", metavar="DIR|NAME", help="A 'features' model, to score all alleles [that of the bundled 'reads']."
)
@click.option(
    "--model", required=True, metavar="DIR|NAME", help="A 'reads' model, to score what the first is not sure of."
)
@click.option("--out", required=True, metavar="DIR", help="Folder for the bundle of both.")
@replace_option
@config_options
@output_options
def cascade(data: tuple[str, ...], first: str | None, model: str, out: str, if_exists: str, **options: Any) -> None:
    """Put a faster model before another: find what the first may score alone at no loss, and bundle both.

    The bundle scores in two stages; 'score --no-cascade' leaves all to the second. Needs no Spark.
    """
    run = Run({"conf_spark": (), **common_values(options)})
    from cnnspark.cascade_stage import make_cascade

    result = make_cascade(data, first, model, out, run.config.score, if_exists)
    run.show(result.to_dict(), result.text())


@cli.command()
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


@cli.command()
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


@cli.command("filter")
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


@cli.command()
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


@cli.command()
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


@cli.command("show")
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


@cli.command("explain")
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


@cli.command("import-gatk")
@click.option("--weights", required=True, metavar="FILE", help="GATK's weights: .hd5 of Keras, .pt of PyTorch or .npz.")
@click.option("--kind", required=True, type=click.Choice(["1d", "2d"]), help="Which network: reference or read tensor.")
@click.option("--model-out", required=True, metavar="DIR", help="Folder for the model bundle.")
@click.option(
    "--if-exists",
    type=click.Choice(["fail", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do where --model-out is there already.",
)
@output_options
def import_gatk(weights: str, kind: str, model_out: str, if_exists: str, **options: Any) -> None:
    """Make a model bundle of weights that GATK has published. Nothing in the file is run."""
    run = Run({**options, "conf_spark": ()})
    from cnnspark.gatk_weights import import_weights

    with quiet_stderr():
        card = import_weights(weights, kind, model_out, if_exists == "overwrite")
    result = {"model_out": model_out, "model": card.model, "sha256": card.sha256}
    run.show(result, f"{card.model} with the weights of {weights}: {model_out}")


@cli.command("model-summary")
@click.option("--model", "name", type=click.Choice(MODELS), help="One network [all].")
@click.option("--bundle", metavar="DIR|NAME", help="A trained network with its card: a folder or a bundled model.")
@click.option("--rows", type=click.IntRange(8, 1000), default=32, show_default=True, help="Reads of the allele.")
@click.option("--layers", is_flag=True, help="List every layer, too.")
@output_options
def model_summary(name: str | None, bundle: str | None, rows: int, layers: bool, **options: Any) -> None:
    """Print what the networks take and cost, or what a trained one was made from."""
    run = Run({**options, "conf_spark": ()})
    from cnnspark import model_summary as of_models

    if bundle and name:
        raise errors.UsageError("give either --model or --bundle")
    if bundle:
        result = of_models.bundle_summary(chosen_model(bundle, with_reads=True), rows, layers)
        run.show(result, of_models.bundle_text(result))
    else:
        result = of_models.models_summary([name] if name else [], rows, layers)
        run.show(result, of_models.models_text(result))


@cli.command("run")
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


@cli.command()
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; every failure becomes one sentence on stderr."""
    if arguments is None:
        own_process()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    set_format("text")  # until the command's own options are known
    try:
        with _ended_by_sigterm():
            cli.main(arguments, prog_name="cnnspark", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.Abort:
        return _fail("interrupted; run again with --if-exists resume", 130)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return _fail("interrupted; run again with --if-exists resume", 130)
    except Exception as error:
        if "--debug" in arguments:
            raise
        explained = explain(error)
        return _fail(str(explained), explained.exit_code)
    return 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, by which YARN and Kubernetes end a driver, as an exception: temporary folders are then removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, code: int) -> int:
    fail(message, code)
    return code


if __name__ == "__main__":
    sys.exit(main())
