"""AUPRC of a model on the last 40 % of the simulated real-sequence callset, beside QUAL and the allele fraction.

    python -m benchmarks.accuracy --data ../shared/data --model reads --epochs 10 --replicas 2

Trains on the first 60 % of the labelled alleles of each contig (by position) and scores the rest, which training never
saw. The allele fraction is the share of the called alleles' reads that carry the ALT, from FORMAT/AD.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from cnnspark import stages, training
from cnnspark.config import InputPaths, load_config
from cnnspark.label_sources import read_label_table
from cnnspark.metrics import auprc, auroc, format_table
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.schema import UNKNOWN
from cnnspark.scoring import score_key
from cnnspark.session import spark_session
from cnnspark.vcf import Record

# The part of each contig's labelled alleles that is trained on.
TRAIN_SHARE = 0.6
CALLSETS = {"freebayes": 1.0, "bcftools": None}  # the least QUAL of the alleles that are counted


def read_alleles(vcf: Path, labels: Path, min_qual: float | None) -> list[tuple[str, int, int, float]]:
    """(contig, POS, label, allele fraction) of the labelled alleles."""
    table = read_label_table(str(labels))
    found = []
    with gzip.open(vcf, "rt", encoding="latin-1") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            record = Record(line.rstrip("\n"))
            if min_qual is not None and not float(record.qual) >= min_qual:
                continue
            depths = [float(x) if x != "." else 0.0 for x in record.format_values(0).get("AD", "0").split(",")]
            for number, alt in enumerate(record.alts, 1):
                label = table.get((record.contig, record.start, record.ref, alt), UNKNOWN)
                if label != UNKNOWN:
                    share = depths[number] / max(1.0, sum(depths)) if number < len(depths) else 0.0
                    found.append((record.contig, record.start + 1, label, share))
    return found


def split_positions(alleles: list[tuple[str, int, int, float]]) -> dict[str, int]:
    """For each contig the position up to which alleles are trained on."""
    positions: dict[str, list[int]] = {}
    for contig, pos, _, _ in alleles:
        positions.setdefault(contig, []).append(pos)
    return {contig: int(np.quantile(of_contig, TRAIN_SHARE)) for contig, of_contig in positions.items()}


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
    parser.add_argument("--keep", metavar="MODEL", help="where to keep the trained model, for benchmarks.trees")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    sim = Path(options.data) / "sim"
    vcf, labels = sim / f"DEV.{options.caller}.vcf.gz", sim / f"DEV.{options.caller}.labels.tsv"
    min_qual = CALLSETS[options.caller]
    alleles = read_alleles(vcf, labels, min_qual)
    cuts = split_positions(alleles)
    tested = [allele for allele in alleles if allele[1] > cuts[allele[0]]]
    truth, fraction = np.array([a[2] for a in tested]), np.array([a[3] for a in tested])

    config = load_config(
        None,
        [f"train.model={options.model}", f"train.epochs={options.epochs}", f"train.replicas={options.replicas}",
         f"train.seed={options.seed}", "train.validation=0.1", "blocks.records=500", *options.settings],
    )  # fmt: skip
    inputs = {"vcf": str(vcf), "reference": str(sim / "ref.fa.gz")}
    if options.model not in MODELS_WITHOUT_READS:
        inputs["reads"] = str(sim / "DEV.bam")
    first = tuple(f"{contig}:1-{cut}" for contig, cut in cuts.items())
    rest = tuple(f"{contig}:{cut + 1}-" for contig, cut in cuts.items())
    spark = spark_session("accuracy", "local[2]")
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        training_paths = InputPaths(**inputs, labels=str(labels), regions=first)
        tensors = options.tensors or f"{folder}/tensors"
        summary = stages.build_dataset(spark, training_paths, tensors, config, if_exists="resume")
        seconds["tensors"] = time.monotonic() - started
        started = time.monotonic()
        result = training.train(spark, tensors, f"{folder}/model", config.train)
        seconds["train"] = time.monotonic() - started
        started = time.monotonic()
        stages.score_callset(spark, InputPaths(**inputs, regions=rest), f"{folder}/model", f"{folder}/scored", config)
        seconds["score"] = time.monotonic() - started
        measured = stages.evaluate_callset(
            spark, InputPaths(vcf=f"{folder}/scored", labels=str(labels)), f"{folder}/evaluation", config,
            min_qual=min_qual,
        )  # fmt: skip
        if options.keep:
            shutil.copytree(f"{folder}/model", options.keep)
    print(format_table(measured.metrics))
    baseline = {"auprc": auprc(truth, fraction), "auroc": auroc(truth, fraction), "n": len(truth)}
    print(f"allele fraction: AUPRC {baseline['auprc']:.4f}, AUROC {baseline['auroc']:.4f}, {baseline['n']} alleles")
    ours = measured.metrics["ALL"][score_key(result.card)]
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
