"""Runs a stage on every callset of a sample sheet, several at a time; the failure of one does not stop the others.

Each callset has its own run folder, so that what holds for one run (conservation, commit, resume) holds for all. Their
Spark jobs share the slots: slots that are idle in one callset's last tasks take the next callset's tasks. Layout::

    run.json               the stage
    samples/NA1/           the run folder of callset NA1
    manifest/NA1.json      its row, written when it is finished: what it was made of, and the result
    samples.tsv            every callset: done, failed (and why), or not started
    manifest.json          the same with the sums; _SUCCESS beside it when all are done
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cnnspark._version import __version__
from cnnspark.common.error_translation import explain
from cnnspark.common.log import about, progress
from cnnspark.common.storage import file_identity, read_json, write_json, write_text
from cnnspark.config import Config
from cnnspark.errors import CnnsparkError, RunError, UsageError
from cnnspark.execution.run_folder import MANIFEST, ROWS, RunFolder
from cnnspark.stages.preflight import check_executors
from cnnspark.stages.sample_sheet import SheetCallset
from cnnspark.tensors.joined_dataset import SAMPLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLE = "samples.tsv"
DONE, FAILED, NOT_STARTED = "done", "failed", "not started"
# Each callset at work holds its blocks and their rows in the driver, some 10 MB for a genome.
MAX_AT_ONCE = 16
# Failures named in the final sentence; all of them are in samples.tsv.
NAMED_FAILURES = 5

# Runs the stage on one callset: its folder and --if-exists; returns plain values about the result.
Stage = Callable[[SheetCallset, str, str], Mapping[str, Any]]


@dataclass(frozen=True)
class SheetSettings:
    """How a sheet is processed; no output depends on it."""

    at_once: int | None = None  # callsets at a time; none: as many as there are slots, at most MAX_AT_ONCE
    max_failed: int | None = None  # after more failures than this no new callset is started; none: no limit

    def __post_init__(self) -> None:
        if self.at_once is not None and self.at_once < 1:
            raise UsageError("--at-once must be 1 or more")
        if self.max_failed is not None and self.max_failed < 0:
            raise UsageError("--max-failed must be 0 or more")


@dataclass
class Outcome:
    """The outcome of one callset. ``kept``: an earlier run had finished it."""

    name: str
    samples: tuple[str, ...]
    status: str = NOT_STARTED
    message: str = ""
    seconds: float = 0.0
    kept: bool = False
    result: dict[str, Any] = field(default_factory=dict)


@dataclass
class SheetResult:
    """The outcome of every callset of a sheet."""

    out: str
    outcomes: list[Outcome]

    @property
    def counts(self) -> Counter[str]:
        """Callsets by status."""
        return Counter(outcome.status for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values."""
        return {"out": self.out, "counts": dict(self.counts), "samples": [asdict(each) for each in self.outcomes]}

    def text(self) -> str:
        """The summary for a person."""
        kept = sum(outcome.kept for outcome in self.outcomes)
        before = f" ({kept} of them before)" if kept else ""
        records = sum(outcome.result.get("records", 0) for outcome in self.outcomes)
        done = f"{self.counts[DONE]} of {len(self.outcomes)} callsets done{before}"
        return f"{done}, {records} records: {self.out}/{TABLE}"

    def require_all(self) -> None:
        """Checks that every callset is done.

        Raises:
            RunError: names the callsets that are not.
        """
        failed = [outcome for outcome in self.outcomes if outcome.status == FAILED]
        left = self.counts[NOT_STARTED]
        if not failed and not left:
            return
        named = "; ".join(f"{outcome.name}: {outcome.message}" for outcome in failed[:NAMED_FAILURES])
        more = f"; and {len(failed) - NAMED_FAILURES} more" if len(failed) > NAMED_FAILURES else ""
        not_started = f", {left} were not started (--max-failed)" if left else ""
        raise RunError(
            f"{len(failed)} of {len(self.outcomes)} callsets failed{not_started} ({named}{more}); "
            f"see {self.out}/{TABLE}, mend them and run again with --if-exists resume"
        )


def fingerprint(callset: SheetCallset, stage: str, config: Config, model_digest: str = "") -> str:
    """A digest of everything that a callset's result depends on; a finished callset with the same one is kept."""
    made_of = {
        "stage": stage,
        "version": __version__,
        "inputs": [file_identity(path) for path in callset.paths.files],
        "samples": callset.samples,
        "regions": callset.paths.regions,
        "model": model_digest,
        "config": config.to_dict(),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()


def run_on_sheet(
    spark: SparkSession, stage: str, callsets: Sequence[SheetCallset], out: str, if_exists: str, work: Stage,
    fingerprints: Mapping[str, str], settings: SheetSettings,
) -> SheetResult:  # fmt: skip
    """Runs ``work`` on every callset and writes the tables of their outcomes.

    A callset whose failure may be the cluster's (a lost executor, a full disk: exit code 4) is tried once more when the
    others are finished.

    Args:
        spark: where the tasks run.
        stage: its name.
        callsets: the sheet's.
        out: folder of all.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        work: the stage on one callset.
        fingerprints: by callset, see :func:`fingerprint`.
        settings: how many callsets at a time.

    Returns:
        The outcomes; failures of single callsets are in them (:meth:`SheetResult.require_all`).

    Raises:
        UsageError: ``out`` is in use.
        InputError: executors do not see the sheet's files.
    """
    folder = RunFolder(out, f"{stage} --sheet", (TABLE,))
    folder.check(if_exists)
    seen = {path for each in callsets for path in each.paths.files}
    check_executors(spark, sorted(seen))
    with folder.opened({}, [], if_exists):
        return _work_off(spark, stage, folder, callsets, out, if_exists, work, fingerprints, settings)


def _work_off(
    spark: SparkSession, stage: str, folder: RunFolder, callsets: Sequence[SheetCallset], out: str, if_exists: str,
    work: Stage, fingerprints: Mapping[str, str], settings: SheetSettings,
) -> SheetResult:  # fmt: skip
    outcomes = {each.name: Outcome(each.name, each.samples) for each in callsets}
    todo: deque[SheetCallset] = deque()
    for each in callsets:
        row = _finished(folder, each.name)
        if row is not None and row["fingerprint"] == fingerprints[each.name]:
            outcomes[each.name].result = row["result"]
            outcomes[each.name].status, outcomes[each.name].kept = DONE, True
        else:
            todo.append(each)
    if len(todo) < len(callsets):
        progress(f"{len(callsets) - len(todo)} of {len(callsets)} callsets are finished, {len(todo)} are to be done")

    def one(each: SheetCallset) -> Outcome:
        outcome, started = outcomes[each.name], time.monotonic()
        target = folder.out / SAMPLES / each.name
        with about(callset=each.name):
            result = dict(work(each, str(target), "overwrite" if if_exists == "overwrite" else "mend"))
        outcome.seconds = round(time.monotonic() - started, 3)
        row = {"name": each.name, "samples": each.samples, "fingerprint": fingerprints[each.name], "result": result}
        write_json(folder.out / ROWS / f"{each.name}.json", row | {"seconds": outcome.seconds})
        outcome.status, outcome.result, outcome.message = DONE, result, ""
        return outcome

    slots = spark.sparkContext.defaultParallelism
    at_once = settings.at_once or max(1, min(slots, MAX_AT_ONCE))
    again: set[str] = set()
    running: dict[Future[Outcome], SheetCallset] = {}
    with ThreadPoolExecutor(at_once, thread_name_prefix="callset") as pool:
        try:
            while todo or running:
                failed = sum(outcome.status == FAILED for outcome in outcomes.values())
                if settings.max_failed is not None and failed > settings.max_failed:
                    todo.clear()
                while todo and len(running) < at_once:
                    each = todo.popleft()
                    running[pool.submit(one, each)] = each
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    each = running.pop(future)
                    error = future.exception()
                    if error is None:
                        count = sum(outcome.status == DONE for outcome in outcomes.values())
                        progress(f"{each.name} is done ({count} of {len(callsets)})")
                        continue
                    if not isinstance(error, Exception):
                        raise error
                    said = explain(error)
                    if _may_pass(said) and each.name not in again and not _stopped(spark):
                        again.add(each.name)
                        todo.append(each)
                        progress(f"warning: {each.name} failed and will be tried again: {said}")
                        continue
                    outcomes[each.name].status, outcomes[each.name].message = FAILED, str(said)
                    progress(f"warning: {each.name} failed: {said}")
                if _stopped(spark):
                    raise RunError("Spark ended; run again with --if-exists resume")
        except BaseException:
            # Threads wait for their jobs, and the pool for its threads.
            if not _stopped(spark):
                spark.sparkContext.cancelAllJobs()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    result = SheetResult(out, list(outcomes.values()))
    _write(folder, stage, result)
    return result


def _may_pass(error: CnnsparkError) -> bool:
    """Whether the same may succeed when it is tried again."""
    return error.exit_code == RunError.exit_code


def _stopped(spark: SparkSession) -> bool:
    context = spark.sparkContext._jsc
    return context is None or bool(context.sc().isStopped())


def _finished(folder: RunFolder, name: str) -> dict[str, Any] | None:
    """The row of a callset that an earlier run finished."""
    path = folder.out / ROWS / f"{name}.json"
    return read_json(path, "a run") if path.exists() else None


def _write(folder: RunFolder, stage: str, result: SheetResult) -> None:
    """The tables of what became of the callsets; the success mark only where all are done."""
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(["callset", "samples", "status", "records", "seconds", "output", "message"])
    for each in result.outcomes:
        # A message of several lines would break the table.
        message = " ".join(each.message.split())
        output = each.result.get("output", "")
        records = each.result.get("records", "")
        table.writerow([each.name, ",".join(each.samples), each.status, records, each.seconds, output, message])
    write_text(folder.out / TABLE, text.getvalue())
    manifest = {"stage": stage, **{k: v for k, v in result.to_dict().items() if k != "out"}}
    if result.counts[DONE] == len(result.outcomes):
        folder.succeed(manifest)
    else:
        write_json(folder.out / MANIFEST, manifest)
