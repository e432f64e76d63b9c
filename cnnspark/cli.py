"""The command line. ``jobs/*.py`` are the same commands for spark-submit.

Heavy packages are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cnnspark import __version__, errors
from cnnspark.log import progress, quiet_stderr, set_quiet
from cnnspark.models.names import MODELS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.config import Config, InputPaths
    from cnnspark.training import TrainResult
    from cnnspark.training_settings import TrainSettings

F = TypeVar("F", bound=Callable[..., Any])

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


def _stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


spark_options = _stack(
    click.option("--master", metavar="URL", help="Spark master [spark-submit's, else local[*]]."),
    click.option(
        "--conf-spark", "conf_spark", multiple=True, metavar="KEY=VALUE", help="A Spark property; may be repeated."
    ),
    click.option("--properties-file", metavar="FILE", help="Spark properties, as conf/spark/local.conf."),
)
config_options = _stack(
    click.option("--config", "config_path", metavar="YAML", help="Configuration file, as conf/local.yaml."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, e.g. tensors.seed=7."),
)
output_options = _stack(
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and no progress lines."),
    click.option("-q", "--quiet", is_flag=True, help="No progress lines."),
    click.option("--debug", is_flag=True, help="Show tracebacks."),
)
common_options = _stack(config_options, spark_options, output_options)
exists_option = click.option(
    "--if-exists",
    type=click.Choice(["fail", "resume", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do where --out is there already.",
)
replace_option = click.option(
    "--if-exists",
    type=click.Choice(["fail", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do where --out is there already.",
)
vcf_option = click.option("--vcf", metavar="FILE", help="Callset: .vcf.gz with index, .vcf or .bcf.")
reads_option = click.option("--reads", metavar="FILE", help="Reads: indexed BAM or CRAM.")
reference_option = click.option("--reference", metavar="FASTA", help="Reference: indexed FASTA.")
sample_option = click.option("--sample", metavar="NAME", help="The callset's sample that the reads are of.")
region_option = click.option(
    "--region", "regions", multiple=True, metavar="REGION", help="chr20 or chr20:1,000-2,000; may be repeated."
)
strict_option = click.option(
    "--strict", is_flag=True, help="Exit 5, merging nothing, where the callset is not what the model was trained on."
)
truth_options = _stack(
    click.option("--truth", metavar="VCF", help="Truth callset, bgzipped and indexed."),
    click.option("--bed", metavar="BED", help="Regions where the truth is complete."),
    click.option(
        "--labels", metavar="TSV", help="Labelled alleles instead: chrom, pos, ref, alt, label (TP, FP, OUT)."
    ),
)


class Run:
    """What every command needs: the configuration, the paths, a Spark session and a way to print the result."""

    def __init__(self, options: dict[str, Any]):
        from cnnspark.config import differences, load_config

        set_quiet(options["quiet"] or options["as_json"])
        self.options = options
        self.config: Config = load_config(options.get("config_path"), options.get("settings", ()))
        if options.get("config_path") or options.get("settings"):
            progress(f"configuration: {' '.join(differences(self.config)) or 'the defaults'}")

    def paths(self, **given: Any) -> InputPaths:
        """The configuration's inputs, with the flags over them."""
        import dataclasses

        chosen = {name: value for name, value in given.items() if value not in (None, ())}
        return dataclasses.replace(self.config.inputs, **chosen)

    def spark(self, app: str) -> SparkSession:
        from cnnspark.session import read_properties, spark_session

        properties: dict[str, str] = {}
        if self.options.get("properties_file"):
            properties.update(read_properties(self.options["properties_file"]))
        for text in self.options["conf_spark"]:
            key, separator, value = text.partition("=")
            if not separator:
                raise errors.UsageError(f"--conf-spark {text} has no value; write key=value")
            properties[key] = value
        session = spark_session(app, self.options["master"], properties)
        # What it logs is raised, too.
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        if threading.current_thread() is threading.main_thread():
            # Spark's own handler calls the JVM from within another call to it, which fails, and goes on.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return session

    def show(self, result: dict[str, Any], text: str) -> None:
        """The result on stdout: ``text`` for a person, JSON with --json."""
        click.echo(json.dumps(result, sort_keys=True, default=str) if self.options["as_json"] else text)


def _kept(options: dict[str, Any]) -> dict[str, Any]:
    names = ("config_path", "settings", "master", "conf_spark", "properties_file", "as_json", "quiet", "debug")
    return {name: options.pop(name) for name in names if name in options}


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
    from pathlib import Path

    from cnnspark.causes import counts_by_cause
    from cnnspark.simulate import simulate as make

    run = Run({"conf_spark": (), **_kept(options)})
    chosen = dataclasses.replace(
        run.config.simulate,
        mechanisms=run.config.simulate.mechanisms.changed(mechanisms),
        **{name: value for name, value in options.items() if value is not None},
    )
    paths = run.paths(reference=reference, regions=regions)
    files = make(Path(out), chosen, reference=paths.reference, regions=paths.regions, candidates=run.config.candidates)
    result = {name: str(path) for name, path in dataclasses.asdict(files).items()}
    by_cause = counts_by_cause(result["causes"])
    text = "\n".join(f"{name:12} {path}" for name, path in result.items())
    counts = ", ".join(f"{n} {cause}" for cause, n in by_cause.items())
    run.show({**result, "alleles": by_cause}, f"{text}\n{'alleles':12} {counts}")


@cli.command()
@reads_option
@reference_option
@click.option("--out", required=True, metavar="VCF", help="Callset to write, .vcf.gz.")
@region_option
@sample_option
@replace_option
@common_options
def candidates(
    reads: str, reference: str, out: str, regions: tuple[str, ...], sample: str, if_exists: str, **options: Any
) -> None:
    """Call every candidate allele from the reads alone: a start without a caller."""
    run = Run(_kept(options))
    from cnnspark import stages

    paths = run.paths(reads=reads, reference=reference, regions=regions, sample=sample)
    result = stages.call_candidates(run.spark("candidates"), paths, out, run.config, if_exists == "overwrite")
    run.show(result, f"{result['records']} candidate alleles: {out}")


@cli.command()
@vcf_option
@reads_option
@reference_option
@truth_options
@click.option("--out", required=True, metavar="DIR", help="Folder for the dataset.")
@region_option
@sample_option
@exists_option
@common_options
def tensors(out: str, if_exists: str, **options: Any) -> None:
    """Build labelled tensors of a callset and write them to Parquet through Petastorm."""
    run = Run(_kept(options))
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
    help="Dataset, the --out of 'cnnspark tensors'; may be repeated: trained on together.",
)
@click.option("--model-out", required=True, metavar="DIR", help="Folder for the model bundle.")
@click.option("--model", "name", type=click.Choice(MODELS), help="The network [reads].")
@click.option("--replicas", type=int, metavar="N", help="Replicas, one Spark task each [1].")
@click.option("--epochs", type=int, metavar="N", help="Passes over the training blocks.")
@click.option("--batch-size", type=int, metavar="N", help="Alleles a step, over all replicas.")
@click.option("--validation", "validation", multiple=True, metavar="SHARE|REGION", help="Held out, whole blocks [0.2].")
@click.option("--patience", type=int, metavar="N", help="End after N epochs without a better validation AUPRC [never].")
@click.option("--log-dir", metavar="DIR", help="Write losses and figures for TensorBoard there.")
@exists_option
@common_options
def train(
    data: tuple[str, ...], model_out: str, name: str, replicas: int, epochs: int, batch_size: int,
    validation: tuple[str, ...], patience: int | None, log_dir: str | None, if_exists: str, **options: Any,
) -> None:  # fmt: skip
    """Train a network on one dataset or several, one replica a task, gradients all-reduced."""
    run = Run(_kept(options))
    from cnnspark import training

    settings = train_settings(run.config, name, replicas, epochs, batch_size, validation, if_exists, patience, log_dir)
    result = training.train(run.spark("train"), data, model_out, settings, progress)
    summary = train_summary(result)
    run.show(summary, f"best epoch {summary['best_epoch']}, validation {summary['text']}: {model_out}")


def train_settings(
    config: Config, name: str | None, replicas: int | None, epochs: int | None, batch_size: int | None,
    validation: Sequence[str], if_exists: str, patience: int | None = None, log_dir: str | None = None,
) -> TrainSettings:  # fmt: skip
    """The configuration's training settings with the flags over them."""
    import dataclasses

    chosen: dict[str, Any] = {
        key: value
        for key, value in {
            "model": name, "replicas": replicas, "epochs": epochs, "batch_size": batch_size, "if_exists": if_exists,
            "patience": patience, "log_dir": log_dir,
        }.items()
        if value is not None
    }  # fmt: skip
    if validation:
        share = len(validation) == 1 and re.fullmatch(r"0?\.\d+", validation[0])
        chosen["validation"] = float(validation[0]) if share else tuple(validation)
    return dataclasses.replace(config.train, **chosen)


def train_summary(result: TrainResult) -> dict[str, Any]:
    """The training result as plain values."""
    best = next((row for row in result.card.history if row["epoch"] == result.best_epoch), {})
    auprc = best.get("val_auprc")
    text = f"AUPRC {auprc:.4f}" if auprc is not None else f"loss {best.get('val_loss')}"
    return {"model_out": result.model_out, "best_epoch": result.best_epoch, "validation": best, "text": text}


@cli.command()
@vcf_option
@reads_option
@reference_option
@click.option("--model", required=True, metavar="DIR", help="Model bundle, the --model-out of 'cnnspark train'.")
@click.option("--out", required=True, metavar="DIR", help="Folder for shards, manifest and the merged VCF.")
@region_option
@sample_option
@click.option("--no-merge", is_flag=True, help="Leave the shards; each has the header.")
@click.option(
    "--on-ref-mismatch",
    type=click.Choice(["error", "skip"]),
    help="A REF that is not the reference's: stop, or pass the record through unscored [error].",
)
@strict_option
@exists_option
@common_options
def score(
    model: str, out: str, no_merge: bool, on_ref_mismatch: str | None, strict: bool, if_exists: str, **options: Any
) -> None:
    """Score a callset's alleles: INFO/CNN_2D, in VCF shards and one merged, indexed VCF."""
    kept = _kept(options)
    if on_ref_mismatch:
        kept["settings"] = (*kept["settings"], f"tensors.on_ref_mismatch={on_ref_mismatch}")
    run = Run(kept)
    from cnnspark import stages

    result = stages.score_callset(
        run.spark("score"), run.paths(**options), model, out, run.config, if_exists, not no_merge, strict
    )
    run.show(result, f"{result['statement']}\n{result['merged'] or out}")


@cli.command("filter")
@click.option("--in", "vcf", required=True, metavar="VCF|DIR", help="Scored callset, or the --out of 'cnnspark score'.")
@click.option("--out", required=True, metavar="VCF", help="Callset to write, .vcf.gz.")
@click.option("--threshold", type=float, metavar="X", help="Filter records whose score is below this.")
@click.option("--precision", type=float, metavar="P", help="Filter below the threshold that gives this precision.")
@click.option("--sensitivity", type=float, metavar="S", help="... that keeps this share of the true alleles.")
@click.option("--key", metavar="KEY", help="INFO key of the score [CNN_2D, else CNN_1D].")
@click.option("--invalidate-previous-filters", is_flag=True, help="Drop the callset's own FILTERs.")
@replace_option
@common_options
def filter_(
    vcf: str, out: str, threshold: float | None, precision: float | None, sensitivity: float | None, key: str | None,
    invalidate_previous_filters: bool, if_exists: str, **options: Any,
) -> None:  # fmt: skip
    """Set FILTER by score: by a number, or by the precision or sensitivity that the model's card promises."""
    run = Run(_kept(options))
    from cnnspark import stages

    result = stages.filter_callset(
        run.spark("filter"), vcf, out, run.config, precision, threshold, key,
        not invalidate_previous_filters, if_exists == "overwrite", sensitivity,
    )  # fmt: skip
    run.show(result, filter_text(result, out))


def filter_text(result: dict[str, Any], out: str) -> str:
    """What was filtered, in one line."""
    counts = result["counts"]
    cutoffs = ", ".join(f"{group} {value:.3f}" for group, value in sorted(result["thresholds"].items()))
    return (
        f"{counts.get('passed', 0)} records pass, {counts.get('filtered', 0)} get {result['filter']} "
        f"({result['key']} below {cutoffs}), {counts.get('not scored', 0)} have no score: {out}"
    )


@cli.command()
@click.option("--vcf", metavar="VCF|DIR", help="Callset, or the --out of 'cnnspark score'.")
@truth_options
@reference_option
@click.option("--out", required=True, metavar="DIR", help="Folder for metrics.json, metrics.txt and report.html.")
@click.option("--score", "scores", multiple=True, metavar="KEY", help="Score to measure [CNN_2D and QUAL].")
@click.option("--min-qual", type=float, metavar="Q", help="Leave out records with a lower QUAL.")
@click.option("--causes", metavar="TSV", help="Why false alleles are there, as 'cnnspark simulate' writes it.")
@region_option
@replace_option
@common_options
def evaluate(
    out: str, scores: tuple[str, ...], min_qual: float | None, causes: str | None, if_exists: str, **options: Any
) -> None:
    """Measure how well a callset's scores tell true alleles from false ones."""
    run = Run(_kept(options))
    from cnnspark import stages
    from cnnspark.evaluation import format_causes
    from cnnspark.metrics import format_table

    result = stages.evaluate_callset(
        run.spark("evaluate"),
        run.paths(**options),
        out,
        run.config,
        scores,
        min_qual,
        overwrite=if_exists == "overwrite",
        causes=causes,
    )
    tables = [format_table(result.metrics), *([format_causes(result.by_cause)] if result.by_cause else [])]
    stored = {"metrics": result.metrics, "counts": result.counts, "by_cause": result.by_cause}
    run.show(stored, "\n\n".join(tables) + f"\n{out}/report.html")


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
    run = Run({"conf_spark": (), **_kept(options)})
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
@click.option("--bundle", metavar="DIR", help="A trained network, the --model-out of 'cnnspark train', with its card.")
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
        result = of_models.bundle_summary(bundle, rows, layers)
        run.show(result, of_models.bundle_text(result))
    else:
        result = of_models.models_summary([name] if name else [], rows, layers)
        run.show(result, of_models.models_text(result))


@cli.command("run")
@vcf_option
@reads_option
@reference_option
@truth_options
@click.option("--model", metavar="DIR", help="A finished model; without it one is trained on the truth.")
@click.option("--out", required=True, metavar="DIR", help="Folder for everything.")
@region_option
@sample_option
@strict_option
@exists_option
@common_options
def run_(out: str, model: str | None, strict: bool, if_exists: str, **options: Any) -> None:
    """Do all of it, from a YAML or flags.

    Candidates where there is no callset, tensors and train where there is no model, score, filter, and evaluate where
    there is a truth.
    """
    run = Run(_kept(options))
    from cnnspark import pipeline

    result = pipeline.run_all(run.spark("run"), run.paths(**options), out, run.config, model, if_exists, strict)
    run.show(result.to_dict(), result.text())


@cli.command()
@click.option("--out", default="demo-out", show_default=True, metavar="DIR", help="Folder for everything.")
@click.option("--seed", default=1, show_default=True, help="Seed of the simulated sample.")
@click.option("--length", default=800_000, show_default=True, help="Bases of the simulated genome.")
@exists_option
@common_options
def demo(out: str, seed: int, length: int, if_exists: str, **options: Any) -> None:
    """Run everything on a simulated sample: a few minutes on two cores."""
    run = Run(_kept(options))
    from cnnspark import pipeline

    result = pipeline.demo(run.spark("demo"), out, run.config, seed, length, if_exists)
    run.show(result.to_dict(), result.text())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; every failure becomes one sentence on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
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
    click.echo(f"cnnspark: {message}", err=True)
    return code


def explain(error: BaseException) -> errors.CnnsparkError:
    """The failure as one of cnnspark's own: as it is, or found in what Spark says of a task, or said in general."""
    if isinstance(error, errors.CnnsparkError):
        return error
    text = str(error)
    # A task's exception arrives as the text of its traceback inside a Java exception.
    found = re.findall(r"cnnspark\.errors\.(\w+): (.+)", text)
    if found:
        kind = getattr(errors, found[-1][0], errors.RunError)
        return kind(found[-1][1].strip())
    if "No space left on device" in text:
        return errors.RunError("a disk is full; free space and run again with --if-exists resume")
    if re.search(r"exit code[: ]+137|OutOfMemory|Container killed", text):
        return errors.RunError(
            "an executor was killed, most likely for memory; raise spark.executor.memoryOverhead and run again with "
            "--if-exists resume"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    python = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    first = (python or lines or [type(error).__name__])[-1 if python else 0]
    return errors.RunError(f"{first[:300]} ({type(error).__name__}); run with --debug for the traceback")


if __name__ == "__main__":
    sys.exit(main())
