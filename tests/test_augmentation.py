"""Thinner reads and the other strand: what changes, what stays, and that nothing but seed, step and allele decide."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspark.augmentation import augment, drop_rows, flip_strands, uniform
from cnnspark.features import SITE_FEATURES
from cnnspark.models.spec import ModelSpec
from tests.synthetic_training import PER_READ, synthetic_batch

ANNOTATIONS = ("QUAL", "INFO/SAF", "INFO/SAR", "INFO/FS", "INFO/MQSBZ", "FORMAT/SAF")
EDGES = (tuple(float(i) for i in range(9)),)
SPEC = ModelSpec(ANNOTATIONS, SITE_FEATURES, EDGES * len(ANNOTATIONS), EDGES * len(SITE_FEATURES))


def batch_of(count: int, rows: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    return synthetic_batch(count, seed, rows, len(ANNOTATIONS), len(SITE_FEATURES))


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**31), 2**31, count).astype(np.int32)


def test_draws_are_even_and_of_each_key_alone() -> None:
    draws = uniform(keys(100_000), salt=7)
    assert draws.min() >= 0 and draws.max() < 1
    counts, _ = np.histogram(draws, 20, (0, 1))
    assert abs(counts - 5000).max() < 5 * np.sqrt(5000)
    np.testing.assert_array_equal(uniform(keys(10), 7), draws[:10])
    assert abs(np.corrcoef(draws, uniform(keys(100_000), salt=8))[0, 1]) < 0.02


def test_dropping_keeps_rows_whole_in_order_and_at_least_one() -> None:
    batch, noise = batch_of(300), keys(300)
    batch["row_count"][:5] = 1
    before = {name: values.copy() for name, values in batch.items()}
    thinned = drop_rows(batch, noise, 0.9)
    assert (thinned["row_count"] >= 1).all() and (thinned["row_count"] <= batch["row_count"]).all()
    assert thinned["read_flags"].shape[1] % 8 == 0 and thinned["read_flags"].shape[1] >= thinned["row_count"].max()
    for i in range(300):  # the slow way: each row that is left is found further down in the original
        at = -1
        for row in range(thinned["row_count"][i]):
            at += 1
            while not all(np.array_equal(thinned[name][i, row], batch[name][i, at]) for name in PER_READ):
                at += 1
            assert at < batch["row_count"][i]
        for name in PER_READ:
            assert not thinned[name][i, thinned["row_count"][i] :].any()
    for name, values in before.items():
        np.testing.assert_array_equal(batch[name], values)
        if name not in (*PER_READ, "row_count"):
            np.testing.assert_array_equal(thinned[name], values)


def test_the_share_that_is_dropped_lies_evenly_between_nothing_and_the_setting() -> None:
    batch = batch_of(2000, rows=128, seed=1)
    batch["row_count"][:] = 128
    kept = drop_rows(batch, keys(2000), 0.6)["row_count"] / 128
    assert kept.mean() == pytest.approx(0.7, abs=0.02)
    assert kept.min() == pytest.approx(0.4, abs=0.12) and kept.max() == 1
    assert np.quantile(kept, 0.25) == pytest.approx(0.55, abs=0.03)


def test_an_example_is_changed_alike_in_any_batch_and_padding() -> None:
    batch, noise = batch_of(40), keys(40)
    whole = augment(batch, noise, 0.5, True, SPEC)
    for i in (0, 17, 39):
        alone = {name: values[i : i + 1] for name, values in batch.items()}
        for name in PER_READ:
            padding = [(0, 0), (0, 16), *[(0, 0)] * (alone[name].ndim - 2)]
            alone[name] = np.pad(alone[name], padding)
        single = augment(alone, noise[i : i + 1], 0.5, True, SPEC)
        rows = single["row_count"][0]
        assert rows == whole["row_count"][i]
        for name, values in single.items():
            if name in PER_READ:
                np.testing.assert_array_equal(values[0, :rows], whole[name][i, :rows])
            else:
                np.testing.assert_array_equal(values[0], whole[name][i])


def test_nothing_changes_where_nothing_is_asked_for_and_without_reads_only_numbers_do() -> None:
    batch, noise = batch_of(20), keys(20)
    for name, values in augment(batch, noise, 0.0, False, SPEC).items():
        np.testing.assert_array_equal(values, batch[name])
    bare = {name: values[:, :, :0] if values.ndim == 3 else values for name, values in batch.items()}
    bare |= {name: bare[name].reshape(20, -1)[:, :0] for name in ("read_flags", "read_mapqs", "read_support")}
    bare["row_count"] = np.zeros(20, np.int32)
    turned = augment(bare, noise, 0.5, True, SPEC)
    assert not np.array_equal(turned["site_features"], bare["site_features"])
    empty = {name: values[:0] for name, values in batch.items()}
    assert len(augment(empty, noise[:0], 0.5, True, SPEC)["label"]) == 0


def test_the_other_strand_toggles_both_mates_and_leaves_the_rest_of_the_flag() -> None:
    # 99/147 and 83/163 are the two ways in which a proper pair lies; SAM specification 1.4, FLAG
    flags = np.array([[99, 147, 83, 163, 0, 16, 0x9 | 0x40, 0x1063]], np.int32)
    batch = {"read_flags": flags, "row_count": np.array([8], np.int32)}
    turned = flip_strands(batch, np.array([True]), (), ())["read_flags"]
    # unpaired reads have no mate, and an unmapped mate no strand
    assert turned.tolist() == [[83, 163, 99, 147, 16, 0, 0x9 | 0x40 | 0x10, 0x1053]]
    batch["row_count"] = np.array([2], np.int32)
    assert flip_strands(batch, np.array([True]), (), ())["read_flags"].tolist()[0][2:] == flags.tolist()[0][2:]
    np.testing.assert_array_equal(flip_strands(batch, np.array([False]), (), ())["read_flags"], flags)


def test_numbers_by_strand_change_places_and_twice_is_nothing() -> None:
    batch = batch_of(6)
    batch["site_features"] = np.random.default_rng(0).random(batch["site_features"].shape).astype(np.float32)
    batch["annotations"][0, 1] = np.nan
    flipped = np.array([True, False, True, True, False, True])
    turned = flip_strands(batch, flipped, ANNOTATIONS, SITE_FEATURES)
    old, new = batch["annotations"], turned["annotations"]
    np.testing.assert_array_equal(new[flipped][:, [0, 1, 2, 3]], old[flipped][:, [0, 2, 1, 3]])
    np.testing.assert_array_equal(new[flipped, 4], -old[flipped, 4])
    np.testing.assert_array_equal(new[:, 5], old[:, 5])  # FORMAT/SAF has no partner here
    at = {name: i for i, name in enumerate(SITE_FEATURES)}
    old, new = batch["site_features"], turned["site_features"]
    for group in ("ref", "alt"):
        column = at[f"{group}_forward_fraction"]
        np.testing.assert_array_equal(new[flipped, column], 1 - old[flipped, column])
    column = at["difference_forward_fraction"]
    np.testing.assert_array_equal(new[flipped, column], -old[flipped, column])
    others = [i for name, i in at.items() if "forward" not in name]
    np.testing.assert_array_equal(new[:, others], old[:, others])
    np.testing.assert_array_equal(new[~flipped], old[~flipped])
    again = flip_strands(turned, flipped, ANNOTATIONS, SITE_FEATURES)
    for name, values in batch.items():
        np.testing.assert_allclose(again[name], values, atol=1e-7)


def test_half_of_the_examples_are_flipped() -> None:
    batch = batch_of(2000)
    turned = augment(batch, keys(2000), 0.0, True, SPEC)
    changed = (turned["read_flags"][:, 0] != batch["read_flags"][:, 0]).mean()
    assert changed == pytest.approx(0.5, abs=0.05)
