"""What became slower: the ratios of one run of the benchmarks against a committed baseline of ratios.

A ratio is a figure's limit divided by the figure, both measured alternately in one run: the seconds that a plain pysam
decoding, a matrix product of as many operations or a copy of as many bytes takes, divided by those of our own work. So
higher is better, 1 is as fast as the limit, and another machine has other seconds but about the same ratios.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOLERANCE = 0.2
FORMAT = 1


@dataclass(frozen=True)
class Change:
    """One ratio before and now."""

    name: str
    before: float
    now: float

    @property
    def share(self) -> float:
        """How much higher (better) the ratio is now, as a share of what it was; -0.2 is a fifth lower."""
        return self.now / self.before - 1

    def moved(self, tolerance: float) -> bool:
        """By more than ``tolerance`` either way, by the same factor: from 1 to 0.8 is as far as from 1 to 1.25."""
        return abs(math.log(self.now / self.before)) > -math.log(1 - tolerance) + 1e-9

    def worse(self, tolerance: float) -> bool:
        return self.now < self.before and self.moved(tolerance)


@dataclass(frozen=True)
class Comparison:
    """All ratios that baseline and run have in common, and the names that only one has."""

    changes: tuple[Change, ...]
    missing: tuple[str, ...]  # in the baseline alone
    new: tuple[str, ...]  # in the run alone
    tolerance: float

    @property
    def worse(self) -> list[Change]:
        return [change for change in self.changes if change.worse(self.tolerance)]

    @property
    def moved(self) -> list[Change]:
        return [change for change in self.changes if change.moved(self.tolerance)]

    def rows(self) -> list[dict[str, Any]]:
        """The table of all ratios, the worst change first."""
        rows = []
        for change in sorted(self.changes, key=lambda change: change.share):
            verdict = "WORSE" if change.worse(self.tolerance) else "better" if change.moved(self.tolerance) else ""
            rows.append({"ratio": change.name, "before": change.before, "now": change.now,
                         "change": f"{change.share:+.0%}", "verdict": verdict})  # fmt: skip
        return rows

    def sentence(self) -> str:
        """The verdict in one line."""
        limit = f"{self.tolerance:.0%}"
        if not self.changes:
            return "no ratio of the baseline was measured; leave --only out or write a new baseline"
        if not self.moved:
            said = f"none of {len(self.changes)} ratios moved by more than {limit}"
        else:
            names = ", ".join(change.name for change in self.worse)
            said = (
                f"{len(self.moved)} of {len(self.changes)} ratios moved by more than {limit}, {len(self.worse)} of "
                f"them for the worse{': ' if names else ''}{names}"
            )
        if self.missing:
            said += f"; {len(self.missing)} of the baseline were not measured"
        if self.new:
            said += f"; {len(self.new)} are not in the baseline: {', '.join(self.new)}"
        return said


def compare(before: Mapping[str, float], now: Mapping[str, float], tolerance: float = TOLERANCE) -> Comparison:
    """Compares ratios by name, before and now.

    Raises:
        ValueError: If a ratio is not a positive number, or the tolerance is not between 0 and 1.
    """
    for ratios in (before, now):
        for name, ratio in ratios.items():
            if not (math.isfinite(ratio) and ratio > 0):
                raise ValueError(f"the ratio of {name} is {ratio}; it should be a positive number")
    if not 0 < tolerance < 1:
        raise ValueError(f"a tolerance of {tolerance} cannot be; give a number between 0 and 1")
    both = [name for name in before if name in now]
    return Comparison(
        tuple(Change(name, before[name], now[name]) for name in both),
        tuple(name for name in before if name not in now),
        tuple(name for name in now if name not in before),
        tolerance,
    )


def ratios_of(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The ratios of a run by their names; figures without a limit are left out.

    Raises:
        ValueError: If two figures have the same name.
    """
    found: dict[str, float] = {}
    for figure in figures:
        if figure["ratio"] is None:
            continue
        if figure["name"] in found:
            raise ValueError(f"two figures are named {figure['name']}")
        found[figure["name"]] = figure["ratio"]
    return found


def read_baseline(path: Path) -> dict[str, float]:
    """The ratios of a baseline by name.

    Raises:
        ValueError: If the file is not a baseline of this version.
    """
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or content.get("format") != FORMAT or "ratios" not in content:
        raise ValueError(f"{path} is no baseline of this version; write one with --write-baseline")
    return {name: float(ratio) for name, ratio in content["ratios"].items()}


def write_baseline(path: Path, figures: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Writes the ratios of a run, and ``facts`` about it that say how far they may be trusted (machine, load, date).

    Ratios that were not measured this time stay as they were.
    """
    before = read_baseline(path) if path.exists() else {}
    ratios = {name: float(f"{ratio:.4g}") for name, ratio in (before | ratios_of(figures)).items()}
    content = {"format": FORMAT, **facts, "ratios": dict(sorted(ratios.items()))}
    path.write_text(json.dumps(content, indent=1) + "\n")
