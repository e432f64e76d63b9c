"""One model through the commands' own stages: tensors, train, score and evaluate, beside QUAL and the allele fraction.

    python -m benchmarks.scoring.end_to_end --data ../shared/data --model reads --epochs 10 --replicas 2

Trains on the first 60 % of the labelled alleles of each contig (by position) and scores the rest, which training never
saw. ``python -m benchmarks.accuracy.accuracy`` compares models.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from benchmarks.scoring.sim import CALLSETS, parts, read_alleles, split_positions
from benchmarks.support.callsets import labelled_paths
from benchmarks.support.command import arguments, write_results
from cnnspark import stages
from cnnspark.config import Config, InputPaths, load_config
from cnnspark.evaluation.metrics import auprc, auroc, format_table
from cnnspark.execution.session import spark_session
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.stages.requests import EvaluationRequest, ScoreRequest
from cnnspark.training import train

Result = TypeVar("Result")


def by_allele_fraction(data: str, caller: str) -> dict[str, Any]:
    """How well the share of reads with the ALT tells true from false alleles, on the alleles that are measured."""
    given = labelled_paths(data, "sim", caller)
    alleles = read_alleles(given["vcf"], given["labels"], CALLSETS[caller])
    cuts = split_positions(alleles)
    tested = [allele for allele in alleles if allele[1] > cuts[allele[0]]]
    truth, fraction = np.array([a[2] for a in tested]), np.array([a[3] for a in tested])
    return {"auprc": auprc(truth, fraction), "auroc": auroc(truth, fraction), "n": len(truth)}


def config_of(options: argparse.Namespace) -> Config:
    """The configuration of the run."""
    given = {"model": options.model, "epochs": options.epochs, "replicas": options.replicas, "seed": options.seed}
    settings = [f"train.{name}={value}" for name, value in given.items()]
    return load_config(None, [*settings, "train.validation=0.1", "blocks.records=500", *options.settings])


def run(options: argparse.Namespace, folder: str) -> tuple[dict[str, Any], Any, Any]:
    """Seconds of each step, the training's result and what was measured."""
    config, regions = config_of(options), parts(options.data, options.caller)
    spark = spark_session("end-to-end", "local[2]")
    given = labelled_paths(options.data, "sim", options.caller)
    labels = given.pop("labels")
    if options.model in MODELS_WITHOUT_READS:
        del given["reads"]
    first = InputPaths(**given, labels=labels, regions=regions["first"])
    rest = InputPaths(**given, regions=regions["rest"])
    tensors, model, scored = options.tensors or f"{folder}/tensors", f"{folder}/model", f"{folder}/scored"
    seconds = {}

    def step(name: str, work: Callable[[], Result]) -> Result:
        started = time.monotonic()
        result = work()
        seconds[name] = time.monotonic() - started
        return result

    step("tensors", lambda: stages.build_dataset(spark, first, tensors, config, if_exists="resume"))
    result = step("train", lambda: train(spark, tensors, model, config.train))
    step("score", lambda: stages.score_callset(spark, ScoreRequest(rest, model, scored, config)))
    labelled, min_qual = InputPaths(vcf=scored, labels=labels), CALLSETS[options.caller]
    measured = stages.evaluate_callset(
        spark, EvaluationRequest(labelled, f"{folder}/evaluation", config, min_qual=min_qual)
    )
    if options.keep:
        shutil.copytree(model, options.keep)
    return seconds, result, measured


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--caller", choices=sorted(CALLSETS), default="freebayes")
    parser.add_argument("--model", default="reads")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--tensors", metavar="FOLDER", help="where to keep the training tensors, and find them again")
    parser.add_argument("--keep", metavar="MODEL", help="where to keep the model, for benchmarks.accuracy.accuracy")
    options = parser.parse_args()
    baseline = by_allele_fraction(options.data, options.caller)
    with tempfile.TemporaryDirectory() as folder:
        seconds, result, measured = run(options, folder)
    print(format_table(measured.metrics))
    print(f"allele fraction: AUPRC {baseline['auprc']:.4f}, AUROC {baseline['auroc']:.4f}, {baseline['n']} alleles")
    ours = measured.metrics["ALL"][result.card.score_key]
    took = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    print(
        f"{options.model}: AUPRC {ours['auprc']:.4f} ({ours['auprc_low']:.4f}-{ours['auprc_high']:.4f}), "
        f"best epoch {result.best_epoch}; seconds: {took}"
    )
    results = {"metrics": measured.metrics, "allele_fraction": baseline, "seconds": seconds, "options": vars(options)}
    write_results(options, results)


if __name__ == "__main__":
    main()
