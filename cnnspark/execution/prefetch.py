"""Work on blocks in two steps, the first in advance: while the network runs on one block, the next is decoded.

One thread prepares the blocks in their order. It never prepares more blocks beyond the one being finished than the
setting allows, which bounds memory. What it prepares depends on the block alone, so the bytes are the same.
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
    """The work on a block in two steps; called with a block it does one after the other."""

    prepare: Callable[[Block], T]  # runs in a thread of its own, if blocks are prepared in advance
    finish: Callable[[Block, T], R]  # runs in the caller's thread
    ahead: int = 0  # how many blocks may be prepared before their turn

    def __call__(self, block: Block) -> R:
        """Prepares and finishes the block."""
        return self.finish(block, self.prepare(block))


Turns = Generator[tuple[Block, Callable[[Block], R]], None, None]


def in_turn(blocks: Iterable[Block], work: Callable[[Block], R]) -> Turns[R]:
    """Yields each block with the work that remains on it: ``work`` itself, or the second of its :class:`Steps`.

    An exception of ``prepare`` is raised in its block's turn, by the function that is yielded with the block. Close the
    iterator if you leave it early: its thread then ends with the block that it is preparing.

    Args:
        blocks: the blocks, in order.
        work: a function of a block, or Steps.

    Yields:
        A block and a function to call with it.
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
