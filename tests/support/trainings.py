"""Trainings of the synthetic alleles through Spark's barrier stage, as the tests of training begin them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnspark.training.driver import TrainResult
from cnnspark.training.settings import TrainSettings
from tests.support.synthetic_training import OPENER, train

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = TrainSettings(
    model="features",
    epochs=2,
    batch_size=32,
    timeout_seconds=60,
)


def run(
    spark: SparkSession, data: str, out: Path, data_opener: str = OPENER, **changes: object
) -> tuple[TrainResult, list[str]]:
    """The training of SETTINGS less the changes, and the lines that it showed."""
    lines: list[str] = []
    settings = dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]
    return train(spark, data, str(out), settings, lines.append, data_opener), lines


def epochs_of(lines: list[str]) -> list[str]:
    """The epochs that were trained, by the lines shown; a slow one also has lines in its middle."""
    return [*dict.fromkeys(line.split("  ")[0] for line in lines)]


def weights(path: str | Path) -> np.ndarray:
    """All weights of a bundle, in one row."""
    from cnnspark.models.bundle import load_bundle

    return np.concatenate([np.asarray(w).ravel() for w in load_bundle(path).model.weights])
