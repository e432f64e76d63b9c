"""What a training setting is worth: AUPRC and recall at precision .99 for each of its values, over several seeds.

    python -m benchmarks.models.compare --data ../shared/data --model features --epochs 15 --seeds 1,2,3 \\
        train.loss=cross_entropy train.loss=focal "train.loss=log_loss_squared train.dropout=0.1"

The split and the alleles are those of ``python -m benchmarks.scoring.end_to_end``: the first 60 % of the simulated
callset's labelled alleles of each contig train, the last 40 % with QUAL >= 1 are measured. Both are built once, or read
from ``--datasets``, which the first run fills. Every training is one replica in a process of its own; AUPRC is of all
alleles, of SNPs and of indels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring.sim import CALLSETS, files, parts
from benchmarks.support.measure import require_current, table
from benchmarks.training.training import run_replicas
from cnnspark import stages
from cnnspark.config import InputPaths, load_config
from cnnspark.evaluation.metrics import auprc, thresholds_by_precision
from cnnspark.execution.session import spark_session
from cnnspark.tensors.batches import scoring_batches
from cnnspark.tensors.dataset import Dataset, decode
from cnnspark.training.job import prepare_job
from cnnspark.variants.alleles import VariantType

PRECISION = 0.99


def build_datasets(data: str, caller: str, folder: str) -> None:
    """``first`` and ``rest`` of the labelled alleles, where they are not there yet."""
    if all(Path(folder, part, "dataset.json").exists() for part in ("first", "rest")):
        require_current(folder, Dataset(f"{folder}/rest").feature_names)
        return
    spark = spark_session("compare", "local[2]")
    for part, regions in parts(data, caller).items():
        paths = InputPaths(**files(data, caller), regions=regions)
        config = load_config(None, ["blocks.records=500"])
        stages.build_dataset(spark, paths, f"{folder}/{part}", config, "overwrite")
    spark.stop()


def held_out(dataset: str, min_qual: float | None) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Tensors by row group, labels, and groups of types, of the alleles with at least this QUAL."""
    opened = Dataset(dataset)
    qual = opened.annotation_names.index("QUAL")
    tensors, labels, groups = [], [], []
    for values in opened.read([block["block"] for block in opened.blocks]):
        batch = decode(values)
        chosen = np.flatnonzero(batch.annotations[:, qual] >= (min_qual if min_qual is not None else -np.inf))
        tensors.append(batch.take(chosen.tolist()))
        labels.append(values["label"][chosen])
        groups += [VariantType(kind).group for kind in values["variant_type"][chosen]]
    return tensors, np.concatenate(labels), np.array(groups)


def figures(model: str, tensors: Sequence[Any], labels: np.ndarray, groups: np.ndarray) -> dict[str, float | None]:
    """AUPRC and recall at PRECISION of a bundle on the held-out tensors."""
    from cnnspark.models.bundle import load_bundle

    bundle = load_bundle(model)
    logits = []
    for part in tensors:
        values = np.zeros(len(part), np.float32)
        for chosen, batch in scoring_batches(part, 64):
            values[chosen] = bundle.logits(batch)
        logits.append(values)
    scores = np.concatenate(logits).astype(np.float64)
    point = thresholds_by_precision(labels, scores, [PRECISION])[PRECISION]
    found: dict[str, float | None] = {"AUPRC": auprc(labels, scores), "recall": point.recall if point else None}
    for group in ("SNP", "INDEL"):
        found[group] = auprc(labels[groups == group], scores[groups == group])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--datasets", metavar="DIR", help="where the two datasets are, or are left for the next run")
    parser.add_argument("--caller", choices=sorted(CALLSETS), default="freebayes")
    parser.add_argument("--model", default="features")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument(
        "settings", nargs="+", metavar="train.KEY=VALUE ...", help="settings of one training, by blanks"
    )
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    results: dict[str, list[dict[str, float | None]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        datasets = options.datasets or f"{folder}/datasets"
        build_datasets(options.data, options.caller, datasets)
        tested = held_out(f"{datasets}/rest", CALLSETS[options.caller])
        for text in options.settings:
            for seed in seeds:
                given = [f"train.model={options.model}", f"train.epochs={options.epochs}", "train.validation=0.1"]
                config = load_config(None, [*given, *text.split(), f"train.seed={seed}"])
                settings = dataclasses.replace(config.train, replicas=1)
                out = f"{folder}/model{len(results)}-{seed}"
                run_replicas(prepare_job(f"{datasets}/first", out, settings), 1)
                results.setdefault(text, []).append(figures(out, *tested))
                print(f"{text}, seed {seed}: {results[text][-1]}", flush=True)
    rows = []
    for text, found in results.items():
        row: dict[str, Any] = {"settings": text}
        for name in found[0]:
            values = [figure for one in found if (figure := one[name]) is not None]
            spread = f" ({min(values):.4f}-{max(values):.4f})" if len(values) > 1 else ""
            row[name] = f"{statistics.mean(values):.4f}{spread}" if values else ""
        rows.append(row)
    print(f"{len(tested[1])} alleles, {int(tested[1].sum())} true; mean (least-most) over seeds {options.seeds}")
    print(table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps({"options": vars(options), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
