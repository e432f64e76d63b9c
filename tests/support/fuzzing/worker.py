"""Tries mutants one after the other in this process, and writes how each ended, so that a crash has a name.

python -m tests.support.fuzzing.worker FOLDER NUMBER FIRST    mutants FIRST to NUMBER, into FOLDER/outcomes
python -m tests.support.fuzzing KIND SEED                     one mutant, whose files stay
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cnnspark.cli import main
from cnnspark.stages import evaluate
from tests.support.fuzzing.inputs import make_inputs
from tests.support.fuzzing.judge import Ending, Result, judge, result_of
from tests.support.fuzzing.kinds import BY_NAME, Kind, command, mutants

OUTCOMES, FAULT = "outcomes", "fault"
BEGUN, JUDGED = "begun", "judged"  # how a line of the outcomes begins: with what the process is doing


class Intact(NamedTuple):
    """What a command makes of the intact inputs."""

    result: Result
    warnings: list[str]


class Worker:
    """The folder with the intact inputs, a mutant and what commands write, and the results of the intact inputs."""

    def __init__(self, folder: Path):
        self.intact, self.mutant, self.out = folder / "intact", folder / "mutant", folder / "out"
        self.unfinished = folder / "unfinished"
        if not self.intact.exists():
            make_inputs(self.intact)
        self._results: dict[tuple[str, ...], Intact] = {}

    def _place_inputs(self) -> None:
        """The mutant's folder with all intact files, as hard links; an empty folder for the results."""
        shutil.rmtree(self.mutant, ignore_errors=True)
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.intact, self.mutant, copy_function=os.link)
        self.out.mkdir()

    def _run(self, kind: Kind) -> Ending:
        """Runs the kind's command with what it writes to stderr, from whatever library, in a file."""
        sys.stderr.flush()
        kept = os.dup(2)
        log = self.out.with_name("stderr")
        with open(log, "wb") as stderr:
            os.dup2(stderr.fileno(), 2)
            try:
                code = main(command(kind, self.mutant, self.out))
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
                os.close(kept)
        return Ending(code, log.read_text(encoding="utf-8", errors="backslashreplace"), self.out)

    def intact_of(self, kind: Kind) -> Intact:
        """The result of the intact inputs; each command runs once on them."""
        key = (kind.command, kind.callset, kind.reads, kind.reference)
        if key not in self._results:
            self._place_inputs()
            if kind.command == "resume":
                self._begin_run(kind)
            ending = self._run(kind)
            if ending.code:
                raise RuntimeError(f"the intact inputs fail: {ending.stderr}")
            self._results[key] = Intact(result_of(kind, self.out), ending.warnings)
        return self._results[key]

    def _begin_run(self, kind: Kind) -> None:
        """Puts into ``out`` a run that was killed before its last block was finished."""
        if not self.unfinished.exists():
            self._run(kind)
            made = self.out / "o"
            for path in (*made.glob("merged*"), made / "manifest.json", made / "_SUCCESS", made / "guard.json"):
                path.unlink(missing_ok=True)
            max((made / "manifest").iterdir()).unlink()
            shutil.copytree(made, self.unfinished)
        else:
            shutil.copytree(self.unfinished, self.out / "o")

    def mutate(self, kind: Kind, seed: int) -> str:
        """Makes the mutant; says how."""
        dice = random.Random(f"{kind.name} {seed}")
        self._place_inputs()
        if kind.command == "resume":
            self._begin_run(kind)
            return kind.change(dice, self.out / "o")
        return kind.change(dice, self.mutant / kind.file)

    def try_mutant(self, name: str, seed: int, begin_judging: object = None) -> dict[str, object]:
        """Makes and runs one mutant and judges how it ended."""
        kind = BY_NAME[name]
        intact = self.intact_of(kind)
        how = self.mutate(kind, seed)
        started = time.monotonic()
        ending = self._run(kind)
        seconds = round(time.monotonic() - started, 2)
        if callable(begin_judging):
            begin_judging()
        outcome, why = judge(kind, ending, self.mutant, intact.result, intact.warnings)
        return {"kind": name, "seed": seed, "how": how, "outcome": outcome, "why": why, "seconds": seconds}


def without_reports() -> None:
    """Leaves out the page that ``evaluate`` draws for two seconds: nobody looks at a mutant's."""
    evaluate.write_report = lambda *_: None


def work(folder: Path, number: int, first: int) -> None:
    """Tries the mutants from ``first`` on, of the first ``number``."""
    without_reports()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the commands' results
    worker = Worker(folder)
    with open(folder / OUTCOMES, "a", encoding="utf-8", buffering=1) as outcomes:
        for name, seed in mutants(number)[first:]:
            worker.intact_of(BY_NAME[name])  # it may load the model, which takes longer than any mutant
            outcomes.write(f"{BEGUN} {name} {seed}\n")
            found = worker.try_mutant(name, seed, lambda: outcomes.write(f"{JUDGED}\n"))
            outcomes.write(json.dumps(found) + "\n")


def show(folder: Path, name: str, seed: int) -> int:
    """Tries one mutant and prints how it ended; its files stay."""
    worker = Worker(folder)
    found = worker.try_mutant(name, seed)
    kind = replace(BY_NAME[name])
    print("command: cnnspark", " ".join(command(kind, worker.mutant, worker.out)))
    for key, value in found.items():
        print(f"{key}: {value}")
    print((folder / "stderr").read_text(errors="backslashreplace"))
    return int(found["outcome"] == "FAILURE")


if __name__ == "__main__":
    # Not to stderr, which is a file of the mutant's while a command runs.
    with open(Path(sys.argv[1]) / FAULT, "w") as fault:
        faulthandler.enable(fault)
        work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
