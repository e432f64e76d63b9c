"""What a card keeps of a cascade: the first model, and the band of its probabilities that goes on to the second.

Of a bundle with a cascade the folder ``first`` is the bundle of the first model (:data:`cnnspark.models.names.FIRST`).
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Band:
    """Calibrated probabilities from ``low``, inclusive, to ``high``, exclusive unless it is 1.

    So (0, 1) holds every allele, and a band of one number none. Raises ValueError where it is no part of 0 to 1.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"there is no band of probabilities from {self.low} to {self.high}")

    def holds(self, probabilities: np.ndarray) -> np.ndarray:
        """Which of the probabilities (n,) lie in the band: bool (n,)."""
        p = np.asarray(probabilities)
        return (p >= self.low) & ((p < self.high) | (self.high == 1))


@dataclass(frozen=True)
class Cascade:
    """The card's part. ``figures`` are those of the validation alleles, each by "alone" (the second model scores all)
    and "cascade". ``by_default``: the bundle scores in two stages unless it is told not to."""

    first_sha256: str  # of the first model's network
    band: Band
    by_default: bool = True
    alleles: int = 0  # that the band was chosen on
    passed_on: int = 0  # of them
    figures: dict[str, dict[str, float]] = field(default_factory=dict)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Cascade:
        """The part of a card as plain values. Raises KeyError, TypeError or ValueError where it is something else."""
        return Cascade(**{**values, "band": Band(**values["band"])})
