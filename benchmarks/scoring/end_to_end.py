"""One model through the commands' own stages: tensors, train, score and evaluate, beside QUAL and the allele fraction.

    python -m benchmarks.scoring.end_to_end --data ../shared/data --model reads --epochs 10 --replicas 2

Trains on the first 60 % of the labelled alleles of each contig (by position) and scores the rest, which training never
saw. ``python -m benchmarks.accuracy.accuracy`` compares models.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scoring.sim import CALLSETS, files, parts, read_alleles, split_positions
from cnnspark import stages
from cnnspark.config import InputPaths, load_config
from cnnspark.evaluation.metrics import auprc, auroc, format_table
from cnnspark.execution.session import spark_session
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.stages.requests import EvaluationRequest, ScoreRequest
from cnnspark.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--caller", choices=sorted(CALLSETS), default="freebayes")
    parser.add_argument("--model", default="reads")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--tensors", metavar="FOLDER", help="where to keep the training tensors, and find them again")
    parser.add_argument(
        "--keep", metavar="MODEL", help="where to keep the trained model, for benchmarks.accuracy.accuracy"
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    given = files(options.data, options.caller)
    labels = given.pop("labels")
    min_qual = CALLSETS[options.caller]
    alleles = read_alleles(given["vcf"], labels, min_qual)
    cuts = split_positions(alleles)
    tested = [allele for allele in alleles if allele[1] > cuts[allele[0]]]
    truth, fraction = np.array([a[2] for a in tested]), np.array([a[3] for a in tested])

    config = load_config(
        None,
        [f"train.model={options.model}", f"train.epochs={options.epochs}", f"train.replicas={options.replicas}",
         f"train.seed={options.seed}", "train.validation=0.1", "blocks.records=500", *options.settings],
    )  # fmt: skip
    if options.model in MODELS_WITHOUT_READS:
        del given["reads"]
    regions = parts(options.data, options.caller)
    spark = spark_session("end-to-end", "local[2]")
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        training_paths = InputPaths(**given, labels=labels, regions=regions["first"])
        tensors = options.tensors or f"{folder}/tensors"
        summary = stages.build_dataset(spark, training_paths, tensors, config, if_exists="resume")
        seconds["tensors"] = time.monotonic() - started
        started = time.monotonic()
        result = train(spark, tensors, f"{folder}/model", config.train)
        seconds["train"] = time.monotonic() - started
        started = time.monotonic()
        stages.score_callset(
            spark,
            ScoreRequest(InputPaths(**given, regions=regions["rest"]), f"{folder}/model", f"{folder}/scored", config),
        )
        seconds["score"] = time.monotonic() - started
        measured = stages.evaluate_callset(
            spark,
            EvaluationRequest(
                InputPaths(vcf=f"{folder}/scored", labels=labels), f"{folder}/evaluation", config, min_qual=min_qual
            ),
        )
        if options.keep:
            shutil.copytree(f"{folder}/model", options.keep)
    print(format_table(measured.metrics))
    baseline = {"auprc": auprc(truth, fraction), "auroc": auroc(truth, fraction), "n": len(truth)}
    print(f"allele fraction: AUPRC {baseline['auprc']:.4f}, AUROC {baseline['auroc']:.4f}, {baseline['n']} alleles")
    ours = measured.metrics["ALL"][result.card.score_key]
    print(
        f"{options.model}: AUPRC {ours['auprc']:.4f} ({ours['auprc_low']:.4f}-{ours['auprc_high']:.4f}), "
        f"best epoch {result.best_epoch}, trained on {summary['tensors']} tensors; seconds: "
        + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    )
    if options.json:
        values = {
            "metrics": measured.metrics,
            "allele_fraction": baseline,
            "seconds": seconds,
            "options": vars(options),
        }
        Path(options.json).write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
