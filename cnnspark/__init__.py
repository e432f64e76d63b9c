"""Filters variant callsets with a convolutional network, distributed on Apache Spark.

For Python callers ``score``, ``filter``, ``evaluate``, ``build_tensors``, ``train`` and ``explain`` are what the
commands of these names are (:mod:`cnnspark.api`); they are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnspark._version import __version__

if TYPE_CHECKING:
    from cnnspark.api import build_tensors, evaluate, explain, filter, score, train  # noqa: A004

__all__ = ["__version__", "build_tensors", "evaluate", "explain", "filter", "score", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cnnspark' has no attribute '{name}'")
    from cnnspark import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
