"""What tests share: one Spark session, the shared data where they are, and one small simulated sample with a model."""

from __future__ import annotations

import contextlib
import csv
import gc
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pysam
import pytest

from cnnspark.common import log
from cnnspark.config import Config, InputPaths, load_config
from cnnspark.formats.htslib import prepare_htslib
from tests.support.fork_server import fork_server, run_replica_process
from tests.support.shared_by_workers import made_once
from tests.support.small_disk import SmallDisk, mounted
from tests.support.spark_daemon import NO_MODELS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.training.job import ReplicaJob

# Tests import TensorFlow and open URLs in one process, in any order.
prepare_htslib()
ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CNNSPARK_DATA", ROOT.parent / "shared" / "data"))


# Files that take long, the longest first: of files that are dealt out to processes the last is a short one. Of the
# first four only one needs the sample, which it makes while the others do without.
LONGEST = (
    *("integration/test_object_store", "training/test_by_parts", "training/test_warm_start", "training/test_trainer"),
    *("training/test_train", "training/test_pretraining", "integration/test_documents", "integration/test_chaos"),
    *("reports/allele/test_explanation", "models/networks/test_gatk", "reports/callset/test_page"),
    *("training/test_faults", "stages/test_stages", "scoring/test_cascade", "integration/test_cluster"),
    *("models/test_bundle", "stages/test_without_reads", "execution/test_tensorflow_setup", "training/test_data"),
    *("reports/callset/test_finished_run", "execution/test_tasks", "stages/test_pipeline"),
    *("evaluation/test_score_reader", "stages/test_sheet_runner", "models/networks/test_backends"),
)


def pytest_configure(config: pytest.Config) -> None:
    """One server of replicas for all processes of a run, which inherit its address."""
    gc.disable()  # hardly any of the million objects that the tests' imports make is garbage
    if not hasattr(config, "workerinput"):
        servers = contextlib.ExitStack()
        servers.enter_context(fork_server())
        config.add_cleanup(servers.close)


def pytest_collection_finish() -> None:
    """What was imported is not looked at again by any collection of garbage."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the order within a file stays."""
    rank = {ROOT / "tests" / f"{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(LONGEST)))


@pytest.fixture(autouse=True)
def talkative() -> Iterator[None]:
    """A command that was told to be quiet, or to write JSON, has no say in the tests that follow it."""
    yield
    log.set_quiet(False)
    log.set_format("text")


@pytest.fixture(scope="session")
def data() -> Path:
    """The shared data; tests that need them are skipped without."""
    if not DATA.is_dir():
        pytest.skip(f"no data at {DATA}; set CNNSPARK_DATA")
    return DATA


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One session for all tests, whose workers and replicas are forks of processes with TensorFlow.

    It has slots for two replicas. Other stages have one task and workers of their own, so that one Python worker loads
    the models; what depends on several tasks says how many (``tests/integration/test_partitions.py``).
    """
    from cnnspark.execution import blocks
    from cnnspark.execution.session import spark_session
    from cnnspark.training import barrier_stage

    run_stage = barrier_stage._run_stage

    def run_stage_in_other_workers(session: SparkSession, job: ReplicaJob) -> None:
        session.sparkContext.environment[NO_MODELS] = "1"
        try:
            run_stage(session, job)
        finally:
            del session.sparkContext.environment[NO_MODELS]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(barrier_stage, "run_replica_process", run_replica_process)
        patch.setattr(barrier_stage, "_run_stage", run_stage_in_other_workers)
        patch.setattr(blocks, "TASKS_PER_SLOT", 1)
        properties = {
            "spark.python.daemon.module": "tests.support.spark_daemon",
            "spark.default.parallelism": "1",
        }
        session = spark_session("tests", "local[2]", properties)
        yield session
        session.stop()


@pytest.fixture(scope="session")
def store_server() -> Iterator[str]:
    """The address of an S3-compatible server on this machine; tests are skipped where moto is not installed."""
    pytest.importorskip("moto", reason="moto is not installed; it is part of the extra 'test'")
    pytest.importorskip("s3fs", reason="s3fs is not installed; it is part of the extra 's3'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                pytest.fail("moto's server did not start within 30 s")
            yield address
        finally:
            server.terminate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 4 MiB."""
    with mounted(tmp_path / "disk", "4m") as disk:
        yield disk


@dataclass(frozen=True)
class Sample:
    """A simulated sample, its dataset and a model trained on it for one epoch."""

    paths: InputPaths  # with the callset, the truth and the BED
    config: Config
    dataset: str
    model: str

    @property
    def unlabelled(self) -> InputPaths:
        return InputPaths(vcf=self.paths.vcf, reads=self.paths.reads, reference=self.paths.reference)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> InputPaths:
    """A simulated sample of 60 kb. Nobody changes its files."""
    return made_once(tmp_path_factory, "simulated", _simulate)


def _simulate(folder: Path) -> InputPaths:
    from cnnspark.execution.blocks import Block
    from cnnspark.formats.regions import Region
    from cnnspark.simulation import simulate
    from cnnspark.tensors import BlockTensors, Inputs, TensorSettings

    files = simulate(folder, seed=5, length=60_000, coverage=20)
    # All kernels are compiled here; else each of Spark's workers would do it.
    source = BlockTensors(Inputs(str(files.callset), str(files.reads), str(files.reference)), (), TensorSettings())
    block = Block(0, Region(source.vcf.contigs[0], 0, 20_000))
    assert len(source.build(source.records(block), block)[0])
    return InputPaths(
        vcf=str(files.callset),
        reads=str(files.reads),
        reference=str(files.reference),
        truth=str(files.truth),
        bed=str(files.confident),
    )


@pytest.fixture(scope="session")
def sample(spark: SparkSession, simulated: InputPaths, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The simulated sample with its dataset and a ``features`` model: the fastest way to a real bundle."""
    from cnnspark import stages
    from cnnspark.training import train

    config = load_config(
        None,
        ["blocks.records=20", "train.model=features", "train.epochs=2", "train.validation=0.3", "train.batch_size=16"],
    )

    def train_sample(folder: Path) -> Sample:
        stages.build_dataset(spark, simulated, str(folder / "tensors"), config)
        train(spark, str(folder / "tensors"), str(folder / "model"), config.train)
        return Sample(simulated, config, str(folder / "tensors"), str(folder / "model"))

    return made_once(tmp_path_factory, "trained", train_sample)


def write_vcf(path: Path, lines: list[str], header: list[str] | None = None, index: bool = True) -> str:
    """A VCF of these records (tabs for blanks), bgzipped and indexed where the name ends in ``.gz``."""
    head = header or ["##fileformat=VCFv4.2", "##contig=<ID=c1,length=10000>", "##contig=<ID=c2,length=10000>"]
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
    records = [line.replace(" ", "\t") for line in lines]
    if records and records[0].count("\t") > 7:
        columns += "\tFORMAT\tS1"
    text = "\n".join([*head, columns, *records]) + "\n"
    if path.suffix != ".gz":
        path.write_text(text)
        return str(path)
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write(text.encode("latin-1"))
    if index:
        pysam.tabix_index(str(path), preset="vcf", force=True)
    return str(path)


def read_lines(path: str | Path) -> list[str]:
    """The records of a VCF, as text."""
    with pysam.BGZFile(str(path), "rb", None) as lines:
        return [text for line in lines if not (text := line.decode("latin-1")).startswith("#")]


def rows_of(table: str | Path) -> list[dict[str, str]]:
    """The rows of a TSV with a header."""
    with open(table, encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))
