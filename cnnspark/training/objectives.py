"""What a network is trained for: to tell true alleles from false ones, or to say what was hidden from it.

An objective has the networks, makes a batch ready, and has the losses; the trainer knows nothing else of it.
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
from cnnspark.training.losses import loss_by_name, training_loss
from cnnspark.training.masking import mask, masked_fields
from cnnspark.training.pretraining_heads import loss_names, masked_losses, pretraining_network, untrained_layers
from cnnspark.training.settings import ReplicaJob


class Objective(Protocol):
    """A goal of training. B is the batch.

    ``model`` is what the bundle holds, ``network`` what is trained, which shares its layers; ``targets`` are the shapes
    (None for B and R) and dtypes of what the losses compare with; ``figures`` names what
    :meth:`measured` gives for an allele, empty where that is one number without an axis; ``untrained`` names layers of
    the model that the network lacks.
    """

    model: keras.Model
    network: keras.Model
    targets: dict[str, tuple[tuple[int | None, ...], str]]
    figures: tuple[str, ...]
    untrained: list[str]

    def prepare(self, batch: Mapping[str, np.ndarray], noise_key: np.ndarray | None) -> Mapping[str, np.ndarray]:
        """The batch with its targets. Without ``noise_key`` (B,), for validation, chance is the allele's own."""

    def losses(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """What is trained on, (B,) float32, from the network's outputs."""

    def measured(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """What validation keeps of an allele, (B,) or (B, figures) float32."""


class Classification:
    """Labels, by one of :mod:`cnnspark.training.losses`."""

    def __init__(self, job: ReplicaJob):
        settings = job.settings
        self.model = self.network = build_model(settings.model, job.spec)
        self.targets: dict[str, tuple[tuple[int | None, ...], str]] = {"label": ((None,), "float32")}
        self.figures: tuple[str, ...] = ()
        self.untrained: list[str] = []
        self.loss = loss_by_name(settings.loss)
        self._training_loss = training_loss(settings.loss, settings.label_smoothing, settings.hard_examples)

    def prepare(self, batch: Mapping[str, np.ndarray], noise_key: np.ndarray | None) -> Mapping[str, np.ndarray]:
        """The batch, which has its labels."""
        return batch

    def losses(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """The loss that the settings name."""
        return self._training_loss(targets["label"], ops.cast(outputs, "float32"))

    def measured(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """The logit."""
        return outputs


class Pretraining:
    """What was hidden: bases and qualities, or the window, and annotations and site features."""

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
        """The batch with parts of it hidden; for validation the same of an allele always."""
        settings = self.job.settings
        if noise_key is None:
            noise_key = noise_keys(batch["example_key"], 0, 0)
        return mask(batch, noise_key, settings.model, self.job.spec, settings.mask_cells, settings.mask_values)

    def losses(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """The weighted sum of all that was hidden."""
        return masked_losses(targets, outputs)[:, 0]

    def measured(self, targets: Mapping[str, Any], outputs: Any) -> Any:
        """All losses."""
        return masked_losses(targets, outputs)


def objective_of(job: ReplicaJob) -> Objective:
    """The objective that the job's settings name."""
    return Pretraining(job) if job.settings.pretrains else Classification(job)
