"""How far a stage is: counted from the rows that its blocks commit, by a thread of the driver.

On a terminal one line that is overwritten, else a line every half minute, in turns where the callsets of a sheet are
worked on beside each other. Rows count whoever wrote them, so a stage that is resumed begins where it was left; nothing
that goes wrong here is a failure of the run.
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
# Counting is a listing of a folder, slow where that is far away: at most this share of the time goes into it.
_MOST_COUNTING = 0.05

_followed = 0  # stages at this moment
_lock = threading.Lock()


class Tally:
    """What is done of one folder's blocks: their records, or where these are not known yet the blocks themselves.

    ``missing`` are the blocks that are to be worked on.
    """

    def __init__(self, folder: RunFolder, blocks: Sequence[Block], missing: Sequence[Block]):
        self._folder = folder
        self.unit = "records" if all(block.records >= 0 for block in blocks) else "blocks"
        size = {block.name: block.records if self.unit == "records" else 1 for block in blocks}
        self.total = sum(size.values())
        self._missing = {block.name: size[block.name] for block in missing}
        self.finished = self.total - sum(self._missing.values())  # before the work began
        # Rows whose data are gone: their blocks are done again.
        self._stale: set[str] = set()
        with suppress(Exception):
            self._stale = folder.committed() & self._missing.keys()

    def done(self) -> int:
        """Records (or blocks) that are done, those of earlier runs included."""
        return self.finished + sum(self._missing.get(name, 0) for name in self._folder.committed() - self._stale)


@contextmanager
def following(*tallies: Tally) -> Iterator[None]:
    """Says how far the work within is."""
    if log.is_quiet():
        yield
        return
    global _followed
    stop = threading.Event()
    # A thread knows nothing of the stage and the sample that its lines are about unless it is given them.
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
    on_terminal = log.has_terminal() and "callset" not in log.subject()  # there is one last line, and many callsets
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
        return  # a folder that cannot be listed now: the stage itself will say so, or has no trouble with it
    finally:
        if on_terminal:
            log.live("")


class Rate:
    """How many a second, from when the first blocks were done: before, workers load the model, which they do once."""

    def __init__(self, started: float, before: int):
        self._started, self._before = started, before
        self._first: tuple[float, int] | None = None

    def __call__(self, now: float, done: int) -> float:
        if self._first is None and done > self._before:
            self._first = (now, done)
        if self._first is not None:
            seconds, more = now - self._first[0], done - self._first[1]
            # Blocks are done all at once, so that a short time says little.
            if more and seconds >= LEAST_RATE_SECONDS:
                return more / seconds
        return (done - self._before) / max(1e-9, now - self._started)


def pace_text(done: int, total: int, rate: float, unit: str) -> str:
    """How far, how fast (``rate`` a second) and how long: for a person."""
    text = f"{done:,} of {total:,} {unit} ({done / max(1, total):.0%})"
    if rate <= 0:
        return text
    left = round((total - done) / rate)
    return f"{text}, {rate:,.{0 if rate >= 10 else 2}f}/s, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
