"""Repeated runs of what is to be compared, and the figures that they give."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs by the clock, and of the process's own time, which other programs hardly touch."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @classmethod
    def of(cls, runs: Iterable[tuple[float, float]]) -> Timing:
        """The timing of runs from the (clock, processor) seconds of each."""
        wall, cpu = zip(*runs, strict=True)
        return cls(wall, cpu)

    def divided(self, times: int) -> Timing:
        """The timing of one piece of work, if each run did it ``times`` times."""
        return Timing(tuple(s / times for s in self.wall), tuple(s / times for s in self.cpu))


def in_rounds(
    works: Mapping[Name, Callable[[], Result]], runs: int, warm_up: bool = True
) -> dict[Name, list[Result]]:  # fmt: skip
    """Runs several works that are to be compared, each once a round, so that a busy minute hits all of them.

    Args:
        works: The works by name.
        runs: The number of rounds that count.
        warm_up: Whether one round comes before, in which code is compiled and files are read for the first time.

    Returns:
        What each work returned in each round that counts.
    """
    found: dict[Name, list[Result]] = {name: [] for name in works}
    for number in range(runs + warm_up):
        for name, work in works.items():
            result = work()
            if number >= warm_up:
                found[name].append(result)
    return found


def time_in_rounds(works: Mapping[str, Callable[[], object]], runs: int) -> dict[str, Timing]:
    """Times several works as :func:`in_rounds` runs them, after a round that does not count."""

    def timed(work: Callable[[], object]) -> Callable[[], tuple[float, float]]:
        def run() -> tuple[float, float]:
            started, used = time.perf_counter(), time.process_time()
            work()
            return time.perf_counter() - started, time.process_time() - used

        return run

    found = in_rounds({name: timed(work) for name, work in works.items()}, runs)
    return {name: Timing.of(each) for name, each in found.items()}


def figure(
    name: str, things: float, unit: str, work: Timing, limit: Timing | None = None, limit_name: str = ""
) -> dict[str, Any]:
    """A figure as the table, the JSON and the regression guard have it, in processor time.

    ``ratio`` is the limit's seconds divided by the work's, round by round: the median, the least and the greatest. It
    is None without a limit.
    """
    ratios = [a / b for a, b in zip(limit.cpu, work.cpu, strict=True)] if limit else None
    limit_rate = things / statistics.median(limit.cpu) if limit else None
    return figure_of(name, f"{unit}/s", [things / seconds for seconds in work.cpu], limit_name, limit_rate, ratios)


def figure_of(
    name: str, unit: str, rates: list[float], limit_name: str, limit_rate: float | None, ratios: list[float] | None
) -> dict[str, Any]:
    """A figure of rates and ratios that were measured round by round."""
    return {
        "name": name,
        "rate": statistics.median(rates),
        "low": min(rates),
        "high": max(rates),
        "unit": unit,
        "limit": limit_name,
        "limit_rate": limit_rate,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_low": min(ratios) if ratios else None,
        "ratio_high": max(ratios) if ratios else None,
        "runs": len(rates),
    }
