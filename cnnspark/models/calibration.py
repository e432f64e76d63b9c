"""Calibration: from a network's logits to log odds that mean what they say.

Class weights, focal losses and long training push a network's probabilities too far from a half or too close to it.
Platt's method fits p = 1 / (1 + exp(-(slope x logit + intercept))) on alleles that the network was not trained on
(Platt 1999, "Probabilistic outputs for support vector machines", in Advances in Large Margin Classifiers). Two numbers
cannot overfit much, and a slope above 0 leaves every ranking as it was. SNVs and indels share the fit: separate fits
gave no lower loss on held-out alleles, and one of some hundred indels is mostly noise. No Spark, no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Of true alleles, and of false ones. With so few the intercept's standard error is 0.3 in log odds at best.
LEAST_OF_EACH_CLASS = 25
# A network that ranks backwards or not at all would get a slope of 0 or less, and scores of three decimals would be
# equal where logits differ.
LEAST_SLOPE = 0.01
_MOST_STEPS = 100
_LEAST_STEP = 1e-10


@dataclass(frozen=True)
class Platt:
    """Calibrated log odds = slope x logit + intercept; the defaults change nothing.

    Raises:
        ValueError: if the slope is not above 0, or one of the two is not finite.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not self.slope > 0 or not np.isfinite([self.slope, self.intercept]).all():
            raise ValueError(f"a calibration with slope {self.slope} and intercept {self.intercept} cannot be")

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated log odds of ``logits``: float64 of the same shape."""
        return self.slope * np.asarray(logits, np.float64) + self.intercept


def fit_platt(logits: np.ndarray, labels: np.ndarray) -> Platt:
    """The slope (at least LEAST_SLOPE) and intercept with the greatest likelihood under Platt's targets.

    The targets are (n_true + 1) / (n_true + 2) for true alleles and 1 / (n_false + 2) for false ones instead of 1 and 0
    (Platt's section 2.2), so that logits that separate the classes have a finite slope. Newton's method with halved
    steps, after Lin, Lin and Weng 2007, doi:10.1007/s10994-007-5018-6; float64, sums in the alleles' order.

    Args:
        logits: (n,).
        labels: (n,), 1 true, 0 false.

    Returns:
        The fit; one that changes nothing if either class has fewer than LEAST_OF_EACH_CLASS alleles.
    """
    z, true = np.asarray(logits, np.float64), np.asarray(labels) > 0.5
    n_true, n_false = int(true.sum()), int((~true).sum())
    if min(n_true, n_false) < LEAST_OF_EACH_CLASS:
        return Platt()
    targets = np.where(true, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))
    centre, spread = float(z.mean()), float(z.std())
    if spread > 0:
        # With standardised logits both parameters have one scale, whatever the network's.
        standard = np.stack([(z - centre) / spread, np.ones_like(z)])
        weight, bias = _newton(standard, np.zeros_like(z), targets)
        if weight / spread >= LEAST_SLOPE:
            return Platt(float(weight / spread), float(bias - weight * centre / spread))
    slope = LEAST_SLOPE if spread > 0 else 1.0
    (intercept,) = _newton(np.ones((1, len(z))), slope * z, targets)
    return Platt(slope, float(intercept))


def _newton(columns: np.ndarray, offset: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The weights (k,) of ``columns`` (k, n) with the least cross entropy of sigmoid(weights @ columns + offset)."""

    # Sums instead of matrix products, whose order of addition depends on the number of threads.
    def log_odds(weights: np.ndarray) -> np.ndarray:
        return (weights[:, None] * columns).sum(axis=0) + offset

    def loss(weights: np.ndarray) -> float:
        f = log_odds(weights)
        return float((np.logaddexp(0, f) - targets * f).sum())

    weights = np.zeros(len(columns))
    now = loss(weights)
    for _ in range(_MOST_STEPS):
        p = probabilities(log_odds(weights))
        gradient = ((p - targets) * columns).sum(axis=1)
        hessian = (p * (1 - p) * columns[:, None] * columns[None]).sum(axis=2) + 1e-12 * np.eye(len(columns))
        step = np.linalg.solve(hessian, gradient)
        # Armijo's condition: a step must keep a part of the descent that the slope promises.
        size, promised = 1.0, 1e-4 * float((gradient * step).sum())
        while size > _LEAST_STEP and (then := loss(weights - size * step)) > now - size * promised:
            size /= 2
        if size <= _LEAST_STEP:
            break
        weights, now = weights - size * step, then
        if np.abs(size * step).max() < _LEAST_STEP:
            break
    return weights


def probabilities(log_odds: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), float64 of the shape of ``log_odds``, so that probabilities close to 0 or 1 still differ."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(log_odds, np.float64)))


def cross_fitted(logits: np.ndarray, labels: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Calibrated log odds, each allele's from a fit on the other half of the alleles, for unbiased metrics.

    Every other block belongs to one half, because neighbouring alleles share reads; a single block is cut in its
    middle.

    Args:
        logits: (n,).
        labels: (n,), 1 true, 0 false.
        blocks: (n,), the number of each allele's block.

    Returns:
        float64 (n,).
    """
    numbers = np.unique(blocks, return_inverse=True)[1].reshape(-1)
    whole = bool(numbers.max(initial=0))
    odd = numbers % 2 == 1 if whole else np.arange(len(numbers)) * 2 >= len(numbers)
    values = np.zeros(len(logits))
    for half in (odd, ~odd):
        values[half] = fit_platt(logits[~half], labels[~half])(logits[half])
    return values
