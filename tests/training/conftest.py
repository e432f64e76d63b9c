"""Synthetic alleles, and a model that is trained on them once for all tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.fork_server import client_command
from tests.support.synthetic_training import write_synthetic
from tests.support.trainings import run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session", autouse=True)
def forked_replicas() -> Iterator[None]:
    """Replicas that a test starts without Spark are also forked."""
    from benchmarks.training import training

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "replica_command", client_command)
        yield


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    # 65 alleles: the last of three global batches is filled up
    return write_synthetic(tmp_path_factory.mktemp("synthetic"), train=65, validation=70)


@pytest.fixture(scope="session")
def uninterrupted(spark: SparkSession, dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two epochs of the features model by one replica, without anything happening."""
    return run(spark, dataset, tmp_path_factory.mktemp("one") / "model")[0].model_out
