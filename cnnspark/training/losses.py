"""Losses per example, from logits; tests prove signs and gradients.

With z the logit, y the label (0 or 1) and s = 1 if y = 1, else -1, the network gives the true class the probability
p = sigmoid(s z). Then -ln p = softplus(-s z), which neither overflows nor loses digits however large z is.

A loss takes labels and logits, (B,) each, and gives (B,) in the dtype of the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from cnnspark.errors import UsageError

Loss = Callable[[Any, Any], Any]


def surprise(labels: Any, logits: Any) -> Any:
    """-ln p of the true class, (B,), of labels 0 or 1 (B,) and logits (B,)."""
    sign = 2.0 * ops.cast(labels, logits.dtype) - 1.0
    return ops.softplus(-sign * logits)


def cross_entropy(labels: Any, logits: Any) -> Any:
    """-ln p, (B,)."""
    return surprise(labels, logits)


def focal(labels: Any, logits: Any) -> Any:
    """(1 - p)^2 (-ln p), (B,): easy examples count little (Lin et al. 2017, "Focal loss", eq. 4 with gamma 2)."""
    nll = surprise(labels, logits)
    return ops.square(-ops.expm1(-nll)) * nll


def log_loss_squared(labels: Any, logits: Any) -> Any:
    """(-ln p)^2, (B,): compared with cross-entropy, confident mistakes count more and nearly right answers less."""
    return ops.square(surprise(labels, logits))


def log_loss_cubed(labels: Any, logits: Any) -> Any:
    """(-ln p)^3, (B,): as the square, but more so."""
    nll = surprise(labels, logits)
    return nll * nll * nll


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "log_loss_squared": log_loss_squared,
    "log_loss_cubed": log_loss_cubed,
}


def smoothed(loss: Loss, share: float) -> Loss:
    """The expected loss if each label is wrong with probability ``share / 2``.

    That is (1 - share/2) L(z, y) + (share/2) L(z, 1 - y). With cross-entropy it is label smoothing over two classes
    (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7): it is least at a finite logit,
    ln((2 - share) / share).

    Args:
        loss: L.
        share: from 0, which leaves the loss as it is, to below 1.
    """
    if not share:
        return loss

    def of_both(labels: Any, logits: Any) -> Any:
        labels = ops.cast(labels, logits.dtype)
        return (1.0 - share / 2) * loss(labels, logits) + (share / 2) * loss(1.0 - labels, logits)

    return of_both


def weighting_hard_examples(loss: Loss, strength: float) -> Loss:
    """The loss times 1 + strength (1 - p), so that examples which the network gets wrong count more.

    The factor is taken as a constant: it has no gradient. It is the weight of Chang et al. 2017 ("Active bias", eq. 3,
    "weighted by difficulty", w = 1 - p + a constant), with the present probability in place of its mean over past
    epochs. So it depends on the example and the weights alone: it is the same on any number of replicas, a resumed run
    needs nothing more, and no example, not even a mislabelled one, weighs more than ``1 + strength`` times another.

    Args:
        loss: any of these losses.
        strength: from 0, which leaves the loss as it is.
    """
    if not strength:
        return loss

    def weighted(labels: Any, logits: Any) -> Any:
        difficulty = -ops.expm1(-surprise(labels, logits))  # 1 - p
        return (1.0 + strength * ops.stop_gradient(difficulty)) * loss(labels, logits)

    return weighted


def training_loss(name: str, label_smoothing: float = 0.0, hard_examples: float = 0.0) -> Loss:
    """The loss that is trained on; validation shows that of :func:`loss_by_name`.

    Args:
        name: a key of LOSSES.
        label_smoothing: as :func:`smoothed` takes it.
        hard_examples: as :func:`weighting_hard_examples` takes it.

    Raises:
        UsageError: if LOSSES has no such name.
    """
    return weighting_hard_examples(smoothed(loss_by_name(name), label_smoothing), hard_examples)


def loss_by_name(name: str) -> Loss:
    """The loss of this name.

    Raises:
        UsageError: if LOSSES has no such name.
    """
    if name not in LOSSES:
        raise UsageError(f"there is no loss '{name}'; choose one of {', '.join(sorted(LOSSES))}")
    return LOSSES[name]
