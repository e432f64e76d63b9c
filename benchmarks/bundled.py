"""Makes the models that come with cnnspark, ``cnnspark/pretrained``: simulates, trains and installs them.

    python -m benchmarks.bundled --data ../shared/data --work DIR [--only reads]

They are trained on the six training draws of ``benchmarks.draws`` and on both simulated callsets with real sequence,
whole (``--on all`` of ``benchmarks.accuracy``, which measures them on draws of other seeds and sequence). What is
in ``--work`` already is kept. The same machine and versions give the same files.

``reads`` has ``features`` before it (``cnnspark cascade``), with the band of the blocks that both held out. It is
chosen anew whenever ``reads`` is installed, for it is of these very two models.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.accuracy import dataset_of, training_parts
from cnnspark.cascade_stage import make_cascade
from cnnspark.models.bundled import BUNDLED
from cnnspark.models.card import CARD_FILE, NETWORK_FILE, Card, read_card
from cnnspark.models.names import FIRST

PRETRAINED = Path(__file__).resolve().parents[1] / "cnnspark" / "pretrained"
# Annotations are a caller's own: on draws they are worth next to nothing beside site features, on real callsets they
# mislead. `reference` has little else. Fewer reads make for less depth, and for speed.
TRAINING = {
    "features": ["--epochs", "6", "--set", "train.use_annotations=false"],
    # From the one before.
    "reads": [
        *("--epochs", "2", "--set", "train.use_annotations=false", "--set", "train.drop_reads=0.5"),
        *("--set", "train.init={work}/all/features-1/bundle"),
    ],
    "reference": ["--epochs", "3"],
}
VALIDATION = "0.07"
# Whether the bundled ``reads`` scores in two stages where nothing is said: as benchmarks.cascade has measured it.
CASCADE_BY_DEFAULT = False
# How the card names the data sets, instead of folders of the machine that trained it.
SOURCES = ("train-101", "train-102", "train-103", "train-104", "train-105", "train-106", "freebayes", "bcftools")


def installed_card(card: Card) -> Card:
    """The card as it is published: data by name, and what they are."""
    training = {key: value for key, value in card.training.items() if key not in ("init", "log_dir")}
    data = {**card.data, "path": list(SOURCES), "kind": "simulated reads on GRCh38 chr20 and chr21, no real ones"}
    return dataclasses.replace(card, training=training, data=data)


def install(bundle: Path, name: str) -> int:
    """Copies a bundle into the package, with the first model where it has one; returns its size in bytes."""
    target = PRETRAINED / name
    shutil.rmtree(target, ignore_errors=True)
    for folder, place in ((bundle, target), (bundle / FIRST, target / FIRST)):
        if folder.is_dir():
            place.mkdir(parents=True)
            shutil.copyfile(folder / NETWORK_FILE, place / NETWORK_FILE)
            text = json.dumps(installed_card(read_card(folder)).to_json(), allow_nan=False, separators=(",", ":"))
            (place / CARD_FILE).write_text(text + "\n", encoding="utf-8")
            read_card(place)
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def with_first(data: str, work: str) -> Path:
    """The bundle of ``features`` before ``reads``: their band is chosen on what both held out of their training."""
    features, reads, out = (Path(work, "all", f"{name}-1", "bundle") for name in ("features", "reads", "cascade"))
    datasets = [dataset_of(part, "reads", work) for part in training_parts(data, work, "all", 0)]
    made = make_cascade(
        datasets, str(features), str(reads), str(out), if_exists="overwrite", by_default=CASCADE_BY_DEFAULT
    )
    print(made.text())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", required=True, help="folder for samples, tensors and models")
    parser.add_argument("--only", action="append", choices=BUNDLED, help="may be repeated [all]")
    parser.add_argument("--replicas", default="2", help="the weights do not depend on it")
    options = parser.parse_args()
    for name in options.only or BUNDLED:
        bundle = Path(options.work, "all", f"{name}-1", "bundle")
        if not bundle.exists():
            given = ["--data", options.data, "--work", options.work, "--on", "all", "--replicas", options.replicas]
            command = [
                "train",
                *given,
                "--model",
                name,
                "--validation",
                VALIDATION,
                *(text.format(work=options.work) for text in TRAINING[name]),
            ]
            subprocess.run([sys.executable, "-m", "benchmarks.accuracy", *command], check=True)
        if name == "reads":
            bundle = with_first(options.data, options.work)
        print(f"{name}: {install(bundle, name)} bytes")


if __name__ == "__main__":
    main()
