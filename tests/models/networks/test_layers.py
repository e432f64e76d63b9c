"""The layers, and how bins are chosen, against slow and obvious versions."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from cnnspark.models.networks import layers as ours
from cnnspark.models.spec import BINS, NEVER_SEEN, quantile_edges
from cnnspark.tensors.schema import MATE_ROW, WINDOW


def test_base_channels_equal_a_loop_over_every_cell(batch: dict) -> None:
    rng = np.random.default_rng(1)
    bases = rng.integers(0, 7, (3, 5, WINDOW)).astype(np.uint8)
    reference, alternate = rng.integers(0, 7, (2, 3, WINDOW)).astype(np.uint8)
    mask = np.ones((3, 5), np.float32)
    mask[1, 3:] = 0
    got = np.asarray(ours.BaseChannels()(bases, reference, alternate, mask))
    expected = np.zeros((3, 5, WINDOW, 8))
    for b, r, w in np.ndindex(bases.shape):
        code = bases[b, r, w]
        if not mask[b, r] or code == 0:
            continue
        expected[b, r, w, code - 1] = 1
        for channel, window in ((6, reference), (7, alternate)):
            if code <= 4 and window[b, w] not in (0, 5) and code != window[b, w]:
                expected[b, r, w, channel] = 1
    np.testing.assert_array_equal(got, expected)


def test_row_channels_know_an_unknown_mapping_quality_and_the_flags() -> None:
    flags, mapqs = np.array([[0x1 | 0x10 | 0x40 | MATE_ROW, 0]], np.int32), np.array([[255, 30]], np.uint8)
    support, bases = np.array([[2, 0]], np.uint8), np.zeros((1, 2, WINDOW), np.uint8)
    bases[0, 0, :32] = 6
    got = np.asarray(ours.RowChannels()(flags, mapqs, support, bases, np.ones((1, 2), np.float32)))
    np.testing.assert_allclose(got[0, 0], [0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0.25, 0, 1])
    np.testing.assert_allclose(got[0, 1], [0.5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])


def test_supports_are_counted_by_orientation() -> None:
    flags = np.array([[99, 147, 83, 163, 0, 99]], np.int32)  # F1R2, F1R2, F2R1, F2R1, unpaired; padding
    support = np.array([[2, 2, 2, 1, 2, 2]], np.uint8)
    mask = np.array([[1, 1, 1, 1, 1, 0]], np.float32)
    got = np.asarray(ours.SupportCounts()(support, flags, mask))[0]
    np.testing.assert_allclose(got[:8], [*np.log1p([0, 1, 4, 0]), 0, 0.2, 0.8, 0], rtol=1e-6)
    np.testing.assert_allclose(got[8:11], [*np.log1p([0, 1]), 0.25], rtol=1e-6)  # REF
    np.testing.assert_allclose(got[11:], [*np.log1p([2, 1]), 0.625], rtol=1e-6)  # ALT


def test_pooling_equals_numpy_over_the_reads_of_each_group() -> None:
    rng = np.random.default_rng(2)
    x, support = rng.normal(size=(3, 6, 4, 5)).astype(np.float32), rng.integers(0, 4, (3, 6)).astype(np.uint8)
    mask = (np.arange(6) < np.array([[6], [2], [0]])).astype(np.float32)
    support[1, :2] = 1  # nothing supports the ALT
    got = np.asarray(ours.PoolReads()(x, mask, support))
    for b in range(3):
        inside = mask[b] > 0
        groups = [x[b, inside], x[b, inside & (support[b] == 1)], x[b, inside & (support[b] == 2)]]
        parts = [g.mean(axis=0) if len(g) else np.zeros((4, 5)) for g in groups]
        parts.append(groups[0].max(axis=0) if len(groups[0]) else np.zeros((4, 5)))
        np.testing.assert_allclose(got[b], np.concatenate(parts, axis=-1), atol=1e-6)


def test_quantile_codes_equal_a_loop_over_the_bins() -> None:
    rng = np.random.default_rng(3)
    sample = np.stack([rng.normal(size=200), rng.integers(0, 2, 200), np.full(200, np.nan), np.full(200, 2)], axis=1)
    edges = quantile_edges(sample)
    assert edges[2] == (pytest.approx(NEVER_SEEN),) * (BINS + 1)
    values = np.array(
        [[-99, 0, 1, 2], [0.3, 1, np.nan, np.nan], [np.nan, np.nan, np.nan, 1], [99, 0.5, np.inf, 3]], np.float32
    )
    got = np.asarray(ours.QuantileEncoding(edges)(values)).reshape(4, 4, BINS + 2)
    for (i, j), value in np.ndenumerate(values):
        expected = np.zeros(BINS + 2)
        if np.isnan(value) or j == 2:  # the third was never seen
            expected[-1] = 1
        else:
            row = np.array(edges[j], np.float32)
            for k in range(BINS):
                low, high = row[k], row[k + 1]
                expected[k] = float(value >= high) if high == low else min(1, max(0, (value - low) / (high - low)))
            scale = row[-2] - row[1] or row[-1] - row[0] or 1
            expected[BINS] = min(3, max(-3, (value - row[BINS // 2]) / scale))
        np.testing.assert_allclose(got[i, j], expected, atol=1e-5)


def test_a_value_that_is_nearly_everywhere_leaves_bins_to_the_rest() -> None:
    def slow(column: np.ndarray) -> list[float]:
        """Each value written down as often as it may count, in order; then every n-th of the list."""
        most = len(column) // (4 * BINS)
        kept = [v for v in sorted(set(column)) for _ in range(min(most, int((column == v).sum())))]
        inner = [kept[-(-len(kept) * k // BINS) - 1] for k in range(1, BINS)]
        row = sorted({kept[0], *inner, kept[-1]})
        return row + row[-1:] * (BINS + 1 - len(row))

    rng = np.random.default_rng(4)
    sparse = np.concatenate([np.zeros(1540), rng.random(60)])
    columns = [sparse, rng.normal(size=1600), rng.integers(0, 3, 1600), rng.poisson(0.5, 1600), np.full(1600, 7.0)]
    got = quantile_edges(np.stack(columns, axis=1))
    for column, row in zip(columns, got, strict=True):
        np.testing.assert_allclose(row, slow(column.astype(np.float32)))
    assert 0.2 < got[0][1] < 0.8  # of plain quantiles only the last is not 0
    np.testing.assert_allclose(got[1], np.quantile(columns[1], np.linspace(0, 1, BINS + 1)), atol=0.02)
    assert got[4] == (7.0,) * (BINS + 1)


def test_noise_is_a_hash_of_seed_step_and_example_with_the_promised_rate() -> None:
    keys = ours.noise_keys(np.arange(-500, 500, dtype=np.int32), seed=1, step=7)
    assert keys.dtype == np.int32 and len(set(keys.tolist())) == 1000
    layer = ours.KeyedDropout(0.3, salt=1)
    x = np.ones((1000, 64), np.float32)
    got = np.asarray(layer(x, keys, training=True))
    assert set(np.unique(got).tolist()) == {0.0, np.float32(1 / 0.7)}
    dropped = got == 0
    # 64,000 draws: 4 standard errors are 0.007; of one unit or one example, 0.06 and 0.23
    assert abs(dropped.mean() - 0.3) < 0.007
    assert np.abs(dropped.mean(axis=0) - 0.3).max() < 0.06
    assert np.abs(dropped.mean(axis=1) - 0.3).max() < 0.25
    # neighbouring units and examples are independent
    assert abs(np.corrcoef(dropped[:, :-1].ravel(), dropped[:, 1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(dropped[:-1].ravel(), dropped[1:].ravel())[0, 1]) < 0.02
    # an example is treated alike wherever it stands; another seed, step or layer treats it differently
    np.testing.assert_array_equal(np.asarray(layer(x[:10], keys[990:], training=True)), got[990:])
    for other in (ours.noise_keys(np.arange(-500, 500), 2, 7), ours.noise_keys(np.arange(-500, 500), 1, 8)):
        assert ((np.asarray(layer(x, other, training=True)) == 0) != dropped).mean() > 0.4
    assert ((np.asarray(ours.KeyedDropout(0.3, salt=2)(x, keys, training=True)) == 0) != dropped).mean() > 0.4
    np.testing.assert_array_equal(np.asarray(layer(x, keys, training=False)), x)


def test_the_hash_equals_murmur3_in_unsigned_arithmetic() -> None:
    values = np.random.default_rng(0).integers(-(2**31), 2**31, 1000).astype(np.int32)

    def fmix32(h: int) -> int:  # Appleby's MurmurHash3.cpp
        h ^= h >> 16
        h = h * 0x85EBCA6B & 0xFFFFFFFF
        h ^= h >> 13
        h = h * 0xC2B2AE35 & 0xFFFFFFFF
        return h ^ h >> 16

    expected = np.array([fmix32(int(v) & 0xFFFFFFFF) for v in values], np.uint32)
    np.testing.assert_array_equal(np.asarray(ours._mix(keras.ops.convert_to_tensor(values))).view(np.uint32), expected)
    np.testing.assert_array_equal(ours._mix_numpy(values.view(np.uint32)), expected)
