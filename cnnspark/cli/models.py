"""Commands that make and show models. Heavy packages are imported inside them."""

from __future__ import annotations

from typing import Any

import click

from cnnspark import errors
from cnnspark.cli.options import (
    config_options,
    data_option,
    output_options,
    replace_option,
    training_options,
)
from cnnspark.cli.run import Run, common_values
from cnnspark.common.log import progress, quiet_stderr
from cnnspark.models.bundle_files import chosen_model
from cnnspark.models.names import MODELS


@click.command()
@data_option("Dataset, the --out of 'cnnspark tensors', without labels or with; may be repeated.")
@click.option("--model-out", required=True, metavar="DIR", help="Folder for the bundle that 'train --init' takes.")
@click.option("--model", type=click.Choice(MODELS), help="The network, not one of GATK's [reads].")
@training_options("End after N epochs without a lower validation loss [never].")
def pretrain(**options: Any) -> None:
    """Train a network without labels: it learns to predict what was hidden of reads, annotations and features."""
    _train("pretrain", "pretrain", options)


@click.command()
@data_option("Dataset, the --out of 'cnnspark tensors'; may be repeated: trained on together.")
@click.option("--model-out", required=True, metavar="DIR", help="Folder for the model bundle.")
@click.option("--model", type=click.Choice(MODELS), help="The network; with --init, that of its bundle [reads].")
@click.option("--init", metavar="DIR", help="Model bundle whose weights training starts from.")
@click.option(
    "--by-parts",
    is_flag=True,
    default=None,
    help="Train 'reads' in three trainings: site features, picture, both together; slower, better.",
)
@training_options("End after N epochs without a better validation AUPRC [never].")
def train(**options: Any) -> None:
    """Train a network on one dataset or several, one replica a task, gradients all-reduced."""
    _train("train", "classify", options)


def _train(app: str, objective: str, options: dict[str, Any]) -> None:
    """Trains for an objective and prints the result; ``options`` are the command's."""
    run = Run(common_values(options))
    from cnnspark.training import train as train_model

    data, model_out, validation = (options.pop(name) for name in ("data", "model_out", "validation"))
    settings = run.config.train.with_flags(validation, objective=objective, **options)
    result = train_model(run.spark(app), data, model_out, settings, progress)
    run.show(result.to_dict(), result.text())


@click.command()
@data_option(
    "Labelled dataset, the --out of 'cnnspark tensors'; may be repeated. If a model was trained on it, only the blocks "
    "that it held out count."
)
@click.option(
    "--first",
    metavar="DIR|NAME",
    help="A 'features' model, or 'reads' without picture, to score all alleles [that of the bundled 'reads'].",
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
    from cnnspark.stages.cascade import make_cascade

    result = make_cascade(data, first, model, out, run.config.score, if_exists)
    run.show(result.to_dict(), result.text())


@click.command("import-gatk")
@click.option("--weights", required=True, metavar="FILE", help="GATK's weights: .hd5 of Keras, .pt of PyTorch or .npz.")
@click.option(
    "--kind",
    required=True,
    type=click.Choice(["1d", "2d", "2d_mix"]),
    help="Which network: 1d reads the reference (1d_cnn_mix_train_full_bn), 2d the reads (small_2d), 2d_mix as well "
    "(2d_cnn_mix_train).",
)
@click.option("--model-out", required=True, metavar="DIR", help="Folder for the model bundle.")
@click.option(
    "--if-exists",
    type=click.Choice(["fail", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do if --model-out exists.",
)
@output_options
def import_gatk(weights: str, kind: str, model_out: str, if_exists: str, **options: Any) -> None:
    """Make a model bundle of weights that GATK has published. Nothing in the file is run."""
    run = Run({**options, "conf_spark": ()})
    from cnnspark.models.gatk_weights.importer import import_weights

    with quiet_stderr():
        card = import_weights(weights, kind, model_out, if_exists == "overwrite")
    result = {"model_out": model_out, "model": card.model, "sha256": card.sha256}
    run.show(result, f"{card.model} with the weights of {weights}: {model_out}")


@click.command("model-summary")
@click.option("--model", "name", type=click.Choice(MODELS), help="One network [all].")
@click.option("--bundle", metavar="DIR|NAME", help="A trained network with its card: a folder or a bundled model.")
@click.option("--rows", type=click.IntRange(8, 1000), default=32, show_default=True, help="Reads of the allele.")
@click.option("--layers", is_flag=True, help="Also list every layer.")
@output_options
def model_summary(name: str | None, bundle: str | None, rows: int, layers: bool, **options: Any) -> None:
    """Print what the networks take and cost, or what a trained one was made from."""
    run = Run({**options, "conf_spark": ()})
    from cnnspark.models import summary as of_models

    if bundle and name:
        raise errors.UsageError("give either --model or --bundle")
    if bundle:
        result = of_models.bundle_summary(chosen_model(bundle, with_reads=True), rows, layers)
        run.show(result, of_models.bundle_text(result))
    else:
        result = of_models.models_summary([name] if name else [], rows, layers)
        run.show(result, of_models.models_text(result))
