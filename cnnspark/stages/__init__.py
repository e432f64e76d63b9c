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

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.execution.shards import merged_callset
    from cnnspark.filtering.request import FilterOptions
    from cnnspark.stages.candidates import call_candidates
    from cnnspark.stages.evaluate import Evaluation, evaluate_callset
    from cnnspark.stages.filter import filter_callset
    from cnnspark.stages.requests import EvaluationRequest, RunRequest, ScoreRequest
    from cnnspark.stages.score import score_callset
    from cnnspark.stages.tensors import build_dataset, write_tensors

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Evaluation": ".evaluate",
        "EvaluationRequest": ".requests",
        "FilterOptions": "cnnspark.filtering.request",
        "RunRequest": ".requests",
        "ScoreRequest": ".requests",
        "build_dataset": ".tensors",
        "call_candidates": ".candidates",
        "evaluate_callset": ".evaluate",
        "filter_callset": ".filter",
        "merged_callset": "cnnspark.execution.shards",
        "score_callset": ".score",
        "write_tensors": ".tensors",
    },
)
