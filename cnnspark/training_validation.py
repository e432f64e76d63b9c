"""What a trained network is worth: figures on the held-out alleles, thresholds, and the card that says so."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

import cnnspark
from cnnspark.alleles import VariantType
from cnnspark.errors import RunError
from cnnspark.metrics import auprc, auroc, thresholds_by_precision
from cnnspark.models.card import Card, score
from cnnspark.training_settings import ReplicaJob
from cnnspark.training_state import TrainingState

if TYPE_CHECKING:
    from cnnspark.training_data import TrainingData
    from cnnspark.training_step import Trainer

VALIDATION_BATCH = 64


class Validation:
    """The held-out alleles: labels and types once, logits by all replicas together."""

    def __init__(self, trainer: Trainer, data: TrainingData):
        self.trainer, self.data = trainer, data
        self.labels = np.zeros(0)
        self.types = np.zeros(0, np.int64)

    def logits(self) -> np.ndarray:
        """The logits (n_validation,) float32, each batch computed by one replica.

        Raises RunError where another number of alleles is read than was promised.
        """
        replicas = self.trainer.replicas
        parts, labels, types = [], [], []
        for i, batch in enumerate(self.data.validation_batches(VALIDATION_BATCH)):
            mine = i % replicas.count == replicas.rank
            parts.append(self.trainer.logits(batch) if mine else np.zeros(len(batch["label"]), np.float32))
            labels.append(batch["label"])
            types.append(batch["variant_type"])
        read = sum(map(len, labels))
        if read != self.data.n_validation or not read:
            raise RunError(f"{read} validation alleles were read, {self.data.n_validation} promised; build the dataset")
        self.labels, self.types = np.concatenate(labels), np.concatenate(types).astype(np.int64)
        return replicas.sum(np.concatenate(parts))

    def metrics(self, logits: np.ndarray) -> dict[str, float]:
        """Figures of all held-out alleles; areas are left out where there is one class only."""
        loss = self.trainer.loss(tf.constant(self.labels), tf.constant(logits)).numpy()
        figures = {"loss": float(loss.mean()), "AUPRC": auprc(self.labels, logits), "AUROC": auroc(self.labels, logits)}
        return {name: float(value) for name, value in figures.items() if value is not None}

    def by_group(self, logits: np.ndarray) -> tuple[dict[str, float], dict[str, dict[str, float | None]]]:
        """Metrics as "AUPRC SNP", and score thresholds by group and precision."""
        scores = score(1 / (1 + np.exp(-logits.astype(np.float64))))
        groups = np.array([VariantType(t).group for t in self.types])
        metrics: dict[str, float] = {"loss ALL": self.metrics(logits)["loss"]}
        thresholds: dict[str, dict[str, float | None]] = {}
        for name in ("ALL", "SNP", "INDEL"):
            chosen = np.ones(len(groups), bool) if name == "ALL" else groups == name
            labels, values = self.labels[chosen], scores[chosen]
            metrics[f"alleles {name}"], metrics[f"true {name}"] = float(len(labels)), float(labels.sum())
            if not len(labels):
                continue
            for metric, value in (("AUPRC", auprc(labels, values)), ("AUROC", auroc(labels, values))):
                if value is not None:
                    metrics[f"{metric} {name}"] = float(value)
            points = thresholds_by_precision(labels, values)
            thresholds[name] = {f"{p:.2f}": float(at.threshold) if at else None for p, at in points.items()}
        return metrics, thresholds


def trained_card(job: ReplicaJob, state: TrainingState, metrics: dict[str, float], thresholds: dict[str, Any]) -> Card:
    """The card of a finished training."""
    packages = ("keras", "tensorflow", "numpy")
    return Card(
        model=job.settings.model,
        spec=job.spec,
        ranges=job.ranges,
        thresholds=thresholds,
        metrics=metrics,
        # What depends on the clock stays out: the same training gives the same card.
        history=[
            {k: v for k, v in row.items() if k not in ("examples_per_second", "seconds_left")} for row in state.history
        ],
        training={**job.settings.identity(), "best_epoch": state.best_epoch, "fingerprint": job.fingerprint},
        data=job.data_facts,
        versions={"cnnspark": cnnspark.__version__} | {name: importlib.metadata.version(name) for name in packages},
    )
