"""What a network is trained for: to tell true alleles from false ones, or to predict what was hidden from it.

An objective builds the networks, prepares a batch and computes the losses; the trainer knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from cnnspark.models.networks.layers import noise_keys
from cnnspark.models.networks.registry import build_model
from cnnspark.tensors.schema import FIELD, TARGET
from cnnspark.training.job import ReplicaJob
from cnnspark.training.losses import loss_by_name, training_loss
from cnnspark.training.masking import mask, masked_fields
from cnnspark.training.pretraining_heads import loss_names, masked_losses, pretraining_network, untrained_layers


class Objective(Protocol):
    """A goal of training. B is the batch.

    ``model`` is what the bundle holds; ``network`` is trained and shares its layers. ``targets`` are the shapes (None
    for B and R) and dtypes of what the losses compare with. ``figures`` names the columns of :meth:`measured`; it is
    empty if that has none. ``untrained`` names layers of the model that the network lacks.
    """

    model: keras.Model
    network: keras.Model
    targets: dict[str, tuple[tuple[int | None, ...], str]]
    figures: tuple[str, ...]
    untrained: list[str]

    def prepare(self, batch: Mapping[str, np.ndarray], noise_key: np.ndarray | None) -> Mapping[str, np.ndarray]:
        """The batch with its targets.

        Args:
            batch: as :func:`cnnspark.tensors.batches.pad_rows` gives it, with label and example_key (B,).
            noise_key: int32 (B,), what random choices are a hash of; None for validation, where they are always the
                same for an allele.
        """

    def losses(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """The losses that are trained on, float32 (B,).

        Args:
            targets: by name, as ``targets`` says.
            outputs: of the network.
        """

    def measured(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """What validation keeps of each allele, float32 (B,) or (B, figures); takes the same as :meth:`losses`."""


class Classification:
    """To predict the label, with one of :mod:`cnnspark.training.losses`."""

    def __init__(self, job: ReplicaJob):
        settings = job.settings
        self.model = self.network = build_model(settings.model, job.spec)
        self.targets: dict[str, tuple[tuple[int | None, ...], str]] = {"label": ((None,), "float32")}
        self.figures: tuple[str, ...] = ()
        self.untrained: list[str] = []
        self.loss = loss_by_name(settings.loss)
        self._training_loss = training_loss(settings.loss, settings.label_smoothing, settings.hard_examples)

    def prepare(self, batch: Mapping[str, np.ndarray], noise_key: np.ndarray | None) -> Mapping[str, np.ndarray]:
        """The batch itself: it has the labels."""
        return batch

    def losses(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """The loss that the settings name, float32 (B,), of logits (B,)."""
        return self._training_loss(targets["label"], ops.cast(outputs, "float32"))

    def measured(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """The logits, (B,)."""
        return outputs


class Pretraining:
    """To predict what was hidden: bases and qualities, or the window, and annotations and site features."""

    def __init__(self, job: ReplicaJob):
        self.job = job
        self.model = build_model(job.settings.model, job.spec)
        self.network = pretraining_network(job.settings.model, self.model, job.spec)
        sizes = {"R": None, "A": len(job.spec.annotation_names), "F": len(job.spec.feature_names)}
        self.targets: dict[str, tuple[tuple[int | None, ...], str]] = {}
        fields = masked_fields(job.settings.model, job.spec)
        for name in fields:
            shape = tuple(sizes[size] if isinstance(size, str) else size for size in FIELD[name].shape)
            self.targets[TARGET + name] = ((None, *shape), np.dtype(FIELD[name].dtype).name)
        self.figures = loss_names(fields)
        self.untrained = untrained_layers(self.model, self.network)

    def prepare(self, batch: Mapping[str, np.ndarray], noise_key: np.ndarray | None) -> Mapping[str, np.ndarray]:
        """The batch with parts of it hidden (:func:`cnnspark.training.masking.mask`)."""
        settings = self.job.settings
        if noise_key is None:
            noise_key = noise_keys(batch["example_key"], 0, 0)
        return mask(batch, noise_key, settings.model, self.job.spec, settings.mask_cells, settings.mask_values)

    def losses(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """The weighted sum of the losses of what was hidden, float32 (B,)."""
        return masked_losses(targets, outputs)[:, 0]

    def measured(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """All losses, float32 (B, figures)."""
        return masked_losses(targets, outputs)


def objective_of(job: ReplicaJob) -> Objective:
    """The objective that the job's settings name.

    Raises:
        UsageError: if the network cannot be pre-trained but shall be.
    """
    return Pretraining(job) if job.settings.pretrains else Classification(job)
