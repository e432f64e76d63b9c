"""Gradient boosting on the same annotations and site features that the networks get: the floor they must reach.

    python -m benchmarks.trees --data ../shared/data --caller freebayes --work /tmp/trees [--network MODEL ...]

Builds the dataset of the whole callset once (``--work``), trains scikit-learn's HistGradientBoostingClassifier with its
defaults on the first 60 % of the labelled alleles of each contig, seeds 0-4, and measures on the rest, split as in
``benchmarks.accuracy``. A network is a bundle trained there and kept (``--keep``); it is compared with the trees on the
same alleles by a paired bootstrap over stretches of the genome.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.accuracy import CALLSETS, read_alleles, split_positions
from cnnspark import stages
from cnnspark.batches import pad_rows
from cnnspark.config import InputPaths, load_config
from cnnspark.dataset import Dataset, decode
from cnnspark.metrics import AlleleScores, Metrics, evaluate, format_table
from cnnspark.models.bundle import load_bundle
from cnnspark.session import spark_session

SEEDS = (0, 1, 2, 3, 4)
# What networks are compared with. Below 10,000 alleles trees neither sample nor stop early: all seeds give the same.
BASELINE = "trees 0"
BATCH = 256


@dataclass(frozen=True)
class Table:
    """The labelled alleles of a callset as trees take them, n of them in the callset's order."""

    contig: np.ndarray  # (n,) str
    start: np.ndarray  # (n,) int64, POS-1
    variant_type: np.ndarray  # (n,) int
    label: np.ndarray  # (n,) 1 true, 0 false
    values: np.ndarray  # (n, A + F) float32, annotations and then site features, NaN where missing
    qual: np.ndarray  # (n,) float32

    def tested(self, cuts: dict[str, int], min_qual: float | None) -> np.ndarray:
        """Which alleles lie behind their contig's cut (1-based position) and count."""
        behind = self.start + 1 > np.array([cuts[contig] for contig in self.contig])
        return behind if min_qual is None else behind & (self.qual >= min_qual)

    def trained(self, cuts: dict[str, int]) -> np.ndarray:
        """Which alleles a training sees: all up to the cut, whatever their QUAL."""
        return self.start + 1 <= np.array([cuts[contig] for contig in self.contig])


def build_table(data: str, caller: str, work: str) -> tuple[Dataset, Table]:
    """The dataset of a callset of ``sim``, built in ``work`` unless it is there, and its table."""
    sim = Path(data) / "sim"
    paths = InputPaths(
        vcf=str(sim / f"DEV.{caller}.vcf.gz"), reads=str(sim / "DEV.bam"), reference=str(sim / "ref.fa.gz"),
        labels=str(sim / f"DEV.{caller}.labels.tsv"),
    )  # fmt: skip
    folder = f"{work}/{caller}.tensors"
    config = load_config(None, ["blocks.records=500"])
    stages.build_dataset(spark_session("trees", "local[2]"), paths, folder, config, if_exists="resume")
    dataset = Dataset(folder)
    columns = ["contig", "start", "variant_type", "label", "annotations", "site_features"]
    parts = list(dataset.read([block["block"] for block in dataset.blocks], columns))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in columns[:4]}
    annotations, features = (np.concatenate([np.stack(list(p[name])) for p in parts]) for name in columns[4:])
    table = Table(
        contig=joined["contig"].astype(np.str_),
        start=joined["start"],
        variant_type=joined["variant_type"],
        label=joined["label"],
        values=np.concatenate([annotations, features], axis=1),
        qual=annotations[:, dataset.annotation_names.index("QUAL")],
    )
    return dataset, table


def tree_scores(table: Table, trained: np.ndarray, tested: np.ndarray, seed: int) -> np.ndarray:
    """The log odds (tested,) of trees grown on the trained alleles, settings as scikit-learn has them."""
    trees = HistGradientBoostingClassifier(random_state=seed)
    trees.fit(table.values[trained], table.label[trained])
    return np.asarray(trees.decision_function(table.values[tested]))


def network_scores(dataset: Dataset, path: str, tested: np.ndarray) -> np.ndarray:
    """The logits (tested,) of the bundle at ``path``."""
    bundle = load_bundle(path)
    logits = []
    for values in dataset.read([block["block"] for block in dataset.blocks]):
        tensors = decode({name: column for name, column in values.items() if name != "ref"})
        count = len(tensors.row_offsets) - 1
        for first in range(0, count, BATCH):
            logits.append(bundle.logits(pad_rows(tensors, np.arange(first, min(first + BATCH, count)))))
    return np.concatenate(logits)[tested].astype(np.float64)


def gains(measured: Metrics) -> list[str]:
    """A line for each score and group: how much its AUPRC is above that of the trees, with the paired interval."""
    lines = []
    for group, by_score in measured.items():
        for name, values in by_score.items():
            if values.get("auprc_gain") is not None:
                gain, low, high = (values[f"auprc_gain{end}"] for end in ("", "_low", "_high"))
                lines.append(f"{group} {name}: AUPRC {values['auprc']:.5f}, {gain:+.5f} ({low:+.5f} to {high:+.5f})")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--caller", choices=sorted(CALLSETS), default="freebayes")
    parser.add_argument("--work", required=True, help="folder of the dataset; built there once")
    parser.add_argument("--network", action="append", default=[], help="a model bundle to compare")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    sim = Path(options.data) / "sim"
    min_qual = CALLSETS[options.caller]
    known = read_alleles(sim / f"DEV.{options.caller}.vcf.gz", sim / f"DEV.{options.caller}.labels.tsv", min_qual)
    cuts = split_positions(known)
    dataset, table = build_table(options.data, options.caller, options.work)
    trained, tested = table.trained(cuts), table.tested(cuts, min_qual)
    scores = {f"trees {seed}": tree_scores(table, trained, tested, seed) for seed in SEEDS}
    for path in options.network:
        scores[Path(path).name] = network_scores(dataset, path, tested)
    if len(options.network) > 1:
        scores["mean of the networks"] = np.mean([scores[Path(path).name] for path in options.network], axis=0)
    alleles = AlleleScores(
        table.contig[tested], table.start[tested], table.variant_type[tested], table.label[tested], scores
    )
    measured = evaluate(alleles, baseline=BASELINE)
    print(f"{trained.sum()} alleles trained on, {tested.sum()} tested")
    print(format_table(measured))
    print("\n".join([f"gain over {BASELINE}, paired bootstrap:", *gains(measured)]))
    if options.json:
        Path(options.json).write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
