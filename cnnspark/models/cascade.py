"""What a card keeps of a cascade: the first model, and the band of its probabilities that goes on to the second.

In a bundle with a cascade the folder ``first`` is the bundle of the first model (:data:`cnnspark.models.names.FIRST`).
No Spark, no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Band:
    """Calibrated probabilities from ``low``, inclusive, to ``high``, exclusive unless it is 1.

    So (0, 1) holds every allele, and a band whose ends are equal holds none (unless both are 1).

    Raises:
        ValueError: if it is not a part of 0 to 1.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"there is no band of probabilities from {self.low} to {self.high}")

    def holds(self, probabilities: np.ndarray) -> np.ndarray:
        """Which of the ``probabilities`` (n,) are in the band: bool (n,)."""
        p = np.asarray(probabilities)
        return (p >= self.low) & ((p < self.high) | (self.high == 1))


@dataclass(frozen=True)
class Cascade:
    """The card's entry for a cascade.

    Attributes:
        first_sha256: Digest of the first model's network.
        band: Probabilities of the first model that go on to the second.
        by_default: Whether the bundle scores in two stages unless the user says otherwise.
        alleles: Number of validation alleles that the band was chosen on.
        passed_on: How many of them went on to the second model.
        figures: Metrics of these alleles, each by "alone" (the second model scores all) and "cascade".
    """

    first_sha256: str
    band: Band
    by_default: bool = True
    alleles: int = 0
    passed_on: int = 0
    figures: dict[str, dict[str, float]] = field(default_factory=dict)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Cascade:
        """The cascade from the plain values of a card.

        Raises:
            KeyError, TypeError, ValueError: if they are something else.
        """
        return Cascade(**{**values, "band": Band(**values["band"])})
