"""Damaged inputs of every format through ``filter``, ``score``, ``evaluate``, ``plan``: a right result or a sentence.

Oracles: a slow reading of the mutated text, bcftools (as pysam has it), and the intact file's result. 300 mutants
are tried, 5,000 by ``make fuzz``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.support.fuzzing.judge import FAILURE
from tests.support.fuzzing.kinds import KINDS, mutants
from tests.support.fuzzing.worker import BEGUN, FAULT, JUDGED, OUTCOMES

MUTANTS = int(os.environ.get("CNNSPARK_FUZZ", "300"))
FIRST_SECONDS, MUTANT_SECONDS = 240, 20  # TensorFlow is loaded before the first
FAILURES_SHOWN = 20


def test_a_mutant_is_read_right_or_refused_in_a_sentence(tmp_path: Path) -> None:
    found = tried(tmp_path, MUTANTS)
    counts = Counter((each["kind"], each["outcome"]) for each in found)
    table = "\n".join(f"{kind:16} {outcome:8} {n}" for (kind, outcome), n in sorted(counts.items()))
    (Path(os.environ.get("CNNSPARK_FUZZ_REPORT", tmp_path / "report.txt"))).write_text(table + "\n")
    failures = [each for each in found if each["outcome"] == FAILURE]
    shown = "\n\n".join(
        f"{each['why']}\n  {each['how']}: .venv/bin/python -m tests.support.fuzzing {each['kind']} {each['seed']}"
        for each in failures[:FAILURES_SHOWN]
    )
    assert not failures, f"{len(failures)} of {len(found)} mutants\n{shown}\n\n{table}"
    assert len(found) == MUTANTS
    assert len({each["kind"] for each in found}) == min(MUTANTS, len(KINDS))


def tried(folder: Path, number: int) -> list[dict[str, Any]]:
    """How the mutants ended: a process works through them, and another one goes on where it crashes or hangs."""
    lines = folder / OUTCOMES
    found: list[dict[str, Any]] = []
    while len(found) < number:
        lines.write_text("")
        doing, said = follow(folder, number, len(found), found)
        if len(found) == number:
            break
        kind, seed = mutants(number)[len(found)]
        how = "while the result was judged" if doing == JUDGED else "while the command ran"
        if not doing:
            pytest.fail(f"the process that tries mutants does not start: {said}")
        found.append({"kind": kind, "seed": seed, "outcome": FAILURE, "how": how, "why": said, "seconds": 0})
    return found


def follow(folder: Path, number: int, first: int, found: list[dict[str, Any]]) -> tuple[str, str]:
    """Adds the outcomes of one process to ``found``; returns what it was doing when it ended, and how it ended."""
    command = [sys.executable, "-m", "tests.support.fuzzing.worker", str(folder), str(number), str(first)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    doing, seen, since, limit = "", 0, time.monotonic(), FIRST_SECONDS
    with (
        open(folder / "process", "w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log) as process,
    ):
        while True:
            over = process.poll() is not None
            lines = (folder / OUTCOMES).read_text(encoding="utf-8").split("\n")[:-1]
            for line in lines[seen:]:
                since = time.monotonic()
                if line.startswith((BEGUN, JUDGED)):
                    doing, limit = line.split(" ")[0], MUTANT_SECONDS
                else:
                    found.append(json.loads(line))
                    doing, limit = "", FIRST_SECONDS
            seen = len(lines)
            if over or time.monotonic() - since > limit:
                break
            time.sleep(0.05)
        process.kill()
    said = "".join((folder / name).read_text(errors="backslashreplace")[:1_500] for name in ("process", FAULT))
    return doing, f"exit {process.returncode}: {said}" if over else f"no end after {limit} s"
