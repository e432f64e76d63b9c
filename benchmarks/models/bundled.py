"""Makes the models that come with cnnspark, ``cnnspark/pretrained``: simulates, trains and installs them.

    python -m benchmarks.models.bundled --data ../shared/data --work DIR [--only reads]

They are trained on the nine training draws of ``benchmarks.training.draws`` and on both simulated callsets with real
sequence, whole (``--on all`` of ``benchmarks.accuracy.accuracy``, which measures them on draws of other seeds and
sequence). What is in ``--work`` already is kept. The same machine and versions give the same files.

``features`` comes before ``reads`` (``cnnspark cascade``), with the band of the blocks that both held out, and is
installed with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.accuracy.accuracy import dataset_of, training_parts
from benchmarks.support.command import DATA
from cnnspark.models.bundle_files import CARD_FILE, NETWORK_FILE
from cnnspark.models.card import Card, read_card
from cnnspark.models.names import FIRST
from cnnspark.stages.cascade import make_cascade

PRETRAINED = Path(__file__).resolve().parents[2] / "cnnspark" / "pretrained"
# Annotations are a caller's own: on draws they are worth almost nothing beside site features, on real callsets they
# mislead. `reference` has little else.
_NO_ANNOTATIONS = ("--set", "train.use_annotations=false")
# The layers of the site features, for so many alleles: with the settings' defaults, found on 7,600, trees are ahead.
_WIDE = (
    *("--set", "train.bins=8", "--set", "train.hidden_units=[128,128,64]"),
    *("--set", "train.dropout=0.2", "--set", "train.hidden_dropout=0.1", "--set", "train.batch_size=128"),
)
# Fewer reads make for less depth, and for speed.
_READS = (*_NO_ANNOTATIONS, "--set", "train.drop_reads=0.5")
# Half of the start's weights are kept, because real reads are not the simulation's: without, `reads` is .0004 better on
# draws and loses two true alleles more of one dense cluster of NA12878.
# Each step's network and options. `reads` comes of three, as by train.by_parts: the site features, the picture by
# itself (beside them it learns nothing but to keep still), and both together, slowly.
TRAINING: dict[str, tuple[str, list[str]]] = {
    "features": ("features", ["--epochs", "8", *_NO_ANNOTATIONS, *_WIDE, "--set", "train.learning_rate=2e-3"]),
    # The ninth draw is for what the site features make of clusters. A third epoch, of all, at half the rate, gave
    # nothing: .9972 on the draw "mechanisms" with either picture.
    "picture": ("reads", ["--epochs", "2", "--limit", "8", *_READS, "--set", "train.use_site_features=false"]),
    "reads": (
        "reads",
        [
            *("--epochs", "1", *_READS, "--set", "train.learning_rate=1e-4"),
            *("--set", "train.dropout=0.2", "--set", "train.hidden_dropout=0.1", "--set", "train.keep_start=0.5"),
            *("--set", "train.init={work}/all/features-1/bundle", "--set", "train.picture={work}/all/picture-1/bundle"),
        ],
    ),
    "reference": ("reference", ["--epochs", "3", "--limit", "8"]),
}
# `features` within `reads`.
INSTALLED = ("reads", "reference")
NEEDED = {"reads": ["features", "picture"]}
VALIDATION = "0.07"
# Whether the bundled ``reads`` scores in two stages where nothing is said: as benchmarks.training.cascade measured it.
CASCADE_BY_DEFAULT = True


def installed_card(card: Card) -> Card:
    """The card as it is published: data by name instead of path, and what kind they are."""
    training = {key: value for key, value in card.training.items() if key not in ("init", "picture", "log_dir")}
    names = [Path(path).name.partition(".")[0] for path in card.data["path"]]
    data = {**card.data, "path": names, "kind": "simulated reads on GRCh38 chr20 and chr21, no real ones"}
    return dataclasses.replace(card, training=training, data=data)


def install(bundle: Path, name: str) -> int:
    """Copies a bundle into the package, with its first model if it has one; returns bytes."""
    target = PRETRAINED / name
    shutil.rmtree(target, ignore_errors=True)
    for part in ("", FIRST) if (bundle / FIRST).is_dir() else ("",):
        (target / part).mkdir(parents=True)
        shutil.copyfile(bundle / part / NETWORK_FILE, target / part / NETWORK_FILE)
        text = installed_card(read_card(bundle / part)).text(compact=True)
        (target / part / CARD_FILE).write_text(text, encoding="utf-8")
        read_card(target / part)
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def with_first(data: str, work: str) -> Path:
    """Makes the bundle of ``features`` before ``reads``; the band is chosen on blocks that neither was trained on."""
    features, reads, out = (Path(work, "all", f"{name}-1", "bundle") for name in ("features", "reads", "cascade"))
    datasets = [dataset_of(part, "reads", work) for part in training_parts(data, work, "all", 0)]
    made = make_cascade(
        datasets, str(features), str(reads), str(out), if_exists="overwrite", by_default=CASCADE_BY_DEFAULT
    )
    print(made.text())
    return out


def trained(name: str, options: argparse.Namespace) -> Path:
    """The bundle of a step; trains it, and first the steps that it needs, unless they exist."""
    for needed in NEEDED.get(name, ()):
        trained(needed, options)
    bundle = Path(options.work, "all", f"{name}-1", "bundle")
    if not bundle.exists():
        model, settings = TRAINING[name]
        given = ["--data", options.data, "--work", options.work, "--on", "all", "--replicas", options.replicas]
        given += ["--model", model, "--name", f"{name}-1", "--validation", VALIDATION]
        settings = [text.format(work=options.work) for text in settings]
        subprocess.run([sys.executable, "-m", "benchmarks.accuracy.accuracy", "train", *given, *settings], check=True)
    return bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--work", required=True, help="folder for samples, tensors and models")
    parser.add_argument("--only", action="append", choices=INSTALLED, help="may be repeated [all]")
    parser.add_argument("--replicas", default="2", help="the weights do not depend on it")
    options = parser.parse_args()
    for name in options.only or INSTALLED:
        bundle = trained(name, options)
        if name == "reads":
            bundle = with_first(options.data, options.work)
        print(f"{name}: {install(bundle, name)} bytes")


if __name__ == "__main__":
    main()
