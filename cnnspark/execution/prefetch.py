"""Work on blocks in two steps, the first of them done ahead: while the network runs on one block, the next is decoded.

One thread prepares, in the blocks' order, and never more than the setting's number of blocks beyond the one that is
being finished, so memory is bounded. What is prepared depends on nothing but its block, so the bytes are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cnnspark.common.stopwatch import Stopwatch, joined, measured
from cnnspark.execution.blocks import Block

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Steps(Generic[T, R]):
    """What is done with a block: called with it, both steps in turn. ``ahead`` is how many blocks may be prepared
    before their turn; ``prepare`` then runs in a thread of its own, ``finish`` in the caller's."""

    prepare: Callable[[Block], T]
    finish: Callable[[Block, T], R]
    ahead: int = 0

    def __call__(self, block: Block) -> R:
        return self.finish(block, self.prepare(block))


Turns = Generator[tuple[Block, Callable[[Block], R]], None, None]


def in_turn(blocks: Iterable[Block], work: Callable[[Block], R]) -> Turns[R]:
    """Each block and what is to be done with it, which is ``work``, or of :class:`Steps` the rest of it.

    What ``prepare`` raises is raised when its block's turn has come, after those before it. Close the iterator where it
    is left early: its thread then ends with the block that it is at.
    """
    if not isinstance(work, Steps) or not work.ahead:
        for block in blocks:
            yield block, work
        return
    steps = work

    def prepare(block: Block) -> tuple[Any, Stopwatch]:
        with measured("read") as stopwatch:
            prepared = steps.prepare(block)
        return prepared, stopwatch

    def rest(future: Future[tuple[Any, Stopwatch]]) -> Callable[[Block], R]:
        return lambda block: steps.finish(block, joined(future))

    left = iter(blocks)
    begun: deque[tuple[Block, Future[tuple[Any, Stopwatch]]]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        while True:
            while len(begun) <= steps.ahead and (following := next(left, None)) is not None:
                begun.append((following, pool.submit(prepare, following)))
            if not begun:
                return
            block, future = begun.popleft()
            yield block, rest(future)
    finally:
        pool.shutdown(cancel_futures=True)
