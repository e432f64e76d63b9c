"""What a training setting is worth: AUPRC and recall at precision .99 for each of its values, over several seeds.

    python -m benchmarks.models.compare --data ../shared/data --model features --epochs 15 --seeds 1,2,3 \\
        train.loss=cross_entropy train.loss=focal "train.loss=log_loss_squared train.dropout=0.1"

The split and the alleles are those of ``python -m benchmarks.scoring.end_to_end``: the first 60 % of the simulated
callset's labelled alleles of each contig train, the last 40 % with QUAL >= 1 are measured. Both are built once, or read
from ``--datasets``, which the first run fills. Every training is one replica in a process of its own; AUPRC is of all
alleles, of SNPs and of indels.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.accuracy import dataset_of, network_scores, sim_part, tabled
from benchmarks.scoring.sim import CALLSETS
from benchmarks.support.command import arguments, finish
from benchmarks.training.training import run_replicas
from cnnspark.config import load_config
from cnnspark.evaluation.metrics import auprc, thresholds_by_precision
from cnnspark.tensors.dataset import Dataset
from cnnspark.training.job import prepare_job
from cnnspark.variants.alleles import VariantType

PRECISION = 0.99
SETTINGS = ("blocks.records=500", "tensors.read_limit=128")


def measured(bundle: str, dataset: str, min_qual: float | None) -> dict[str, float | None]:
    """AUPRC and recall at PRECISION of a bundle on the alleles of a dataset with at least this QUAL."""
    keys, columns = tabled(Dataset(dataset))
    counted = columns["QUAL"] >= (min_qual if min_qual is not None else -np.inf)
    labels, scores = keys["label"][counted], network_scores(bundle, dataset)[counted]
    groups = np.array([VariantType(kind).group for kind in keys["variant_type"][counted]])
    point = thresholds_by_precision(labels, scores, [PRECISION])[PRECISION]
    found: dict[str, float | None] = {"alleles": len(labels), "AUPRC": auprc(labels, scores)}
    found["recall"] = point.recall if point else None
    for group in ("SNP", "INDEL"):
        found[group] = auprc(labels[groups == group], scores[groups == group])
    return found


def row(text: str, found: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """The mean over seeds of each figure, with the least and the most."""
    row: dict[str, Any] = {"settings": text, "alleles": found[0]["alleles"]}
    for name in ("AUPRC", "recall", "SNP", "INDEL"):
        values = [value for one in found if (value := one[name]) is not None]
        spread = f" ({min(values):.4f}-{max(values):.4f})" if len(values) > 1 else ""
        row[name] = f"{statistics.mean(values):.4f}{spread}" if values else ""
    return row


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--datasets", metavar="DIR", help="where the two datasets are, or are left for the next run")
    parser.add_argument("--caller", choices=sorted(CALLSETS), default="freebayes")
    parser.add_argument("--model", default="features")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("settings", nargs="+", metavar="train.KEY=VALUE ...", help="of one training, by blanks")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    results: dict[str, list[dict[str, float | None]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        first, rest = (
            dataset_of(sim_part(options.data, options.caller, part), "reads", options.datasets or folder, SETTINGS)
            for part in ("first", "rest")
        )
        for text in options.settings:
            for seed in map(int, options.seeds.split(",")):
                given = [f"train.model={options.model}", f"train.epochs={options.epochs}", "train.validation=0.1"]
                config = load_config(None, [*given, *text.split(), f"train.seed={seed}"])
                out = f"{folder}/model{len(results)}-{seed}"
                run_replicas(prepare_job(first, out, dataclasses.replace(config.train, replicas=1)), 1)
                results.setdefault(text, []).append(measured(out, rest, CALLSETS[options.caller]))
                print(f"{text}, seed {seed}: {results[text][-1]}", flush=True)
    print(f"mean (least-most) over seeds {options.seeds}")
    finish(options, [row(text, found) for text, found in results.items()], given=vars(options), results=results)


if __name__ == "__main__":
    main()
