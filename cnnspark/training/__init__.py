"""A model bundle from a tensor dataset: replicas on Spark, steps and losses, checkpoints, validation.

``train`` and ``TrainResult`` are loaded when they are first used: the configuration imports this package for its
settings alone, and the driver loads pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names
from cnnspark.training.settings import TrainSettings

if TYPE_CHECKING:
    from cnnspark.training.driver import TrainResult, train

__all__ = ["TrainResult", "TrainSettings", "train"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "TrainResult": ".driver",
        "train": ".driver",
    },
)
