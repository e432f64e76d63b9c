"""What the commands have in common: options that several take, and :class:`Run`, which acts on those that all take.

Heavy packages are imported inside the functions, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cnnspark import errors
from cnnspark.log import FORMATS, progress, set_format, set_quiet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.config import Config, InputPaths
    from cnnspark.sheet_run import CohortResult, CohortSettings
    from cnnspark.tasks import Session

F = TypeVar("F", bound=Callable[..., Any])


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
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and no progress text."),
    click.option("-q", "--quiet", is_flag=True, help="No progress lines."),
    click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        default="text",
        show_default=True,
        help="Progress and warnings as text, or each as a JSON object.",
    ),
    click.option("--debug", is_flag=True, help="Show tracebacks."),
)
common_options = _stack(config_options, spark_options, output_options)
local_option = click.option("--local", is_flag=True, help="Without Spark, in this process alone: for small callsets.")
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
model_option = click.option(
    "--model",
    metavar="DIR|NAME",
    help="The --model-out of 'cnnspark train', or one that comes with cnnspark: reads, features or reference "
    "[reads, without --reads reference]. Those are trained on simulated reads alone.",
)
region_option = click.option(
    "--region", "regions", multiple=True, metavar="REGION", help="chr20 or chr20:1,000-2,000; may be repeated."
)
strict_option = click.option(
    "--strict", is_flag=True, help="Exit 5, merging nothing, where the callset is not what the model was trained on."
)
cascade_option = click.option(
    "--cascade/--no-cascade",
    default=None,
    help="Let a faster first model score alone what it is sure of, as 'cnnspark cascade' has found it [as the model's "
    "card says].",
)
sheet_options = _stack(
    click.option(
        "--sheet",
        metavar="TSV",
        help="Sample sheet instead of one sample's files: columns sample, vcf, reads, truth, bed, labels.",
    ),
    click.option("--at-once", type=int, metavar="N", help="With --sheet: callsets at a time [the slots, at most 16]."),
    click.option("--max-failed", type=int, metavar="N", help="With --sheet: begin no more once N+1 failed [no limit]."),
)
# Of the commands that train a network.
training_options = _stack(
    click.option("--replicas", type=int, metavar="N", help="Replicas, one Spark task each [1]."),
    click.option("--epochs", type=int, metavar="N", help="Passes over the training blocks [10]."),
    click.option("--batch-size", type=int, metavar="N", help="Alleles a step, over all replicas [32]."),
    click.option(
        "--validation", "validation", multiple=True, metavar="SHARE|REGION", help="Held out, whole blocks [0.2]."
    ),
    click.option("--log-dir", metavar="DIR", help="Write losses and figures for TensorBoard there."),
)
# How 'filter' finds a threshold: for both types, and for one of them.
_FILTER_WAYS = (
    ("threshold", "X", "Filter records whose score is below this."),
    ("precision", "P", "... below the threshold that gives this precision, by the model's card."),
    ("sensitivity", "S", "... that keeps this share of the true alleles, by the model's card."),
    ("fdr", "F", "... above which this share of alleles is expected to be false, by their own scores."),
)
filter_options = _stack(
    *(click.option(f"--{name}", type=float, metavar=letter, help=text) for name, letter, text in _FILTER_WAYS),
    *(
        click.option(f"--{kind}-{name}", type=float, metavar=letter, help=f"--{name} of {what} alone.")
        for kind, what in (("snp", "SNPs"), ("indel", "indels"))
        for name, letter, _ in _FILTER_WAYS
    ),
    click.option(
        "--resource",
        "resources",
        multiple=True,
        metavar="VCF",
        help="Known variants, bgzipped and indexed: filter by tranches of sensitivity to them, as GATK's "
        "FilterVariantTranches; may be repeated.",
    ),
    *(
        click.option(
            f"--{kind}-tranche",
            f"{kind}_tranches",
            type=float,
            multiple=True,
            metavar="T",
            help=f"Percentage of the known {what} to keep; may be repeated [{default}].",
        )
        for kind, what, default in (("snp", "SNPs", 99.95), ("indel", "indels", 99.4))
    ),
    click.option("--key", metavar="KEY", help="INFO key of the score, or QUAL [CNN_2D, else CNN_1D]."),
    click.option("--invalidate-previous-filters", is_flag=True, help="Drop the callset's own FILTERs."),
    click.option("--strict", is_flag=True, help="Errors, not warnings, where a type cannot be filtered as asked."),
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

        # A program that reads the result may still log what is said as JSON.
        set_quiet(options["quiet"] or (options["as_json"] and options["log_format"] == "text"))
        set_format(options["log_format"])
        self.options = options
        self.config: Config = load_config(options.get("config_path"), options.get("settings", ()))
        if options.get("config_path") or options.get("settings"):
            progress(f"configuration: {' '.join(differences(self.config)) or 'the defaults'}")

    def paths(self, **given: Any) -> InputPaths:
        """The configuration's inputs, with the flags over them."""
        import dataclasses

        chosen = {name: value for name, value in given.items() if value not in (None, ())}
        return dataclasses.replace(self.config.inputs, **chosen)

    def session(self, app: str) -> Session:
        """Where the command's tasks run: in Spark, or with --local here."""
        if not self.options["local"]:
            return self.spark(app)
        given = [f"--{name.replace('_', '-')}" for name in ("master", "properties_file") if self.options[name]]
        given += ["--conf-spark"] if self.options["conf_spark"] else []
        if given:
            raise errors.UsageError(f"--local runs without Spark; leave {' and '.join(given)} out, or --local")
        from cnnspark.tasks import LocalSession

        return LocalSession()

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

    def sheet(self, options: dict[str, Any]) -> tuple[str, CohortSettings] | None:
        """The sheet and how it is worked off, taken out of a command's ``options``; None where none is given."""
        from cnnspark.sheet_run import CohortSettings

        sheet, at_once, max_failed = (options.pop(name) for name in ("sheet", "at_once", "max_failed"))
        if sheet is None:
            if at_once is not None or max_failed is not None:
                raise errors.UsageError("--at-once and --max-failed are for --sheet; give the sheet")
            return None
        if self.options.get("local"):
            raise errors.UsageError("--local is for one callset; a sheet's are worked on by Spark: leave --local out")
        return sheet, CohortSettings(at_once, max_failed)

    def show_cohort(self, result: CohortResult) -> None:
        """What became of a sheet, on stdout; raises RunError where not all of it is done."""
        self.show(result.to_dict(), result.text())
        result.require_all()

    def show(self, result: dict[str, Any], text: str) -> None:
        """The result on stdout: ``text`` for a person, JSON with --json."""
        click.echo(json.dumps(result, sort_keys=True, default=str) if self.options["as_json"] else text)


def with_setting(kept: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The common values with one setting more, which a flag stands for; as they are where the flag was not given."""
    if value is None:
        return kept
    text = str(value).lower() if isinstance(value, bool) else value
    return {**kept, "settings": (*kept["settings"], f"{name}={text}")}


def common_values(options: dict[str, Any]) -> dict[str, Any]:
    """What :class:`Run` takes, taken out of a command's ``options``: the rest is the command's own."""
    of_spark = ("master", "conf_spark", "properties_file")
    names = ("config_path", "settings", *of_spark, "local", "as_json", "quiet", "log_format", "debug")
    return {name: options.pop(name) for name in names if name in options}
