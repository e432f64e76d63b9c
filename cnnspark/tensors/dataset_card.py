"""What a tensor dataset holds, for its card: ranges and histograms of every annotation and site feature, and digests.

A person looks at the card before training, and a later callset is compared with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from cnnspark.common.storage import location
from cnnspark.tensors.input_histogram import bin_edges, count_half_open, finite_values

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COLUMNS = ("annotations", "site_features")
BINS = 20
# Values of each column that the bins' edges are chosen from; the counts are of all values.
SAMPLE_ROWS = 20_000


def file_sha256(path: Path) -> str:
    """SHA-256 of a small local file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content_digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """One SHA-256 of all blocks' files, in the order of ``rows``, each with its ``block`` and its file's ``sha256``."""
    return hashlib.sha256("".join(f"{row['block']}:{row['sha256']};" for row in rows).encode()).hexdigest()


def read_columns(path: str) -> np.ndarray:
    """Annotations (A) and site features (F) of one Parquet file side by side: float32 (n, A + F), NaN where missing."""
    with location(path).open("rb") as file:
        table = pq.read_table(file, columns=list(COLUMNS))
    return np.concatenate([np.stack(table[name].to_numpy()) for name in COLUMNS], axis=1).astype(np.float32)


@dataclass(frozen=True)
class ColumnCounts:
    """A column's values in some files. Those of more files are added with ``+``.

    Attributes:
        missing: Number of missing values.
        minimum: Least value; None if all are missing.
        maximum: Greatest value; None if all are missing.
        counts: int64 (E + 1,) for E edges (:func:`cnnspark.tensors.input_histogram.count_half_open`).
    """

    missing: int
    minimum: float | None
    maximum: float | None
    counts: np.ndarray

    @staticmethod
    def of(column: np.ndarray, edges: np.ndarray) -> ColumnCounts:
        """The counts of ``column`` (n,), NaN where missing, between ``edges`` (E,)."""
        seen = finite_values(column)
        return ColumnCounts(
            missing=len(column) - len(seen),
            minimum=float(seen.min()) if len(seen) else None,
            maximum=float(seen.max()) if len(seen) else None,
            counts=count_half_open(column, edges),
        )

    def __add__(self, other: ColumnCounts) -> ColumnCounts:
        least = [each for each in (self.minimum, other.minimum) if each is not None]
        greatest = [each for each in (self.maximum, other.maximum) if each is not None]
        return ColumnCounts(
            missing=self.missing + other.missing,
            minimum=min(least, default=None),
            maximum=max(greatest, default=None),
            counts=self.counts + other.counts,
        )

    def to_json(self, name: str, edges: np.ndarray) -> dict[str, Any]:
        """The column's entry in the card, as plain JSON values.

        ``counts[i]`` is the number of values at or above ``edges[i - 1]`` and below ``edges[i]``; the first and the
        last interval are open.
        """
        total = self.missing + int(self.counts.sum())
        return {
            "name": name,
            "missing_share": round(self.missing / max(1, total), 6),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "edges": edges.tolist(),
            "counts": self.counts.tolist(),
        }


def columns_edges(sample: np.ndarray) -> list[np.ndarray]:
    """The edges, at most BINS + 1, of each column of ``sample`` (n, columns); no edges if all values are missing."""
    return [bin_edges(column, BINS) for column in sample.T]


def count_columns(values: np.ndarray, edges: Sequence[np.ndarray]) -> list[ColumnCounts]:
    """The counts of each column of ``values`` (n, columns) between its edges."""
    return [ColumnCounts.of(column, own) for column, own in zip(values.T, edges, strict=True)]


def columns_summary(
    parts: Iterable[Sequence[ColumnCounts]], names: Sequence[str], edges: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """The counts of all files (at least one) added up: one entry of the card for each name."""
    whole = (reduce(ColumnCounts.__add__, of_column) for of_column in zip(*parts, strict=True))
    return [counts.to_json(name, own) for name, counts, own in zip(names, whole, edges, strict=True)]


def summarise_columns(spark: SparkSession, files: Sequence[str], tensors: int, names: Sequence[str]) -> list[dict]:
    """Ranges and histograms of every named column over all files, counted in executors.

    Args:
        spark: The session whose executors read the files.
        files: Paths of the dataset's Parquet files, at least one.
        tensors: Number of rows in all files.
        names: Names of the annotations, then of the site features, in the order of :func:`read_columns`.
    """
    stride = max(1, -(-tensors // SAMPLE_ROWS))
    slices = min(len(files), 4 * spark.sparkContext.defaultParallelism)
    paths = spark.sparkContext.parallelize(files, slices)
    sampled = paths.map(lambda path: (path, read_columns(path)[::stride])).collect()
    edges = columns_edges(np.concatenate([values for _, values in sorted(sampled, key=lambda pair: pair[0])]))
    return columns_summary(paths.map(lambda path: count_columns(read_columns(path), edges)).collect(), names, edges)
