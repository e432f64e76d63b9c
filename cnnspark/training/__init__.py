"""A model bundle from a tensor dataset: replicas on Spark, steps and losses, checkpoints, validation.

``train`` and ``TrainResult`` are loaded when they are first used: the configuration imports this package for its
settings alone, and the driver loads pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnspark.training.settings import TrainSettings

if TYPE_CHECKING:
    from cnnspark.training.driver import TrainResult, train

__all__ = ["TrainResult", "TrainSettings", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cnnspark.training' has no attribute '{name}'")
    from cnnspark.training import driver

    return getattr(driver, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
