"""Predictions of a block's alleles by a model, or by a cascade of two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnnspark.common.log import quiet_stderr
from cnnspark.common.stopwatch import part, starting
from cnnspark.errors import InputError
from cnnspark.execution.blocks import Block
from cnnspark.execution.tensorflow_setup import lean_import, model_kept_out_of_gc, show_assigned_gpus
from cnnspark.formats.htslib import prepare_htslib
from cnnspark.models.card import Card
from cnnspark.models.input_drift import count_values, pack_counts
from cnnspark.scoring.cascade import PASSED_ON
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.tensors.batches import scoring_batches
from cnnspark.tensors.site_features import feature_columns
from cnnspark.variants.score_fields import STAGES, log_odds

# Key in a block's counts: scored alleles at which there was no read.
WITHOUT_READS = "alleles scored without a read"

if TYPE_CHECKING:
    from cnnspark.models.bundle import Bundle
    from cnnspark.tensors.schema import TensorBatch


# A model and the one before it.
MODELS_KEPT = 2


@lru_cache(maxsize=MODELS_KEPT)
def loaded_model(path: str, digest: str, threads: int) -> Bundle:
    """The model, loaded once in a Python worker. TensorFlow is imported here: in tasks, never in the driver.

    Raises:
        InputError: the bundle cannot be read, or its digest is not ``digest``.
    """
    prepare_htslib()  # remote inputs may be opened after this: its libraries are best loaded first
    show_assigned_gpus()
    # A second model takes almost no time: TensorFlow is loaded.
    with starting("loading the model", adds=True), quiet_stderr(), lean_import():
        from cnnspark.models.bundle import load_bundle

        with model_kept_out_of_gc(replaces=loaded_model.cache_info().currsize == MODELS_KEPT):
            bundle = load_bundle(path, threads)
    if bundle.card.digest != digest:
        raise InputError(f"{path} changed during the run; start again with --if-exists overwrite")
    return bundle


class Predicted(NamedTuple):
    """Predictions of n alleles.

    Attributes:
        scores: float64 (n,), calibrated log odds.
        stages: int8 (n,), which of two models each score is of; None if there is one model.
    """

    scores: np.ndarray
    stages: np.ndarray | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many alleles needed the second model, for the block's row."""
        return {} if self.stages is None else {PASSED_ON: int((self.stages == STAGES[1]).sum())}


def predictor(plan: ScoringPlan) -> Callable[[TensorBatch, Block], Predicted]:
    """A function that predicts a block's alleles, with the models loaded.

    In a cascade the first model scores all alleles; those whose probability is in its band go on to the second.

    Raises:
        InputError: a bundle that cannot be read, or that changed since the run began.
    """
    first, settings = plan.first, plan.settings
    size, bundle = settings.batch_size, loaded_model(plan.model, plan.card.digest, settings.threads)
    if first is None:
        return lambda batch, block: Predicted(predicted_scores(bundle, batch, size, block))
    before, band = loaded_model(first.model, first.digest, settings.threads), first.band

    def predict(batch: TensorBatch, block: Block) -> Predicted:
        probabilities = predicted_probabilities(before, batch, size, block)
        goes_on = band.holds(probabilities)
        chosen = np.flatnonzero(goes_on).tolist()
        if chosen:
            part_of = batch if len(chosen) == len(batch) else batch.take(chosen)
            probabilities[chosen] = predicted_probabilities(bundle, part_of, size, block)
        return Predicted(log_odds(probabilities), np.where(goes_on, STAGES[1], STAGES[0]).astype(np.int8))

    return predict


def predicted_scores(bundle: Bundle, batch: TensorBatch, batch_size: int, block: Block) -> np.ndarray:
    """The score of each allele of a block: float64 (n,).

    Raises:
        InputError: the network gave a value that is not a number.
    """
    return log_odds(predicted_probabilities(bundle, batch, batch_size, block))


def known_features(card: Card, batch: TensorBatch) -> np.ndarray:
    """The site features that the model knows, in its card's order: float32 (n, F').

    This version builds F features (n, F); a model of an earlier version knows fewer, one trained without them none.
    """
    return batch.site_features[:, feature_columns(card.feature_names, f"the model '{card.model}'")]


@part("predict")
def predicted_probabilities(bundle: Bundle, batch: TensorBatch, batch_size: int, block: Block) -> np.ndarray:
    """The calibrated probability that each allele of a block is real: float64 (n,).

    Raises:
        InputError: the network gave a value that is not a number.
    """
    batch = dataclasses.replace(batch, site_features=known_features(bundle.card, batch))
    found = np.zeros(len(batch), np.float64)
    for chosen, arrays in scoring_batches(batch, batch_size, bundle.inputs, bundle.rows_at_once):
        found[chosen] = bundle.predict(arrays)
    if not np.isfinite(found).all():
        raise InputError(f"the model gave a score that is not a number in {block.region}; train it again")
    return found


def input_counts(card: Card, batch: TensorBatch) -> list[str]:
    """Counts of the alleles' annotations and site features in the bins of the card's histograms, packed as text.

    Empty if the card has no histograms.
    """
    if card.known is None:
        return []
    values = np.concatenate([batch.annotations, known_features(card, batch)], axis=1)
    return pack_counts(count_values(card.known, values))
