"""Filters variant callsets with a convolutional network, distributed on Apache Spark.

For Python callers ``score``, ``filter``, ``evaluate``, ``build_tensors``, ``train``, ``explain`` and ``simulate`` do
what the commands of these names do (:mod:`cnnspark.api`). ``LocalSession`` runs them without Spark, ``set_quiet`` hides
progress. All of them are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark._version import __version__ as __version__
from cnnspark.common.lazy_names import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("build_tensors", "evaluate", "explain", "filter", "score", "train"), "cnnspark.api"),
        "LocalSession": "cnnspark.execution.tasks",
        "set_quiet": "cnnspark.common.log",
        "simulate": "cnnspark.simulation",
    },
)
