"""Blocks that are prepared in advance: never too many, in order, and a failure is raised in its block's turn."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from cnnspark.common.stopwatch import measured, part
from cnnspark.errors import InputError
from cnnspark.execution.blocks import Block
from cnnspark.execution.prefetch import Steps, in_turn
from cnnspark.formats.regions import Region

BLOCKS = [Block(number, Region("c1", number, number + 1)) for number in range(6)]


class Work:
    """Steps that record their calls, and by how many blocks the preparation was ahead of the finished ones."""

    def __init__(self, ahead: int, broken: int = -1):
        self.steps = Steps(self.prepare, self.finish, ahead)
        self.prepared: list[int] = []
        self.finished: list[int] = []
        self.most_ahead = 0
        self.threads: set[str] = set()
        self.broken = broken

    def prepare(self, block: Block) -> int:
        self.threads.add(threading.current_thread().name)
        self.prepared.append(block.index)
        self.most_ahead = max(self.most_ahead, len(self.prepared) - len(self.finished) - 1)
        if block.index == self.broken:
            raise InputError(f"block {block.index}")
        with part("encode"):
            time.sleep(0.01)
        return block.index * 10

    def finish(self, block: Block, prepared: int) -> str:
        # Waits until as many blocks are prepared as are allowed, and a moment longer, to notice one too many.
        as_far = min(len(BLOCKS), block.index + 1 + self.steps.ahead)
        until = time.monotonic() + 10
        while self.steps.ahead and self.broken < 0 and len(self.prepared) < as_far and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02)
        self.finished.append(block.index)
        return f"{block.index}:{prepared}"


@pytest.mark.parametrize("ahead", [0, 1, 3, 10])
def test_every_block_gets_its_own_preparation_in_order(ahead: int) -> None:
    work = Work(ahead)
    results = [rest(block) for block, rest in in_turn(BLOCKS, work.steps)]
    assert results == [f"{number}:{number * 10}" for number in range(6)]
    assert work.prepared == work.finished == list(range(6))
    assert work.most_ahead == min(ahead, 5)
    assert (threading.current_thread().name in work.threads) == (ahead == 0)


def test_a_failure_comes_when_its_block_has_its_turn() -> None:
    work, results = Work(ahead=4, broken=2), []
    with pytest.raises(InputError, match="block 2"), closing(in_turn(BLOCKS, work.steps)) as turns:
        results.extend(rest(block) for block, rest in turns)
    assert work.finished == [0, 1]


def test_what_is_left_early_leaves_no_thread() -> None:
    work = Work(ahead=2)
    with closing(in_turn(BLOCKS, work.steps)) as turns:
        next(turns)
    assert not [thread for thread in threading.enumerate() if thread.name in work.threads]
    assert len(work.prepared) <= 3


def test_work_in_one_step_is_called_as_it_is() -> None:
    assert [work(block) for block, work in in_turn(BLOCKS, lambda block: block.index)] == list(range(6))


def test_parts_of_what_was_done_ahead_are_the_blocks_and_the_wait_is_none() -> None:
    with closing(in_turn(BLOCKS[:1], Work(ahead=1).steps)) as turns:
        block, rest = next(turns)
        with measured("write") as stopwatch:
            rest(block)
    assert 0.01 <= stopwatch.seconds["encode"] < 0.1
    assert stopwatch.report()["parts"]["write"] >= 0.02
    assert set(stopwatch.report()["parts"]) == {"read", "encode", "label", "predict", "write"}
