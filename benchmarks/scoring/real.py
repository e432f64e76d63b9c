"""Whether a model keeps the true variants of real reads: recall of truth at its card's thresholds, on NA12878.

    python -m benchmarks.scoring.real --data ../shared/data --work DIR bundled:reads bundled:features

100 kb at 52x with some 190 true and 30 to 150 false labelled alleles: too few to measure accuracy. Labels are by a
proxy of the confident regions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.accuracy.accuracy import Part, dataset_of, network_scores, tabled
from benchmarks.support.callsets import labelled_paths
from benchmarks.support.command import arguments, finish
from cnnspark.evaluation.metrics import auprc
from cnnspark.models.card import read_card
from cnnspark.tensors.dataset import Dataset
from cnnspark.variants.score_fields import log_odds

CALLERS = ("freebayes", "bcftools")
PRECISIONS = ("0.95", "0.99")


def measure(part: Part, caller: str, model: str, work: str) -> dict[str, Any]:
    """The row of one model on one caller's callset."""
    card = read_card(model)
    path = dataset_of(part, card.model, work, (f"tensors.read_limit={card.spec.read_limit}",))
    keys, _ = tabled(Dataset(path))
    label, is_snp = keys["label"] == 1, keys["variant_type"] <= 1
    scores = log_odds(1 / (1 + np.exp(-card.calibration(network_scores(model, path)))))
    row: dict[str, Any] = {"callset": caller, "model": model, "true": int(label.sum()), "false": int((~label).sum()),
                           "AUPRC": f"{auprc(label, scores):.4f}"}  # fmt: skip
    for precision in PRECISIONS:
        by_type = [card.thresholds[group].get(precision) for group in ("SNP", "INDEL")]
        kept = scores >= np.where(is_snp, *by_type) if None not in by_type else None
        row[f"recall at P{precision}"] = None if kept is None else f"{kept[label].mean():.3f}"
        row[f"false kept at P{precision}"] = None if kept is None else int(kept[~label].sum())
    return row


def main() -> None:
    parser = arguments(__doc__, work="tensors")
    parser.add_argument("models", nargs="+", help="bundles, or bundled:NAME")
    options = parser.parse_args()
    rows = []
    for caller in CALLERS:
        part = Part(f"NA12878-{caller}", labelled_paths(options.data, "NA12878", caller))
        rows += [measure(part, caller, model, options.work) for model in options.models]
    finish(options, rows)


if __name__ == "__main__":
    main()
