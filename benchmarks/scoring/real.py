"""Whether a model keeps the true variants of real reads: recall of truth at its card's thresholds, on NA12878.

    python -m benchmarks.scoring.real --data ../shared/data --work DIR bundled:reads bundled:features

100 kb at 52x; some 190 true and 30 to 150 false labelled alleles, so nothing is said of accuracy. Labels are by a
proxy of the confident regions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.accuracy import Part, dataset_of, network_scores, tabled
from benchmarks.support.measure import table
from cnnspark.evaluation.metrics import auprc
from cnnspark.models.card import read_card
from cnnspark.tensors.dataset import Dataset
from cnnspark.variants.score_fields import log_odds

PRECISIONS = ("0.95", "0.99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", required=True, help="folder for tensors")
    parser.add_argument("models", nargs="+", help="bundles, or bundled:NAME")
    options = parser.parse_args()
    real, rows = Path(options.data, "real", "NA12878"), []
    for caller in ("freebayes", "bcftools"):
        files = {"vcf": f"NA12878.{caller}.vcf.gz", "labels": f"NA12878.{caller}.labels.tsv",
                 "reads": "NA12878.chr20.bam", "reference": "ref.hg19.chr20.fa.gz"}  # fmt: skip
        part = Part(f"NA12878-{caller}", {name: str(real / file) for name, file in files.items()})
        for model in options.models:
            card = read_card(model)
            path = dataset_of(part, card.model, options.work, (f"tensors.read_limit={card.spec.read_limit}",))
            keys, _ = tabled(Dataset(path))
            label, is_snp = keys["label"] == 1, keys["variant_type"] <= 1
            logits = card.calibration(network_scores(model, path))
            scores = log_odds(1 / (1 + np.exp(-logits)))
            row: dict[str, Any] = {"callset": caller, "model": model, "true": int(label.sum()),
                                   "false": int((~label).sum()), "AUPRC": f"{auprc(label, scores):.4f}"}  # fmt: skip
            for precision in PRECISIONS:
                by_type = [card.thresholds[group].get(precision) for group in ("SNP", "INDEL")]
                if None in by_type:
                    continue
                kept = scores >= np.where(is_snp, *by_type)
                row[f"recall at P{precision}"] = f"{kept[label].mean():.3f}"
                row[f"false kept at P{precision}"] = int(kept[~label].sum())
            rows.append(row)
    print(table(rows))


if __name__ == "__main__":
    main()
