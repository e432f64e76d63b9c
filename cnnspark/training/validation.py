"""How good a trained network is: metrics of the held-out alleles, calibration, thresholds, and the card with them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf

from cnnspark._version import __version__
from cnnspark.errors import RunError
from cnnspark.evaluation.calibration import calibration_figures
from cnnspark.evaluation.metrics import OperatingPoint, auprc, auroc, thresholds_by_precision, thresholds_by_sensitivity
from cnnspark.models.calibration import Platt, cross_fitted, fit_platt, probabilities
from cnnspark.models.card import SENSITIVITIES, Card
from cnnspark.models.spec import ModelSpec
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.job import ReplicaJob
from cnnspark.training.losses import loss_by_name
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.score_fields import log_odds

if TYPE_CHECKING:
    from cnnspark.training.data import TrainingData
    from cnnspark.training.trainer import Trainer

VALIDATION_BATCH = 64
# A type has thresholds only if it has as many true alleles and as many false ones.
LEAST_FOR_THRESHOLDS = 5


@dataclass(frozen=True)
class Findings:
    """Results on the held-out alleles, as :class:`cnnspark.models.card.Card` holds them.

    Thresholds are calibrated scores. The loss is that of the network's own logits. The calibration error is measured on
    each half of the alleles with a calibration fitted on the other half.
    """

    metrics: dict[str, float]  # "AUPRC SNP" and the like
    thresholds: dict[str, dict[str, float | None]]  # by group and precision
    sensitivity_thresholds: dict[str, dict[str, float | None]]  # by group and sensitivity
    calibration: Platt


class Validation(Protocol):
    """Validation of a network that is trained for an objective."""

    def measure(self) -> np.ndarray:
        """The network's outputs for all held-out alleles, by all replicas together.

        Returns:
            float32 (n_validation, ...), what :meth:`Trainer.measure` gives for each.

        Raises:
            RunError: if the dataset does not hold as many alleles as its card says.
        """

    def metrics(self, measured: np.ndarray) -> dict[str, float]:
        """Metrics by name, "loss" among them, of what :meth:`measure` gives."""

    def value(self, metrics: Mapping[str, float]) -> float:
        """The number by which epochs are compared; higher is better."""

    def findings(self, measured: np.ndarray) -> Findings:
        """What the card holds, of what :meth:`measure` gives."""


def validation_of(trainer: Trainer, data: TrainingData) -> Validation:
    """The validation of the trainer's objective."""
    pretrains = trainer.job.settings.pretrains
    return MaskedValidation(trainer, data) if pretrains else LabelledValidation(trainer, data)


class _HeldOut:
    """The held-out alleles. Each pass reads all of them; each batch is measured by one replica.

    ``labels`` float32 and ``types`` int64, (n_validation,), are those of the last pass, empty before the first.
    """

    def __init__(self, trainer: Trainer, data: TrainingData):
        self.trainer, self.data = trainer, data
        self.labels = np.zeros(0)
        self.types = np.zeros(0, np.int64)

    def measure(self) -> np.ndarray:
        """As :meth:`Validation.measure`."""
        replicas, figures = self.trainer.replicas, self.trainer.objective.figures
        parts, labels, types = [], [], []
        for i, batch in enumerate(self.data.validation_batches(VALIDATION_BATCH)):
            shape = (len(batch["label"]), len(figures)) if figures else (len(batch["label"]),)
            mine = i % replicas.count == replicas.rank
            parts.append(self.trainer.measure(batch) if mine else np.zeros(shape, np.float32))
            labels.append(batch["label"])
            types.append(batch["variant_type"])
        read = sum(map(len, labels))
        if read != self.data.n_validation or not read:
            raise RunError(
                f"{read} validation alleles were read, the dataset's card promises {self.data.n_validation}; build the "
                "dataset again"
            )
        self.labels, self.types = np.concatenate(labels), np.concatenate(types).astype(np.int64)
        return replicas.sum(np.concatenate(parts))


class MaskedValidation(_HeldOut):
    """How well the network predicts what was hidden of the held-out alleles: the same parts at every epoch."""

    def metrics(self, measured: np.ndarray) -> dict[str, float]:
        """The mean of each loss (:func:`cnnspark.training.pretraining_heads.loss_names`)."""
        means = measured.mean(axis=0, dtype=np.float64)
        return {name: float(mean) for name, mean in zip(self.trainer.objective.figures, means, strict=True)}

    def value(self, metrics: Mapping[str, float]) -> float:
        """The negative loss."""
        return -metrics["loss"]

    def findings(self, measured: np.ndarray) -> Findings:
        """The losses alone: without scores there are no thresholds and no calibration."""
        metrics = {f"{name} ALL": figure for name, figure in self.metrics(measured).items()}
        return Findings(metrics | {"alleles ALL": float(len(measured))}, {}, {}, Platt())


class LabelledValidation(_HeldOut):
    """The held-out alleles' labels against their logits (n_validation,)."""

    def metrics(self, logits: np.ndarray) -> dict[str, float]:
        """Loss and areas under curves, of logits (n_validation,); areas are left out if there is only one class."""
        loss = loss_by_name(self.trainer.job.settings.loss)(tf.constant(self.labels), tf.constant(logits)).numpy()
        figures = {"loss": float(loss.mean()), "AUPRC": auprc(self.labels, logits), "AUROC": auroc(self.labels, logits)}
        return {name: float(value) for name, value in figures.items() if value is not None}

    def value(self, metrics: Mapping[str, float]) -> float:
        """The area under the precision-recall curve, or the negative loss if one class is missing."""
        return metrics.get("AUPRC", -metrics["loss"])

    def findings(self, logits: np.ndarray) -> Findings:
        """Calibration, metrics and thresholds of the calibrated scores by group, of logits (n_validation,)."""
        calibration = fit_platt(logits, self.labels)
        scores = log_odds(probabilities(calibration(logits)))
        # Measured on the alleles that it was fitted on, a calibration would look too good: each half is measured with
        # the other's fit.
        before = probabilities(logits)
        after = probabilities(cross_fitted(logits, self.labels, self.data.validation_blocks))
        groups = np.array([VariantType(t).group for t in self.types])
        metrics: dict[str, float] = {"loss ALL": self.metrics(logits)["loss"]}
        found = Findings(metrics, {}, {}, calibration)
        for name in ("ALL", "SNP", "INDEL"):
            chosen = np.ones(len(groups), bool) if name == "ALL" else groups == name
            labels, values = self.labels[chosen], scores[chosen]
            metrics[f"alleles {name}"], metrics[f"true {name}"] = float(len(labels)), float(labels.sum())
            if not len(labels):
                continue
            figures = {
                "AUPRC": auprc(labels, values),
                "AUROC": auroc(labels, values),
                "calibration error": calibration_figures(labels, after[chosen])[1],
                "calibration error uncalibrated": calibration_figures(labels, before[chosen])[1],
            }
            metrics |= {f"{metric} {name}": float(value) for metric, value in figures.items() if value is not None}
            precisions = thresholds_by_precision(labels, values)
            sensitivities = thresholds_by_sensitivity(labels, values, SENSITIVITIES)
            if min(labels.sum(), len(labels) - labels.sum()) < LEAST_FOR_THRESHOLDS:
                # With a handful of alleles, or one class, every precision would seem to be reached.
                precisions, sensitivities = dict.fromkeys(precisions), dict.fromkeys(sensitivities)
            found.thresholds[name] = _by_text(precisions)
            found.sensitivity_thresholds[name] = _by_text(sensitivities)
        return found


def _by_text(points: Mapping[float, OperatingPoint | None]) -> dict[str, float | None]:
    """Thresholds by shares as text, "0.90" or "0.995"."""
    return {f"{share:.2f}" if share == round(share, 2) else f"{share:g}": at.threshold if at else None
            for share, at in points.items()}  # fmt: skip


def trained_card(
    job: ReplicaJob,
    state: TrainingState,
    findings: Findings,
    untrained: Sequence[str] = (),
    dead: Mapping[str, float] | None = None,
) -> Card:
    """The card of a finished training.

    Args:
        job: the training.
        state: its last state.
        findings: on the held-out alleles.
        untrained: names of layers of the model that the trained network lacked.
        dead: dead layers and their shares (:func:`cnnspark.training.dead_layers.dead_layers`).
    """
    packages = ("keras", "tensorflow", "numpy")
    sources = {"init_sha256": job.init_sha256, "picture_sha256": job.picture_sha256, "by_parts": job.whole}
    facts: dict[str, Any] = {name: digest for name, digest in sources.items() if digest}
    if untrained:
        facts["untrained_layers"] = list(untrained)
    if dead:
        facts["dead_layers"] = dict(dead)
    return Card(
        model=job.settings.model,
        spec=job.spec,
        ranges=job.ranges,
        thresholds=findings.thresholds,
        sensitivity_thresholds=findings.sensitivity_thresholds,
        calibration=findings.calibration,
        metrics=findings.metrics,
        # Without annotations and site features nothing of a callset can be compared with the training data.
        known=job.known if job.spec.annotation_names or job.spec.feature_names else None,
        # Without what depends on the clock, so that the same training gives the same card.
        history=[
            {k: v for k, v in row.items() if k not in ("examples_per_second", "seconds_left")} for row in state.history
        ],
        training={
            **job.settings.identity(),
            **_of_spec(job.spec),
            **facts,
            "best_epoch": state.best_epoch,
            "fingerprint": job.fingerprint,
        },
        data=job.data_facts,
        versions={"cnnspark": __version__} | {name: importlib.metadata.version(name) for name in packages},
    )


def _of_spec(spec: ModelSpec) -> dict[str, Any]:
    """Settings that come from the model that training starts from, whatever was asked for, as the network has them."""
    bins = {len(edges) - 1 for edges in (*spec.annotation_edges, *spec.feature_edges)}
    return {"hidden_units": spec.hidden_units} | ({"bins": bins.pop()} if bins else {})
