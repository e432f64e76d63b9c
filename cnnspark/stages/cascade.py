"""``cnnspark cascade``: makes one bundle of two models, a fast one that scores first and a second for what is unsure.

Both models predict alleles that neither was trained on; these decide the band of probabilities that goes on.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.common.log import progress, quiet_stderr
from cnnspark.common.storage import absolute, require_free
from cnnspark.errors import UsageError
from cnnspark.evaluation.metrics import BLOCK_BASES
from cnnspark.execution.tensorflow_setup import lean_import
from cnnspark.models.bundle_files import (
    BUNDLE_FILES,
    CARD_FILE,
    HISTORY_FILE,
    NETWORK_FILE,
    absolute_model,
    chosen_model,
    new_bundle,
    opened_bundle,
)
from cnnspark.models.card import Card, read_card
from cnnspark.models.cascade import Cascade
from cnnspark.models.names import FIRST
from cnnspark.scoring.cascade import require_pair
from cnnspark.scoring.cascade_band import TOLERANCE, ChosenBand, choose_band
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.tensors.dataset import decode, training_columns
from cnnspark.tensors.joined_dataset import DATASET, TensorRows, open_dataset
from cnnspark.training.data import hold_out
from cnnspark.training.warm_start import Start, arranged, starting_spec
from cnnspark.variants.alleles import UNKNOWN

if TYPE_CHECKING:
    from cnnspark.models.bundle import Bundle


@dataclass(frozen=True)
class CascadeResult:
    """The bundle that was written, and the band that was chosen."""

    out: str
    first: str
    model: str
    chosen: ChosenBand

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values."""
        return dataclasses.asdict(self) | {"share": self.chosen.share}

    def text(self) -> str:
        """The result for the terminal."""
        found, band = self.chosen, self.chosen.band
        lines = [
            f"{found.share:.1%} of {found.alleles} validation alleles go on to the second model: those with a "
            f"probability from {band.low:g} to {band.high:g} by the first",
            *(
                f"{name}: {found.cascade[name]:.4f}, {found.alone[name]:.4f} with the second model alone"
                for name in found.alone
            ),
            self.out,
        ]
        return "\n".join(lines)


def make_cascade(
    data: Sequence[str], first: str | None, model: str, out: str, settings: ScoreSettings | None = None,
    if_exists: str = "fail", by_default: bool = True,
) -> CascadeResult:  # fmt: skip
    """Chooses the band of two models on labelled tensors and writes a bundle of both.

    Args:
        data: datasets with labels. Of a dataset that a model was trained on, the blocks that it held out count.
        first: the model that scores first; may be left out for a bundled ``model``.
        model: the model that scores what is unsure.
        out: the bundle's folder.
        settings: batch size and threads.
        if_exists: ``fail`` or ``overwrite``.
        by_default: whether the bundle scores in two stages unless a run says otherwise.

    Raises:
        UsageError: the models do not go together, or were trained on the data.
        InputError: the data have too few alleles of known label.
    """
    require_free(out, if_exists != "fail", empty_ok=True)
    model = absolute_model(chosen_model(model, with_reads=True))
    first = absolute_model(chosen_model(first or _usual_first(model), with_reads=True))
    cards = read_card(first), read_card(model)
    require_pair(first, cards[0], model, cards[1])
    paths = [absolute(path) for path in data]
    dataset = open_dataset(paths)
    if not dataset.card.get("with_reads", True):
        raise UsageError(f"{dataset.path} was built without reads; give tensors that were built with --reads")
    blocks = validation_blocks(dataset, paths, (first, model), cards)
    alleles = probabilities_of(dataset, blocks, (first, model), cards, settings or ScoreSettings())
    labels = alleles[0]
    progress(f"{len(labels)} validation alleles, {int((labels == 1).sum())} of them true")
    chosen = choose_band(*alleles)
    if (n_true := int((labels == 1).sum())) * TOLERANCE < 1:
        progress(
            f"warning: {n_true} true alleles are too few to show a loss of {TOLERANCE:.2%}; choose the band on more"
        )
    cascade = Cascade(
        first_sha256=cards[0].sha256,
        band=chosen.band,
        by_default=by_default,
        alleles=chosen.alleles,
        passed_on=chosen.passed_on,
        figures={
            name: {"alone": round(chosen.alone[name], 6), "cascade": round(chosen.cascade[name], 6)}
            for name in chosen.alone
        },
    )
    write_cascade(out, first, model, dataclasses.replace(cards[1], cascade=cascade), if_exists == "overwrite")
    return CascadeResult(out, first, model, chosen)


def _usual_first(model: str) -> str:
    # A folder "reads" would be somebody's own model.
    if model != chosen_model(None, with_reads=True):
        raise UsageError(f"there is no model to come before {model}; give one with --first")
    return f"{model}/{FIRST}"


def validation_blocks(
    dataset: TensorRows, paths: Sequence[str], models: Sequence[str], cards: Sequence[Card]
) -> list[int]:
    """The numbers of the blocks whose alleles no model was trained on.

    Raises:
        UsageError: a model was trained on some of the datasets but not on others, or no block is left.
    """
    chosen = {block["block"] for block in dataset.blocks}
    for model, card in zip(models, cards, strict=True):
        if card.data.get("sha256") == dataset.card["sha256"]:
            chosen &= set(hold_out(dataset, _validation_of(card))[1])
        elif set(card.data.get("path", ())) & set(paths):
            raise UsageError(
                f"{model} was trained on some of these datasets; give all {len(card.data['path'])} that it was trained "
                "on, in their order, so that the blocks it held out are taken, or none of them"
            )
    if not chosen:
        raise UsageError("no block of the data was held out from both models; give a dataset that they never saw")
    return sorted(chosen)


def _validation_of(card: Card) -> float | tuple[str, ...]:
    """What the model's training held out, as its settings have it."""
    value = card.training.get("validation", 0.2)
    return value if isinstance(value, float) else tuple(value)


def probabilities_of(
    dataset: TensorRows,
    blocks: Sequence[int],
    models: Sequence[str],
    cards: Sequence[Card],
    settings: ScoreSettings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predicts the blocks' alleles of known label with both models. TensorFlow is loaded here.

    Returns:
        Arrays (n,) in the files' order, as :func:`cnnspark.scoring.cascade_band.choose_band` takes them: labels (int),
        calibrated probabilities by the first and the second model (float64), and the numbers of the stretch of the
        genome and of the dataset (int).

    Raises:
        UsageError: the tensors were built with other settings than the models' training data.
    """
    wanted = {name: value for name, value in dataset.card["config"]["tensors"].items() if name != "on_ref_mismatch"}
    trained = {n: v for n, v in cards[1].data.get("tensors", wanted).items() if n != "on_ref_mismatch"}
    limit = int(wanted["read_limit"])
    taken = [
        starting_spec(model, card, dataset.annotation_names, dataset.feature_names, limit, {})
        for model, card in zip(models, cards, strict=True)
    ]
    if wanted != trained:
        odd = sorted(name for name in {*wanted, *trained} if wanted.get(name) != trained.get(name))
        raise UsageError(
            f"{dataset.path} was built with another tensors.{odd[0]} than the models' data; build it as those were"
        )
    with quiet_stderr(), lean_import():
        from cnnspark.models.bundle import load_bundle

        bundles = [load_bundle(model, settings.threads) for model in models]
    keys: dict[str, list[np.ndarray]] = {"label": [], "contig": [], "start": [], DATASET: []}
    found: list[list[np.ndarray]] = [[] for _ in bundles]
    for values, probabilities in _predicted(dataset, blocks, taken, bundles, settings.batch_size):
        known = values["label"] != UNKNOWN
        for name, column in keys.items():
            column.append(values.get(name, np.zeros(len(known), np.int32))[known])
        for each, of_bundle in zip(found, probabilities, strict=True):
            each.append(of_bundle[known])
    labels, contigs, starts, callsets = (np.concatenate(column) for column in keys.values())
    # The same stretch of several samples is drawn as one: they share the reference.
    numbers = np.unique(contigs.astype(np.str_), return_inverse=True)[1].reshape(-1)
    stretches = numbers * (int(starts.max(initial=0)) // BLOCK_BASES + 1) + starts // BLOCK_BASES
    return labels, np.concatenate(found[0]), np.concatenate(found[1]), stretches, callsets


def _predicted(
    dataset: TensorRows,
    blocks: Sequence[int],
    starts: Sequence[Start],
    bundles: Sequence[Bundle],
    batch_size: int,
) -> Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """A row group's columns at a time, and each bundle's probabilities of its alleles."""
    from cnnspark.tensors.batches import scoring_batches

    fields = frozenset().union(*(bundle.inputs for bundle in bundles))
    read = training_columns(fields)
    assert read is not None
    for values in dataset.read(blocks, [*read, "alt_index", "record_index"]):
        tensors = decode(values)
        each = [np.zeros(len(tensors)) for _ in bundles]
        for found, start, bundle in zip(each, starts, bundles, strict=True):
            of_model = dataclasses.replace(
                tensors,
                annotations=arranged(tensors.annotations, start.annotation_columns),
                site_features=arranged(tensors.site_features, start.feature_columns),
            )
            for chosen, batch in scoring_batches(of_model, batch_size, bundle.inputs, bundle.rows_at_once):
                found[chosen] = bundle.predict(batch)
        yield values, each


def write_cascade(out: str, first: str, model: str, card: Card, replace: bool = False) -> None:
    """Writes a bundle of both models: the second one with ``card``, and the first one inside it.

    Raises:
        InputError: ``out`` exists and ``replace`` is false.
    """
    with (
        opened_bundle(first, BUNDLE_FILES) as of_first,
        opened_bundle(model, BUNDLE_FILES) as of_model,
        new_bundle(out, replace) as folder,
    ):
        (folder / FIRST).mkdir()
        for name in BUNDLE_FILES:
            if (of_first / name).exists():
                shutil.copyfile(of_first / name, folder / FIRST / name)
        for name in (NETWORK_FILE, HISTORY_FILE):
            if (of_model / name).exists():
                shutil.copyfile(of_model / name, folder / name)
        (folder / CARD_FILE).write_text(card.text(), encoding="utf-8")
