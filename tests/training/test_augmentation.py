"""Thinner reads and the other strand: what changes, what stays, and that nothing but seed, step and allele decide."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.training.augmentation import augment, drop_rows, flip_strands, uniform
from tests.support.synthetic_training import PER_READ, synthetic_batch

ANNOTATIONS = ("QUAL", "INFO/F1R2", "INFO/F2R1", "INFO/FS", "INFO/MQSBZ", "FORMAT/F1R2")


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
    whole = augment(batch, noise, 0.5, True, ANNOTATIONS, SITE_FEATURES)
    for i in (0, 17, 39):
        alone = {name: values[i : i + 1] for name, values in batch.items()}
        for name in PER_READ:
            padding = [(0, 0), (0, 16), *[(0, 0)] * (alone[name].ndim - 2)]
            alone[name] = np.pad(alone[name], padding)
        single = augment(alone, noise[i : i + 1], 0.5, True, ANNOTATIONS, SITE_FEATURES)
        rows = single["row_count"][0]
        assert rows == whole["row_count"][i]
        for name, values in single.items():
            if name in PER_READ:
                np.testing.assert_array_equal(values[0, :rows], whole[name][i, :rows])
            else:
                np.testing.assert_array_equal(values[0], whole[name][i])


def test_nothing_changes_where_nothing_is_asked_for_and_without_reads_only_numbers_do() -> None:
    batch, noise = batch_of(20), keys(20)
    for name, values in augment(batch, noise, 0.0, False, ANNOTATIONS, SITE_FEATURES).items():
        np.testing.assert_array_equal(values, batch[name])
    bare = {name: values[:, :, :0] if values.ndim == 3 else values for name, values in batch.items()}
    bare |= {name: bare[name].reshape(20, -1)[:, :0] for name in ("read_flags", "read_mapqs", "read_support")}
    bare["row_count"] = np.zeros(20, np.int32)
    turned = augment(bare, noise, 0.5, True, ANNOTATIONS, SITE_FEATURES)
    assert not np.array_equal(turned["annotations"], bare["annotations"])
    empty = {name: values[:0] for name, values in batch.items()}
    assert len(augment(empty, noise[:0], 0.5, True, ANNOTATIONS, SITE_FEATURES)["label"]) == 0


def test_from_the_other_strand_first_and_second_change_places_and_mates_lie_as_they_lay() -> None:
    # 99/147 and 83/163 are the two ways in which a proper pair lies; SAM specification 1.4, FLAG
    flags = np.array([[99, 147, 83, 163, 0, 16, 0x9 | 0x40, 0x1063, 0x1 | 0xC0]], np.int32)
    batch = {"read_flags": flags, "row_count": np.array([9], np.int32)}
    turned = flip_strands(batch, np.array([True]), (), ())["read_flags"]
    # unpaired reads have no mate; a read that is both first and second is neither
    assert turned.tolist() == [[163, 83, 147, 99, 0, 16, 0x9 | 0x80, 0x10A3, 0x1 | 0xC0]]
    np.testing.assert_array_equal(flip_strands(batch, np.array([False]), (), ())["read_flags"], flags)


def test_orientations_change_places_and_twice_is_nothing() -> None:
    batch = batch_of(6)
    batch["annotations"][0, 1] = np.nan
    flipped = np.array([True, False, True, True, False, True])
    turned = flip_strands(batch, flipped, ANNOTATIONS, SITE_FEATURES)
    old, new = batch["annotations"], turned["annotations"]
    np.testing.assert_array_equal(new[flipped][:, [0, 1, 2, 3, 4]], old[flipped][:, [0, 2, 1, 3, 4]])
    np.testing.assert_array_equal(new[:, 5], old[:, 5])  # FORMAT/F1R2 has no partner here
    np.testing.assert_array_equal(new[~flipped], old[~flipped])
    places = [i for i, name in enumerate(SITE_FEATURES) if "f1r2" in name]
    assert len(places) == 3
    shares, old = turned["site_features"][:, places], batch["site_features"][:, places]
    np.testing.assert_array_equal(shares[flipped], 1 - old[flipped])
    np.testing.assert_array_equal(shares[~flipped], old[~flipped])
    others = np.setdiff1d(np.arange(len(SITE_FEATURES)), places)
    np.testing.assert_array_equal(turned["site_features"][:, others], batch["site_features"][:, others])
    again = flip_strands(turned, flipped, ANNOTATIONS, SITE_FEATURES)
    for name, values in batch.items():
        np.testing.assert_allclose(again[name], values, atol=1e-6 if name == "site_features" else 0)


def test_half_of_the_examples_are_flipped() -> None:
    batch = batch_of(2000)
    turned = augment(batch, keys(2000), 0.0, True, ANNOTATIONS, SITE_FEATURES)
    changed = (turned["read_flags"][:, 0] != batch["read_flags"][:, 0]).mean()
    assert changed == pytest.approx(0.5, abs=0.05)


def test_so_many_examples_lose_all_annotations_and_the_others_none() -> None:
    batch, noise = batch_of(2000), keys(2000)
    batch["annotations"][:] = 1
    dropped = augment(batch, noise, 0.0, False, ANNOTATIONS, SITE_FEATURES, drop_annotations=0.3)
    missing = np.isnan(dropped["annotations"])
    assert (missing.all(axis=1) == missing.any(axis=1)).all()
    assert abs(missing.any(axis=1).mean() - 0.3) < 0.05
    np.testing.assert_array_equal(dropped["site_features"], batch["site_features"])
    assert (batch["annotations"] == 1).all()
