"""How far a stage is: a thread of the driver counts the rows that its blocks commit.

On a terminal it overwrites one line, elsewhere it writes a line every half minute; the callsets of a sheet that run at
the same time share these lines. Rows count whoever wrote them, so a resumed stage begins where it stopped. Nothing that
goes wrong here makes the run fail.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from cnnspark.common import log
from cnnspark.execution.blocks import Block
from cnnspark.execution.run_folder import RunFolder

LINE_SECONDS, LIVE_SECONDS = 30.0, 1.0
LEAST_RATE_SECONDS = 10.0
# Counting lists a folder, which is slow on remote storage: at most this share of the time goes into it.
_MOST_COUNTING = 0.05

_followed = 0  # stages that are followed at this moment
_lock = threading.Lock()


class Tally:
    """Counts what is done of one folder's blocks: their records, or the blocks themselves if records are not known."""

    def __init__(self, folder: RunFolder, blocks: Sequence[Block], missing: Sequence[Block]):
        """Remembers what is finished already.

        Args:
            folder: where the blocks' rows are committed.
            blocks: all blocks of the run.
            missing: those that remain to be worked on.
        """
        self._folder = folder
        self.unit = "records" if all(block.records >= 0 for block in blocks) else "blocks"
        size = {block.name: block.records if self.unit == "records" else 1 for block in blocks}
        self.total = sum(size.values())
        self._missing = {block.name: size[block.name] for block in missing}
        self.finished = self.total - sum(self._missing.values())  # before the work began
        # Rows whose data are missing: their blocks are done again.
        self._stale: set[str] = set()
        with suppress(Exception):
            self._stale = folder.committed() & self._missing.keys()

    def done(self) -> int:
        """Records (or blocks) that are done, including those of earlier runs."""
        return self.finished + sum(self._missing.get(name, 0) for name in self._folder.committed() - self._stale)


@contextmanager
def following(*tallies: Tally) -> Iterator[None]:
    """Writes progress lines while the body runs, unless the log is quiet."""
    if log.is_quiet():
        yield
        return
    global _followed
    stop = threading.Event()
    # The stage and the sample that the lines name are context variables, which a thread does not inherit.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(_follow, tallies, stop), daemon=True)
    with _lock:
        _followed += 1
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with _lock:
            _followed -= 1


def _follow(tallies: Sequence[Tally], stop: threading.Event) -> None:
    on_terminal = log.has_terminal() and "callset" not in log.subject()  # callsets cannot share one last line
    try:
        total = sum(tally.total for tally in tallies)
        rate = Rate(time.monotonic(), sum(tally.finished for tally in tallies))
        wait_seconds = LIVE_SECONDS if on_terminal else LINE_SECONDS * _followed
        while not stop.wait(wait_seconds):
            counting = time.monotonic()
            done = sum(tally.done() for tally in tallies)
            now = time.monotonic()
            interval = LIVE_SECONDS if on_terminal else LINE_SECONDS * _followed
            wait_seconds = max(interval, (now - counting) / _MOST_COUNTING)
            speed = rate(now, done)
            text = pace_text(done, total, speed, tallies[0].unit)
            if on_terminal:
                log.live(text)
            else:
                left = round((total - done) / speed, 1) if speed else None
                log.progress(text, done=done, total=total, unit=tallies[0].unit, per_second=speed, seconds_left=left)
    except Exception:
        return  # a folder that cannot be listed: the stage itself will say so, if it matters
    finally:
        if on_terminal:
            log.live("")


class Rate:
    """Records a second since the first blocks were done; before that, workers load the model, once."""

    def __init__(self, started: float, before: int):
        self._started, self._before = started, before
        self._first: tuple[float, int] | None = None

    def __call__(self, now: float, done: int) -> float:
        """The rate when ``done`` records are done at ``now`` (seconds of a monotonic clock)."""
        if self._first is None and done > self._before:
            self._first = (now, done)
        if self._first is not None:
            seconds, more = now - self._first[0], done - self._first[1]
            # Records are done a block at a time, so a short time says little.
            if more and seconds >= LEAST_RATE_SECONDS:
                return more / seconds
        return (done - self._before) / max(1e-9, now - self._started)


def pace_text(done: int, total: int, rate: float, unit: str) -> str:
    """How far, how fast (``rate`` a second) and how long it will take, as text."""
    text = f"{done:,} of {total:,} {unit} ({done / max(1, total):.0%})"
    if rate <= 0:
        return text
    left = round((total - done) / rate)
    return f"{text}, {rate:,.{0 if rate >= 10 else 2}f}/s, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
