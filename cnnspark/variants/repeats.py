"""Repeats of the reference at an allele: its homopolymer run, and whether the sequence there is of low complexity."""

from __future__ import annotations

import numpy as np

from cnnspark.common.numba_jit import jit

# The defaults of symmetric DUST (Morgulis et al. 2006, J Comput Biol 13:1028, doi:10.1089/cmb.2006.13.1028).
DUST_WINDOW = 64
DUST_SCORE = 2.0
# How many bases on each side of an allele these functions need.
MARGIN_BASES = 100
# How far a repeat is followed, in bases to each side: it bounds the work at an allele, and longer ones count alike.
_LONGEST_RUN = 50


@jit
def _is_masked(codes, first, last):
    """Whether symmetric DUST masks one of the bases [first, last] (indices of ``codes``).

    The score of an interval is the sum of c(c - 1) / 2 over its distinct triplets, c being how often each occurs,
    divided by the number of triplets less one. An interval of at most DUST_WINDOW bases is masked if its score is above
    DUST_SCORE and no part of it has a higher one. Letters other than A, C, G and T are in no triplet.
    """
    begin = max(first - DUST_WINDOW + 1, 0)
    end = min(last + DUST_WINDOW, len(codes)) - 2  # one past the last triplet
    best_behind = np.zeros(
        max(end, 0) + 1, np.float64
    )  # by last triplet: the best score of intervals that begin further right
    for left in range(end - 1, begin - 1, -1):
        counts = np.zeros(64, np.int64)
        pairs = 0
        best = 0.0
        for right in range(left, min(left + DUST_WINDOW - 2, end)):
            a, b, c = codes[right], codes[right + 1], codes[right + 2]
            if a < 1 or a > 4 or b < 1 or b > 4 or c < 1 or c > 4:
                break
            triplet = (np.int64(a) - 1) * 16 + (np.int64(b) - 1) * 4 + np.int64(c) - 1
            pairs += counts[triplet]
            counts[triplet] += 1
            score = pairs / (right - left) if right > left else 0.0
            best = max(best, best_behind[right])
            if score > DUST_SCORE and score >= best and left <= last and right + 2 >= first:
                return True
            best = max(best, score)
            best_behind[right] = best
    return False


def homopolymer_run(codes: np.ndarray, start: int, end: int) -> int:
    """The longest run of one base that touches the allele or the base on either side of it, at most about 100 bases.

    It is the run of the site feature ``homopolymer`` of the networks.

    Args:
        codes: base codes (:mod:`cnnspark.formats.reference`), uint8 (n,), MARGIN_BASES or more to each side.
        start: index of the first base that the allele changes.
        end: one past the last base that it changes; ``start`` for an insertion before ``start``.
    """
    return int(longest_repeat(codes, start - 1, end, 1))


def is_low_complexity(codes: np.ndarray, start: int, end: int) -> bool:
    """Whether symmetric DUST masks a base that the allele changes, or for an insertion a base beside it.

    The arguments are those of :func:`homopolymer_run`.
    """
    first, last = (start, end - 1) if end > start else (start - 1, start)
    return bool(_is_masked(codes, max(first, 0), min(last, len(codes) - 1)))


@jit
def _code(reference, index):
    """The base code at an index, 0 beyond the ends."""
    return np.int64(reference[index]) if 0 <= index < len(reference) else np.int64(0)


@jit
def longest_repeat(reference, first, last, unit):
    """The length of the longest stretch that repeats every ``unit`` bases and touches one of [first, last].

    Args:
        reference: base codes, uint8 (n,).
        first: index of the first base of the site.
        last: index of the last base of the site.
        unit: bases of the repeat's unit: 1 for a homopolymer.

    Returns:
        Length in bases, 0 if there is no base; a long repeat is followed for about _LONGEST_RUN bases to each side.
    """
    longest = 0
    for anchor in range(first, min(last, first + _LONGEST_RUN) + 1):
        if _code(reference, anchor) < 1 or _code(reference, anchor) > 4:
            continue
        matched = 0
        right = anchor
        while matched < _LONGEST_RUN:
            code = _code(reference, right)
            if code < 1 or code > 4 or code != _code(reference, right + unit):
                break
            matched += 1
            right += 1
        left = anchor - 1
        while matched < 2 * _LONGEST_RUN:
            code = _code(reference, left)
            if code < 1 or code > 4 or code != _code(reference, left + unit):
                break
            matched += 1
            left -= 1
        if unit == 1 or matched >= unit:
            longest = max(longest, matched + unit)
    return longest
