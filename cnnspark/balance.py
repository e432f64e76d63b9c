"""Sharing blocks out to tasks by predicted cost. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnspark.blocks import Block


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
