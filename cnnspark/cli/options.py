"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cnnspark.common.log import FORMATS

if TYPE_CHECKING:
    pass

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
    click.option("-q", "--quiet", is_flag=True, help="Hide progress."),
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
local_option = click.option("--local", is_flag=True, help="Run without Spark, in this process: for small callsets.")
exists_option = click.option(
    "--if-exists",
    type=click.Choice(["fail", "resume", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do if --out exists.",
)
replace_option = click.option(
    "--if-exists",
    type=click.Choice(["fail", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do if --out exists.",
)
vcf_option = click.option("--vcf", metavar="FILE", help="Callset: .vcf.gz with index, .vcf or .bcf.")
reads_option = click.option("--reads", metavar="FILE", help="Reads: indexed BAM or CRAM.")
reference_option = click.option("--reference", metavar="FASTA", help="Reference: indexed FASTA.")
sample_option = click.option("--sample", metavar="NAME", help="The callset's sample that the reads belong to.")
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
    "--strict",
    is_flag=True,
    help="Exit with code 5 and write no merged file if the callset differs from the model's training data.",
)
cascade_option = click.option(
    "--cascade/--no-cascade",
    default=None,
    help="In a bundle of 'cnnspark cascade', let the faster model score alone what it is sure of [as the model's card "
    "says].",
)
sheet_options = _stack(
    click.option(
        "--sheet",
        metavar="TSV",
        help="Sample sheet instead of one sample's files: columns sample, vcf, reads, truth, bed, labels.",
    ),
    click.option("--at-once", type=int, metavar="N", help="With --sheet: callsets at a time [the slots, at most 16]."),
    click.option(
        "--max-failed",
        type=int,
        metavar="N",
        help="With --sheet: start no new callset after more than N have failed [no limit].",
    ),
)
_TRAINING = (
    click.option("--replicas", type=int, metavar="N", help="Replicas, one Spark task each [1]."),
    click.option("--epochs", type=int, metavar="N", help="Passes over the training blocks [10]."),
    click.option("--batch-size", type=int, metavar="N", help="Alleles a step, over all replicas [32]."),
    click.option(
        "--validation",
        "validation",
        multiple=True,
        metavar="SHARE|REGION",
        help="Blocks of the genome to hold out [0.2].",
    ),
    click.option("--log-dir", metavar="DIR", help="Write losses and figures for TensorBoard there."),
)


def data_option(text: str) -> Callable[[F], F]:
    """``--data``, tensor datasets; ``text`` is its help."""
    return click.option("--data", required=True, multiple=True, metavar="DIR", help=text)


def training_options(patience: str) -> Callable[[F], F]:
    """The options of the commands that train a network; ``patience`` is the help of --patience."""
    stop = click.option("--patience", type=int, metavar="N", help=patience)
    return _stack(*_TRAINING, stop, exists_option, common_options)


# How 'filter' finds a threshold: for both types, and for one of them.
_FILTER_WAYS = (
    ("threshold", "X", "Filter records whose score is below this number."),
    ("precision", "P", "Filter below the threshold that gives this precision, by the model's card."),
    ("sensitivity", "S", "Filter below the threshold that keeps this share of the true alleles, by the model's card."),
    (
        "fdr",
        "F",
        "Keep the alleles whose expected false discovery rate, from their calibrated scores, is at most this.",
    ),
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
    click.option(
        "--strict", is_flag=True, help="Exit with an error, not a warning, if a type cannot be filtered as asked."
    ),
)
truth_options = _stack(
    click.option("--truth", metavar="VCF", help="Truth callset, bgzipped and indexed."),
    click.option("--bed", metavar="BED", help="Regions where the truth is complete."),
    click.option(
        "--labels", metavar="TSV", help="Labelled alleles instead: chrom, pos, ref, alt, label (TP, FP, OUT)."
    ),
)
