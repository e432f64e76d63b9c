"""The stages as one call each: preflight, blocks, work in executors, commit.

Commands, jobs and Python callers use these. Each takes a SparkSession, or where no JVM is wanted a
:class:`cnnspark.execution.tasks.LocalSession` (``tensors`` alone needs Spark), the paths and the configuration, and
returns a summary of plain values.
"""

from cnnspark.execution.shards import merged_callset
from cnnspark.stages.candidates import call_candidates
from cnnspark.stages.evaluate import Evaluation, evaluate_callset
from cnnspark.stages.filter import filter_callset
from cnnspark.stages.score import check_output_type, score_callset
from cnnspark.stages.tensors import build_dataset, write_tensors

__all__ = [
    "Evaluation",
    "build_dataset",
    "call_candidates",
    "check_output_type",
    "evaluate_callset",
    "filter_callset",
    "merged_callset",
    "score_callset",
    "write_tensors",
]
