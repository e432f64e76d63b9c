"""The comparison of a callset's inputs with the training data: distances by hand, false alarms, and what is said."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from cnnspark.models.input_drift import (
    BINS,
    HIGHEST_LIMIT,
    LEAST_ALLELES,
    LIMIT,
    Comparison,
    KnownValues,
    TrainedHistogram,
    add_counts,
    compare,
    count_values,
    distance,
    known_values,
    pack_counts,
)

NAN = float("nan")
NAMES = ("INFO/DP", "INFO/FS", "calls_1000")


def alleles(count: int, seed: int, depth: float = 30.0, cluster: int = 40) -> np.ndarray:
    """Depth by chance, a strand bias that is missing in a fifth, and a feature that neighbours share: (count, 3)."""
    rng = np.random.default_rng(seed)
    bias = rng.exponential(3, count)
    bias[rng.random(count) < 0.2] = NAN
    shared = np.repeat(rng.normal(size=count // cluster + 1), cluster)[:count]
    return np.stack([rng.poisson(depth, count), bias, shared], axis=1).astype(np.float32)


KNOWN = known_values(NAMES, alleles(6000, seed=1))


def compared(values: np.ndarray, known: KnownValues = KNOWN) -> Comparison:
    return compare(known, count_values(known, values))


def test_the_distance_is_the_share_that_would_have_to_move() -> None:
    assert distance([2, 2], [4, 4]) == 0
    assert distance([1, 0], [0, 5]) == 1
    assert distance([5, 3, 2], [2, 3, 5]) == pytest.approx(0.3)
    assert distance([0, 0], [1, 1]) == 0  # nothing to compare


def test_values_are_counted_by_hand() -> None:
    histogram = TrainedHistogram("x", (1.0, 2.0, 4.0), (0, 0, 1, 1, 0), 1.0)
    values = np.array([NAN, np.inf, 0.9, 1.0, 1.9, 2.0, 3.0, 4.0, 4.1, 9.0], np.float32)[:, None]
    # missing (also if infinite), below 1, [1, 2), [2, 4], above 4
    assert count_values(KnownValues(2, (histogram,)), values) == [[2, 1, 2, 3, 2]]


def test_one_value_alone_is_a_bin_and_none_is_none() -> None:
    known = known_values(("same", "never"), np.array([[5.0, NAN]] * 10, np.float32))
    assert known.histograms[0].edges == (5.0,) and known.histograms[1].edges == ()
    found = count_values(known, np.array([[4.0, NAN], [5.0, 1.0], [6.0, NAN], [NAN, NAN]], np.float32))
    assert found == [[1, 1, 1, 1], [3, 0, 1]]


def test_training_values_lie_in_the_bins_about_a_tenth_in_each() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    counts = known_values(("x",), values).histograms[0].counts
    assert counts[:2] == (0, 0) and counts[-1] == 0
    assert len(counts) == BINS + 3 and all(count == 100 for count in counts[2:-1])


def test_the_blocks_counts_add_up_to_those_of_the_whole() -> None:
    values = alleles(1000, seed=2)
    for parts in (1, 3, 16):
        packed = [pack_counts(count_values(KNOWN, part)) for part in np.array_split(values, parts)]
        assert add_counts(KNOWN, packed) == count_values(KNOWN, values)
    # a row of an earlier version has no counts, a block without alleles counts of 0
    nothing = pack_counts(count_values(KNOWN, values[:0]))
    assert add_counts(KNOWN, [[], nothing, *packed]) == count_values(KNOWN, values)


def test_what_neighbours_share_has_more_noise() -> None:
    independent, _, shared = (histogram.noise for histogram in KNOWN.histograms)
    assert shared > 2 * independent
    # about that of independent draws of a multinomial: half the sum of mean absolute deviations, and a bit
    counts = np.array(KNOWN.histograms[0].counts)
    p = counts / counts.sum()
    mean = 0.5 * np.sqrt(2 * p * (1 - p) / np.pi).sum()
    assert mean < independent < 2 * mean


@pytest.mark.parametrize(("count", "most"), [(20, 1), (50, 1), (200, 1), (1000, 0)])
def test_alleles_of_the_same_kind_raise_no_alarm(count: int, most: int) -> None:
    alarms = [bool(compared(alleles(count, seed=100 + i)).outside) for i in range(50)]
    assert sum(alarms) <= most


@pytest.mark.parametrize("count", [60, 300, 3000])
def test_half_the_depth_raises_one_and_a_tenth_less_does_not(count: int) -> None:
    found = compared(alleles(count, seed=3, depth=15))
    assert [each.name for each in found.outside] == ["INFO/DP"]
    assert not compared(alleles(count, seed=4, depth=28)).outside


def test_an_annotation_that_another_caller_does_not_write_is_said_however_few_alleles() -> None:
    values = alleles(LEAST_ALLELES, seed=5)
    values[:, 1] = NAN
    (found,) = [each for each in compared(values).inputs if each.name == "INFO/FS"]
    assert found.distance == pytest.approx(1 - found.trained_missing)
    assert not found.known
    assert [each.name for each in compared(values).outside] == ["INFO/FS"]


def test_the_sentence_says_what_differs_with_figures_and_a_remedy() -> None:
    values = alleles(500, seed=6)
    values[:, 0] = 5000
    values[:, 1] = NAN
    text = compared(values).sentence()
    assert text == (
        "2 of 3 model inputs are distributed differently from the training data: INFO/DP (distance 1.00), "
        "INFO/FS (missing) (see guard.json); use or train a model for this caller, depth and sequencing"
    )
    assert compared(alleles(500, seed=7)).sentence() == ""


def test_an_annotation_that_training_never_had_is_said() -> None:
    values = alleles(300, seed=11)
    known = known_values(NAMES, np.where([[True, False, True]], alleles(6000, seed=1), np.float32(NAN)))
    text = compared(values, known).sentence()
    assert text.startswith("1 of 3 model inputs is distributed differently from the training data: ")
    assert ": INFO/FS (not in the training data) (see" in text


def test_many_strange_inputs_are_counted_not_listed() -> None:
    names = tuple(f"x{i}" for i in range(20))
    values = np.random.default_rng(0).normal(size=(400, 20))
    known = known_values(names, values)
    text = compared(values + 10, known).sentence()
    assert text.count("distance") == 3 and "and 17 more (see guard.json)" in text
    text = compared(np.full((400, 20), NAN), known).sentence()
    assert re.search(r"20 of 20 model inputs are [^:]+: (x\d+ \(missing\),? ){3}and 17 more \(see", text)
    assert len(text) < 250


def test_fewer_alleles_than_say_anything_are_not_compared() -> None:
    found = compared(alleles(LEAST_ALLELES - 1, seed=8) * 100)
    assert found.to_json() == {"alleles": LEAST_ALLELES - 1, "compared": False, "outside": [], "inputs": []}
    assert compare(KNOWN, add_counts(KNOWN, [])).alleles == 0


def test_the_limit_is_wider_for_few_alleles_and_for_a_small_training_set() -> None:
    def limit(known: KnownValues, count: int) -> float:
        return compared(alleles(count, seed=9), known).inputs[0].limit

    small = known_values(NAMES, alleles(120, seed=1))
    assert LIMIT < limit(KNOWN, 6000) < limit(KNOWN, 200) < limit(KNOWN, 30) <= HIGHEST_LIMIT
    assert limit(KNOWN, 200) < limit(small, 200)
    assert limit(known_values(NAMES, alleles(60, seed=1)), 30) > 0.8  # one chunk says nothing of its noise


def test_json_and_back() -> None:
    assert KnownValues.from_json(json.loads(json.dumps(asdict(KNOWN)))) == KNOWN
    table = compared(alleles(300, seed=10)).to_json()
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    broken = json.loads(json.dumps(asdict(KNOWN)))
    broken["histograms"][0]["counts"].pop()
    with pytest.raises(ValueError, match="INFO/DP"):
        KnownValues.from_json(broken)


def test_a_model_of_several_datasets_is_compared_with_the_nearest() -> None:
    rng = np.random.default_rng(3)
    depths = [rng.poisson(mean, 3000) for mean in (20, 30, 40)]
    values = np.stack([np.concatenate(depths), np.full(9000, np.nan)], axis=1).astype(np.float32)
    datasets = np.repeat([0, 1, 2], 3000)
    values[datasets == 2, 1] = rng.normal(size=3000)  # an annotation that one caller has
    known = KnownValues.from_json(json.loads(json.dumps(asdict(known_values(("DP", "X"), values, datasets)))))
    assert known == known_values(("DP", "X"), values, datasets) and len(known.parts) == 3
    assert known.histograms == known_values(("DP", "X"), values).histograms
    for mean, has_x, outside in (
        (20, False, []),
        (40, True, []),
        (31, False, []),
        (30, True, ["DP"]),
        (80, False, ["DP"]),
    ):
        x = rng.normal(size=1000) if has_x else np.full(1000, np.nan)
        callset = np.stack([rng.poisson(mean, 1000), x], axis=1).astype(np.float32)
        compared = compare(known, count_values(known, callset))
        assert [each.name for each in compared.outside] == outside, (mean, has_x)
