"""The stages as one call each: check the inputs, cut blocks, work in executors, commit.

Commands, jobs and Python callers use these. Each takes a session (a SparkSession, or a
:class:`cnnspark.execution.tasks.LocalSession` to run without a JVM; ``tensors`` and training need Spark) and a request
or paths and configuration, and returns plain values. Names are loaded when they are first used, so that a module of
this package can be imported without all the others.

- ``inputs``, ``preflight``, ``requests``, ``run_steps``: what stages share;
- ``candidates``, ``tensors``, ``score``, ``filter``, ``evaluate``: one stage each;
- ``pipeline``: all of them in a row; ``sheet_stages``, ``sheet_runner``, ``sample_sheet``: on many callsets;
- ``plan``, ``costs``: what scoring will take; ``show``, ``explain``: one allele; ``cascade``: two models as one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspark.execution.shards import merged_callset
    from cnnspark.filtering.request import FilterOptions
    from cnnspark.stages.candidates import call_candidates
    from cnnspark.stages.evaluate import Evaluation, evaluate_callset
    from cnnspark.stages.filter import filter_callset
    from cnnspark.stages.requests import EvaluationRequest, RunRequest, ScoreRequest
    from cnnspark.stages.score import score_callset
    from cnnspark.stages.tensors import build_dataset, write_tensors

_MODULES = {
    "Evaluation": "cnnspark.stages.evaluate",
    "EvaluationRequest": "cnnspark.stages.requests",
    "FilterOptions": "cnnspark.filtering.request",
    "RunRequest": "cnnspark.stages.requests",
    "ScoreRequest": "cnnspark.stages.requests",
    "build_dataset": "cnnspark.stages.tensors",
    "call_candidates": "cnnspark.stages.candidates",
    "evaluate_callset": "cnnspark.stages.evaluate",
    "filter_callset": "cnnspark.stages.filter",
    "merged_callset": "cnnspark.execution.shards",
    "score_callset": "cnnspark.stages.score",
    "write_tensors": "cnnspark.stages.tensors",
}
__all__ = [
    "Evaluation",
    "EvaluationRequest",
    "FilterOptions",
    "RunRequest",
    "ScoreRequest",
    "build_dataset",
    "call_candidates",
    "evaluate_callset",
    "filter_callset",
    "merged_callset",
    "score_callset",
    "write_tensors",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cnnspark.stages' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
