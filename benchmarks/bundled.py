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
_ALIKE = ("--set", "train.use_annotations=false", "--set", "train.drop_reads=0.5")
# Each step's network and options. `reads` comes of three: the counts of reads beside the site features, the picture by
# itself (beside them it learns nothing but to keep still), and both together, slowly.
TRAINING: dict[str, tuple[str, list[str]]] = {
    "features": ("features", ["--epochs", "6", "--set", "train.use_annotations=false"]),
    "counts": ("reads", ["--epochs", "2", *_ALIKE, "--set", "train.init={work}/all/features-1/bundle"]),
    "picture": ("reads", ["--epochs", "1", *_ALIKE, "--set", "train.use_site_features=false"]),
    "reads": (
        "reads",
        [
            *("--epochs", "1", *_ALIKE, "--set", "train.learning_rate=1e-4"),
            *("--set", "train.init={work}/all/counts-1/bundle", "--set", "train.picture={work}/all/picture-1/bundle"),
        ],
    ),
    "reference": ("reference", ["--epochs", "3"]),
}
NEEDED = {"counts": ["features"], "reads": ["counts", "picture"]}
VALIDATION = "0.07"
# Whether the bundled ``reads`` scores in two stages where nothing is said: as benchmarks.cascade has measured it.
CASCADE_BY_DEFAULT = False
# How the card names the data sets, instead of folders of the machine that trained it.
SOURCES = ("train-101", "train-102", "train-103", "train-104", "train-105", "train-106", "freebayes", "bcftools")


def installed_card(card: Card) -> Card:
    """The card as it is published: data by name, and what they are."""
    training = {key: value for key, value in card.training.items() if key not in ("init", "picture", "log_dir")}
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


def trained(name: str, options: argparse.Namespace) -> Path:
    """The bundle of a step, trained unless it is there, after the steps that it needs."""
    for needed in NEEDED.get(name, ()):
        trained(needed, options)
    bundle = Path(options.work, "all", f"{name}-1", "bundle")
    if not bundle.exists():
        model, settings = TRAINING[name]
        given = ["--data", options.data, "--work", options.work, "--on", "all", "--replicas", options.replicas]
        given += ["--model", model, "--name", f"{name}-1", "--validation", VALIDATION]
        settings = [text.format(work=options.work) for text in settings]
        subprocess.run([sys.executable, "-m", "benchmarks.accuracy", "train", *given, *settings], check=True)
    return bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", required=True, help="folder for samples, tensors and models")
    parser.add_argument("--only", action="append", choices=BUNDLED, help="may be repeated [all]")
    parser.add_argument("--replicas", default="2", help="the weights do not depend on it")
    options = parser.parse_args()
    for name in options.only or BUNDLED:
        bundle = trained(name, options)
        if name == "reads":
            bundle = with_first(options.data, options.work)
        print(f"{name}: {install(bundle, name)} bytes")


if __name__ == "__main__":
    main()
