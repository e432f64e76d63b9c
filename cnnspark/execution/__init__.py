"""How work is spread and made safe: session or none, tasks, blocks, run folder and lock, shards, merge, progress.

The names below are loaded when they are first used: a settings file or ``--help`` needs no pysam and no Spark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.execution.blocks import Block, plan_blocks
    from cnnspark.execution.merge import merge_shards
    from cnnspark.execution.run_folder import RunFolder
    from cnnspark.execution.session import spark_session
    from cnnspark.execution.shards import write_shards
    from cnnspark.execution.tasks import LocalSession, Session, run_tasks

__all__ = [
    "Block",
    "LocalSession",
    "RunFolder",
    "Session",
    "merge_shards",
    "plan_blocks",
    "run_tasks",
    "spark_session",
    "write_shards",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Block": ".blocks",
        "LocalSession": ".tasks",
        "RunFolder": ".run_folder",
        "Session": ".tasks",
        "merge_shards": ".merge",
        "plan_blocks": ".blocks",
        "run_tasks": ".tasks",
        "spark_session": ".session",
        "write_shards": ".shards",
    },
)
