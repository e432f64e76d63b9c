"""Repeats at an allele, against symmetric DUST written out from its definition and runs counted letter by letter."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from cnnspark.formats.reference import encode_bases
from cnnspark.variants.repeats import DUST_SCORE, DUST_WINDOW, homopolymer_run, is_low_complexity


def slow_mask(sequence: str) -> list[bool]:
    """For each base whether a perfect interval holds it: Morgulis et al. 2006, definitions 1-3, without shortcuts."""
    masked = [False] * len(sequence)
    scores = {}
    for start in range(len(sequence) - 3):
        for end in range(start + 4, min(start + DUST_WINDOW, len(sequence)) + 1):
            triplets = [sequence[i : i + 3] for i in range(start, end - 2)]
            if "N" in sequence[start:end]:
                break
            counts = Counter(triplets).values()
            scores[start, end] = sum(c * (c - 1) / 2 for c in counts) / (len(triplets) - 1)
    best: dict[tuple[int, int], float] = {}
    for start, end in sorted(scores, key=lambda interval: interval[1] - interval[0]):
        parts = max(best.get((start + 1, end), 0.0), best.get((start, end - 1), 0.0))
        if scores[start, end] > DUST_SCORE and scores[start, end] >= parts:
            masked[start:end] = [True] * (end - start)
        best[start, end] = max(parts, scores[start, end])
    return masked


@pytest.mark.parametrize("unit", ["A", "CA", "AAT", "ACGTT", "ACGTTGCATCG"])
def test_low_complexity_is_what_symmetric_dust_masks(unit: str) -> None:
    rng = np.random.default_rng(len(unit))
    left, right = ("".join(rng.choice(list("ACGT"), 70)) for _ in range(2))
    for copies in (2, 6, 14):
        sequence = left + unit * copies + right[:20] + "N" + right[20:]
        codes, expected = encode_bases(sequence), slow_mask(sequence)
        assert [is_low_complexity(codes, i, i + 1) for i in range(len(sequence))] == expected
        # A deletion of several bases needs one of them masked, an insertion one of its neighbours.
        assert [is_low_complexity(codes, i, i + 5) for i in range(len(sequence) - 5)] == [
            any(expected[i : i + 5]) for i in range(len(sequence) - 5)
        ]
        assert [is_low_complexity(codes, i, i) for i in range(1, len(sequence))] == [
            any(expected[i - 1 : i + 1]) for i in range(1, len(sequence))
        ]


def test_runs_are_those_of_a_count_letter_by_letter() -> None:
    rng = np.random.default_rng(1)
    bases, sizes = rng.choice(list("ACGT"), 40), rng.integers(1, 12, 40)
    sequence = "".join(base * int(n) for base, n in zip(bases, sizes, strict=True))
    codes, lengths = encode_bases(sequence), []
    for _, run in groupby(sequence):
        n = len(list(run))
        lengths += [n] * n
    for i in range(1, len(sequence) - 1):
        assert homopolymer_run(codes, i, i + 1) == max(lengths[i - 1 : i + 2])  # an SNV and its neighbours
        assert homopolymer_run(codes, i, i) == max(lengths[i - 1 : i + 1])  # an insertion


def test_contig_ends_and_unknown_bases_end_a_repeat() -> None:
    assert homopolymer_run(encode_bases("NNNNN"), 2, 3) == 0
    assert not is_low_complexity(encode_bases("NNNNNNNNNNNNNNNN"), 5, 6)
    assert homopolymer_run(encode_bases("AAAAC"), 0, 1) == 4
    assert is_low_complexity(encode_bases("A" * 20), 0, 1) and is_low_complexity(encode_bases("A" * 20), 19, 20)
    assert not is_low_complexity(encode_bases("A"), 0, 1)
