"""What pre-training without labels gains if few alleles are labelled: 1 %, 10 % and all of a sample's.

    python -m benchmarks.training.pretraining --data ../shared/data --work DIR --model features --seeds 1,2,3
    python -m benchmarks.training.pretraining --data ../shared/data --work DIR --model reads --name picture \
        --set train.use_annotations=false --set train.use_site_features=false

A network is pre-trained on one simulated sample's tensors (``train-101`` of ``benchmarks.training.draws``), whose
labels it does not see. Then it is trained on the labels of evenly spread stretches of that sample, from the pre-trained
weights and from chance, and measured on another sample of unseen sequence. Beside it stands an isolation forest on the
annotations, which needs no labels at all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest

from benchmarks.accuracy.accuracy import Part, dataset_of, draw_part, network_scores, tabled
from benchmarks.support.command import arguments, finish
from benchmarks.training import draws
from cnnspark.common.log import progress
from cnnspark.config import load_config
from cnnspark.evaluation.metrics import auprc
from cnnspark.execution.session import spark_session
from cnnspark.formats.regions import parse_region
from cnnspark.tensors.dataset import Dataset
from cnnspark.training import train

SAMPLE, TESTED = "train-101", "mechanisms"
STRETCHES = 16
# So that each is trained on some ten thousand examples at least.
EPOCHS = {"0.01": 40, "0.1": 12, "1": 4}


def labelled_part(whole: Part, share: float) -> Part:
    """The labelled share of a sample: STRETCHES stretches of its regions, evenly spread."""
    if share == 1:
        return whole
    regions = []
    for text in draws.TRAINED:
        region = parse_region(text, [text.split(":")[0]])
        step = (region.end - region.start) // (STRETCHES // 2)
        for i in range(STRETCHES // 2):
            first = region.start + i * step + step // 2
            regions.append(f"{region.contig}:{first + 1}-{first + int(step * share)}")
    return Part(f"{whole.name}-{share:g}", whole.inputs, tuple(regions))


def isolation_forest(dataset: Dataset, seed: int) -> float:
    """AUPRC of an isolation forest: how common an allele's annotations are in the callset; the median if missing."""
    keys, values = tabled(dataset)
    columns = [values[name] for name in dataset.annotation_names if not np.isnan(values[name]).all()]
    matrix = np.stack([np.where(np.isnan(c), np.nanmedian(c), c) for c in columns], axis=1)
    scores = IsolationForest(random_state=seed).fit(matrix).score_samples(matrix)
    return float(auprc(keys["label"], scores) or 0.0)


def learn(options: argparse.Namespace, dataset: str, out: str, seed: int, epochs: int, flags: dict[str, str]) -> None:
    """Trains, or pre-trains, into ``out``."""
    given = [*options.settings, f"train.seed={seed}", f"train.epochs={epochs}", "train.if_exists=overwrite"]
    settings = load_config(None, given).train.with_flags(("0.2",), **{"model": options.model, **flags})
    train(spark_session("pretraining", "local[*]"), dataset, out, settings, progress)


def measure_seed(options: argparse.Namespace, seed: int, whole: Part, tested: str) -> Iterator[dict[str, Any]]:
    """Yields a row for each share of the labels, trained from chance and from pre-trained weights."""
    folder = Path(options.work, "pretraining", options.name or options.model)
    labels = tabled(Dataset(tested))[0]["label"]
    begun, started = f"{folder}/pretrained-{seed}", time.monotonic()
    dataset = dataset_of(whole, options.model, options.work)
    learn(options, dataset, begun, seed, options.pretrain_epochs, {"objective": "pretrain"})
    seconds = time.monotonic() - started
    yield {"labels": "none", "start": "isolation forest", "alleles": 0, "seed": seed, "seconds": 0.0,
           "AUPRC": f"{isolation_forest(Dataset(tested), seed):.4f}"}  # fmt: skip
    starts: dict[str, dict[str, str]] = {"chance": {}, "pre-trained": {"init": begun}}
    for text in options.shares.split(","):
        part = dataset_of(labelled_part(whole, float(text)), options.model, options.work)
        for name, flags in starts.items():
            started, out = time.monotonic(), f"{folder}/{text}-{name}-{seed}"
            learn(options, part, out, seed, EPOCHS[text], flags)
            figure = auprc(labels, network_scores(out, tested))
            spent = time.monotonic() - started + (seconds if flags else 0)
            yield {"labels": f"{float(text):.0%}", "start": name, "alleles": Dataset(part).card["tensors"],
                   "seed": seed, "seconds": spent, "AUPRC": f"{figure:.4f}"}  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, work="samples, tensors and models")
    parser.add_argument("--model", default="features", choices=["features", "reads", "reference"])
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--pretrain-epochs", type=int, default=4)
    parser.add_argument("--shares", default=",".join(EPOCHS))
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of pre-training and training")
    parser.add_argument("--name", help="folder of the models in --work/pretraining [--model]")
    options = parser.parse_args()
    draws.make_samples([SAMPLE, TESTED], str(Path(options.data, draws.REFERENCE)), options.work)
    whole = draw_part(options.data, options.work, SAMPLE)
    tested = dataset_of(draw_part(options.data, options.work, TESTED), options.model, options.work)
    rows = []
    for seed in map(int, options.seeds.split(",")):
        for row in measure_seed(options, seed, whole, tested):
            print(row, flush=True)
            rows.append(row)
    print(f"{options.model}, measured on {Dataset(tested).card['tensors']} alleles of {TESTED}")
    finish(options, rows)


if __name__ == "__main__":
    main()
