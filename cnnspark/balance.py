"""Sharing blocks out to tasks by predicted cost, and how even the result was. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspark.blocks import Block
    from cnnspark.shards import ShardRow


def share_out(blocks: Sequence[Block], tasks: int) -> list[list[Block]]:
    """The blocks in at most ``tasks`` groups of about even cost, dearest group first; within one in their order.

    The dearest block that is left goes to the group that has least: never more than a third above the best there is
    (Graham 1969). Where no cost is known (a run that an older version began) groups have even numbers of blocks.
    """
    tasks = min(len(blocks), tasks)
    groups: list[list[Block]] = [[] for _ in range(tasks)]
    least = [(0.0, 0, task) for task in range(tasks)]
    for block in sorted(blocks, key=lambda block: (-block.cost, block.index)):
        cost, count, task = heapq.heappop(least)
        groups[task].append(block)
        heapq.heappush(least, (cost + block.cost, count + 1, task))
    groups.sort(key=lambda group: -sum(block.cost for block in group))
    return [sorted(group, key=lambda block: block.index) for group in groups]


def timing(rows: Sequence[ShardRow]) -> dict[str, Any]:
    """What a run's manifest says of its time: seconds of all blocks, predicted and real, and how even they were.

    ``real`` is wall time inside the tasks, without what a task needs to begin (Python, TensorFlow, the model).
    ``max_over_mean`` is 1 where all took the same. A resumed run's tasks are those of all its attempts.
    """
    tasks: dict[str, float] = defaultdict(float)
    for row in rows:
        tasks[row.task] += row.seconds
    predicted, real = sum(row.predicted_seconds for row in rows), sum(row.seconds for row in rows)
    return {
        "predicted_seconds": round(predicted, 3),
        "real_seconds": round(real, 3),
        "real_over_predicted": round(real / predicted, 3) if predicted else None,
        "blocks": _spread([row.seconds for row in rows]),
        "tasks": _spread(list(tasks.values())),
    }


def _spread(seconds: Sequence[float]) -> dict[str, Any]:
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    return {
        "count": len(seconds),
        "mean_seconds": round(mean, 3),
        "max_seconds": round(max(seconds, default=0.0), 3),
        "max_over_mean": round(max(seconds) / mean, 3) if mean else None,
    }
