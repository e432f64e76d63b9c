"""Filters variant callsets with a convolutional network, distributed on Apache Spark.

For Python callers ``score``, ``filter``, ``evaluate``, ``build_tensors``, ``train``, ``explain`` and ``simulate`` do
what the commands of these names do (:mod:`cnnspark.api`). ``LocalSession`` runs them without Spark, ``set_quiet`` hides
progress. All of them are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cnnspark._version import __version__ as __version__

if TYPE_CHECKING:
    from cnnspark.api import build_tensors, evaluate, explain, filter, score, train
    from cnnspark.common.log import set_quiet
    from cnnspark.execution.tasks import LocalSession
    from cnnspark.simulation import simulate

__all__ = [
    "LocalSession",
    "build_tensors",
    "evaluate",
    "explain",
    "filter",
    "score",
    "set_quiet",
    "simulate",
    "train",
]
# Names of other modules than cnnspark.api.
_ELSEWHERE = {
    "LocalSession": "cnnspark.execution.tasks",
    "set_quiet": "cnnspark.common.log",
    "simulate": "cnnspark.simulation",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cnnspark' has no attribute '{name}'")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "cnnspark.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
