"""What a tensor dataset holds, for its card: ranges and histograms of every annotation and site feature, and digests.

The card is what a later callset is compared with, and what a person looks at before training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from cnnspark.common.storage import location

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COLUMNS = ("annotations", "site_features")
BINS = 20
# Values of each column that the bins' edges are chosen from; the counts are of all values.
SAMPLE_ROWS = 20_000


def file_sha256(path: Path) -> str:
    """SHA-256 of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content_digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """One digest of all blocks' files, in the blocks' order."""
    return hashlib.sha256("".join(f"{row['block']}:{row['sha256']};" for row in rows).encode()).hexdigest()


def read_columns(path: str) -> np.ndarray:
    """Annotations and site features of one file side by side: float32 (n, A + F)."""
    with location(path).open("rb") as file:
        table = pq.read_table(file, columns=list(COLUMNS))
    return np.concatenate([np.stack(table[name].to_numpy()) for name in COLUMNS], axis=1).astype(np.float32)


def bin_edges(sample: np.ndarray) -> list[np.ndarray]:
    """Distinct quantiles of each column of ``sample`` (n, columns), at most BINS + 1; empty where all are missing."""
    edges = []
    for column in sample.T:
        seen = column[np.isfinite(column)].astype(np.float64)
        edges.append(np.unique(np.quantile(seen, np.linspace(0, 1, BINS + 1))) if len(seen) else np.zeros(0))
    return edges


def count_bins(values: np.ndarray, edges: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Per column: missing values, least and greatest, and how many lie below, between and above the edges."""
    counted = []
    for column, of_column in zip(values.T.astype(np.float64), edges, strict=True):
        seen = column[np.isfinite(column)]
        places = np.searchsorted(of_column, seen, side="right")
        counted.append(
            {
                "n": len(column),
                "missing": int(len(column) - len(seen)),
                "minimum": float(seen.min()) if len(seen) else None,
                "maximum": float(seen.max()) if len(seen) else None,
                "counts": np.bincount(places, minlength=len(of_column) + 1),
            }
        )
    return counted


def add_counts(parts: Iterable[Sequence[Mapping[str, Any]]], names: Sequence[str], edges: Sequence[np.ndarray]) -> list:
    """The parts' counts added up, one entry for each name, ready for JSON."""
    parts = list(parts)
    summary = []
    for i, name in enumerate(names):
        of_name = [part[i] for part in parts]
        least = [p["minimum"] for p in of_name if p["minimum"] is not None]
        greatest = [p["maximum"] for p in of_name if p["maximum"] is not None]
        total = sum(p["n"] for p in of_name)
        summary.append(
            {
                "name": name,
                "missing_share": round(sum(p["missing"] for p in of_name) / max(1, total), 6),
                "minimum": min(least, default=None),
                "maximum": max(greatest, default=None),
                # counts[i] values lie at or above edges[i - 1] and below edges[i]; the first and last are open.
                "edges": [float(edge) for edge in edges[i]],
                "counts": [int(n) for n in sum((p["counts"] for p in of_name), np.zeros(len(edges[i]) + 1, np.int64))],
            }
        )
    return summary


def summarise_columns(spark: SparkSession, files: Sequence[str], tensors: int, names: Sequence[str]) -> list[dict]:
    """Ranges and histograms of every named column over all files, counted in executors."""
    stride = max(1, -(-tensors // SAMPLE_ROWS))
    slices = min(len(files), 4 * spark.sparkContext.defaultParallelism)
    paths = spark.sparkContext.parallelize(files, slices)
    sampled = paths.map(lambda path: (path, read_columns(path)[::stride])).collect()
    edges = bin_edges(np.concatenate([values for _, values in sorted(sampled, key=lambda pair: pair[0])]))
    return add_counts(paths.map(lambda path: count_bins(read_columns(path), edges)).collect(), names, edges)
