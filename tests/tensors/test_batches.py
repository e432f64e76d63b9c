"""Padding ragged tensors to dense batches."""

from __future__ import annotations

import numpy as np

from cnnspark.tensors.batches import ROW_STEP, ROWS_AT_ONCE, example_key, pad_rows, scoring_batches
from cnnspark.tensors.schema import FIELDS, WINDOW, AlleleKey, TensorBatch


def ragged(counts: list[int], seed: int = 0) -> TensorBatch:
    """Random tensors of alleles with these numbers of reads."""
    rng = np.random.default_rng(seed)
    sizes = {"R": sum(counts), "A": 3, "F": 4}
    arrays = {}
    for field in FIELDS:
        shape = [sizes[s] if isinstance(s, str) else s for s in field.shape]
        shape = shape if field.per_read else [len(counts), *shape]
        arrays[field.name] = rng.integers(0, 200, shape).astype(field.dtype)
    keys = [AlleleKey("c", i, "A", "C", 1, i, 0) for i in range(len(counts))]
    return TensorBatch(keys=keys, row_offsets=np.concatenate([[0], np.cumsum(counts)]), **arrays)


def test_padding_keeps_every_row_and_adds_zeros() -> None:
    tensors = ragged([3, 0, 9])
    batch = pad_rows(tensors, [2, 0, 1])
    assert batch["row_count"].tolist() == [9, 3, 0]
    assert batch["read_bases"].shape == (3, 16, WINDOW)
    for row, i in enumerate([2, 0, 1]):
        example = tensors.example(i)
        count = batch["row_count"][row]
        for field in FIELDS:
            values = batch[field.name][row]
            if field.per_read:
                assert np.array_equal(values[:count], example[field.name])
                assert not values[count:].any()
            else:
                assert np.array_equal(values, example[field.name])


def test_an_empty_allele_still_has_rows_to_pad() -> None:
    assert pad_rows(ragged([0]), [0])["read_flags"].shape == (1, ROW_STEP)


def test_scoring_batches_hold_each_allele_once() -> None:
    tensors = ragged([5, 1, 30, 2, 2, 17, 0])
    seen = []
    for chosen, batch in scoring_batches(tensors, 3):
        assert len(chosen) == len(batch["row_count"]) <= 3
        assert batch["row_count"].tolist() == np.diff(tensors.row_offsets)[chosen].tolist()
        seen += chosen.tolist()
    assert sorted(seen) == list(range(7))


def test_scoring_batches_are_as_large_as_their_rows_allow() -> None:
    """Rows by the slow and obvious way: an allele more would be too many."""
    counts = np.random.default_rng(1).integers(0, 128, 400).tolist()
    tensors = ragged([*counts, 2 * ROWS_AT_ONCE])
    found = [batch["read_flags"].shape for _, batch in scoring_batches(tensors, 32)]
    ascending = sorted([*counts, 2 * ROWS_AT_ONCE])
    expected = []
    while ascending:
        n = 1
        while n < min(32, len(ascending)) and (n + 1) * max(4, -(-ascending[n] // 4) * 4) <= ROWS_AT_ONCE:
            n += 1
        expected.append((n, max(4, -(-ascending[n - 1] // 4) * 4)))
        ascending = ascending[n:]
    assert found == expected
    assert found[0][0] == 32 > found[-2][0] and found[-1] == (1, 2 * ROWS_AT_ONCE)


def test_a_network_that_looks_at_no_reads_gets_none_and_larger_batches() -> None:
    tensors = ragged([40] * 10)
    found = list(scoring_batches(tensors, 2, ("site_features", "reference")))
    assert [len(chosen) for chosen, _ in found] == [8, 2]
    for chosen, batch in found:
        assert set(batch) == {"row_count", "site_features", "reference", "variant_type", "example_key"}
        assert np.array_equal(batch["site_features"], tensors.site_features[chosen])


def test_taking_and_concatenating_tensors_are_inverse() -> None:
    tensors = ragged([5, 1, 0, 7])
    again = TensorBatch.concatenate([tensors.take([0, 1]), tensors.take([2]), tensors.take([3])])
    assert again.keys == tensors.keys
    assert np.array_equal(again.row_offsets, tensors.row_offsets)
    for field in FIELDS:
        assert np.array_equal(getattr(again, field.name), getattr(tensors, field.name))
    assert len(tensors.take([])) == 0


def test_a_part_is_the_same_as_taking_it() -> None:
    tensors = ragged([5, 1, 0, 7])
    for first, last in ((0, 4), (1, 3), (2, 2), (3, 4)):
        part, taken = tensors.part(first, last), tensors.take(range(first, last))
        assert part.keys == taken.keys and part.row_offsets.tolist() == taken.row_offsets.tolist()
        for field in FIELDS:
            assert np.array_equal(getattr(part, field.name), getattr(taken, field.name))


def test_example_keys_are_the_same_in_every_process() -> None:
    # Written down once: noise, hence weights, depend on them.
    assert example_key("chr1", 99, "A", "C") == -550996034
    assert example_key("chr2", 5, "ACG", "T") == -632471098
