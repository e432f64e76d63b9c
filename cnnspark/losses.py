"""Losses per example, from logits; signs and gradients are proved by tests.

With z the logit, y the label (0 or 1) and s = +1 where y = 1, -1 where y = 0, the probability that
the network gives to the true class is p = sigmoid(s z), and -ln p = softplus(-s z), which neither overflows nor loses
digits however large z is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from cnnspark.errors import UsageError

Loss = Callable[[Any, Any], Any]


def surprise(labels: Any, logits: Any) -> Any:
    """-ln p of the true class, (B,). Labels are 0 or 1."""
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
    """(-ln p)^2, (B,): confident mistakes count more, near-right answers less, than in cross-entropy."""
    return ops.square(surprise(labels, logits))


def log_loss_cubed(labels: Any, logits: Any) -> Any:
    """(-ln p)^3, (B,)."""
    nll = surprise(labels, logits)
    return nll * nll * nll


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "log_loss_squared": log_loss_squared,
    "log_loss_cubed": log_loss_cubed,
}


def loss_by_name(name: str) -> Loss:
    """The loss called ``name``; UsageError where there is none."""
    if name not in LOSSES:
        raise UsageError(f"there is no loss '{name}'; choose one of {', '.join(sorted(LOSSES))}")
    return LOSSES[name]
