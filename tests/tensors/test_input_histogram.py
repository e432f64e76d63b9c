"""Histograms of named inputs against slow loops over the values, and what the dataset's and the model's card store."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from cnnspark.models.input_drift import known_values
from cnnspark.tensors.dataset_card import columns_summary, count_columns
from cnnspark.tensors.input_histogram import (
    Histogram,
    bin_edges,
    capped_bin_edges,
    cell_count,
    count_cells,
    count_half_open,
)

RNG = np.random.default_rng(5)
COLUMNS = {
    "continuous": RNG.normal(size=500),
    "counts": RNG.poisson(2, 500).astype(float),
    "two values": RNG.integers(0, 2, 500).astype(float),
    "one value": np.full(500, 7.0),
    "missing": np.full(500, np.nan),
    "often missing": np.where(RNG.random(500) < 0.4, np.nan, RNG.exponential(3, 500)),
    "infinite": np.where(RNG.random(500) < 0.1, np.inf, RNG.normal(size=500)),
    "empty": np.zeros(0),
}


def values_around(edges: np.ndarray) -> np.ndarray:
    """Every edge, values close to it on both sides, and a missing one."""
    return np.concatenate([edges, edges - 1e-6, edges + 1e-6, [-1e9, 1e9, np.nan, np.inf, -np.inf]])


@pytest.mark.parametrize("name", sorted(COLUMNS))
@pytest.mark.parametrize("bins", [1, 10, 20])
def test_every_value_is_counted_in_the_cell_that_a_loop_finds(name: str, bins: int) -> None:
    edges = bin_edges(COLUMNS[name], bins)
    assert (np.diff(edges) > 0).all() and len(edges) <= bins + 1
    for values in (COLUMNS[name], values_around(edges)):
        closed, half_open = [0] * cell_count(edges), [0] * (len(edges) + 1)
        for value in values:
            if not np.isfinite(value):
                closed[0] += 1
                continue
            half_open[sum(value >= edge for edge in edges)] += 1
            if not len(edges) or value > edges[-1]:
                closed[-1] += 1
            elif value < edges[0]:
                closed[1] += 1
            else:
                inside = max(i for i, edge in enumerate(edges) if value >= edge)
                closed[2 + min(inside, max(0, len(edges) - 2))] += 1
        assert count_cells(values, edges).tolist() == closed
        assert count_half_open(values, edges).tolist() == half_open


def test_the_edges_are_the_quantiles_of_the_values_that_are_there() -> None:
    assert bin_edges(np.array([3.0, np.nan, 1.0, 2.0, 5.0, 4.0, np.inf]), 4).tolist() == [1, 2, 3, 4, 5]
    assert bin_edges(np.array([np.nan, np.nan]), 4).tolist() == []


def test_a_frequent_value_fills_at_most_its_share_of_a_bin() -> None:
    column = np.concatenate([np.zeros(95), np.arange(1, 6)])
    assert bin_edges(column, 4).tolist() == [0, 5]
    # Zero weighs 100 * 0.25 / 4 = 6.25, the others 1 each: of 11.25 the steps are at 2.8, 5.6 and 8.4.
    assert capped_bin_edges(column, 4, 0.25).tolist() == [0, 3, 5]
    assert capped_bin_edges(np.array([np.nan]), 4, 0.25).tolist() == []


def test_the_missing_share_of_a_histogram() -> None:
    assert Histogram("x", (1.0, 2.0), (3, 0, 6, 1)).missing_share == 0.3
    assert Histogram("x", (), (0, 0, 0)).missing_share == 0.0


def test_the_cards_hold_the_same_bytes_as_those_of_earlier_versions() -> None:
    """Worked out by hand: earlier versions wrote these, and read them."""
    values, edges = np.array([[1.0], [2.0], [2.0], [np.nan], [9.0]], np.float32), [np.array([2.0, 4.0])]
    assert json.dumps(columns_summary([count_columns(values, edges)], ["DP"], edges)) == (
        '[{"name": "DP", "missing_share": 0.2, "minimum": 1.0, "maximum": 9.0, "edges": [2.0, 4.0], '
        '"counts": [1, 2, 1]}]'
    )
    (histogram,) = known_values(["DP"], np.array([[1.0], [1.0], [np.nan]], np.float32)).histograms
    assert json.dumps(asdict(histogram)) == '{"name": "DP", "edges": [1.0], "counts": [1, 0, 2, 0], "noise": 0.9901}'
