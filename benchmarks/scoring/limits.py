"""The limits that figures are set beside: what the machine does at best with as many bytes or operations.

Plain pysam decoding of the same reads, the other limit, is in :mod:`benchmarks.tensors.tensors`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pysam

FLOPS = 2  # of a multiply-accumulate
LEAST_FLOPS = 5e8  # that are timed at once
_SIDE = 1024  # of the square matrices: far beyond what a call costs, and within the caches


def matrix_product(flops: float) -> Callable[[], None]:
    """Work that multiplies large float32 matrices by TensorFlow, as the networks do, with ``flops`` operations in all.

    The last product has fewer rows than the others, so the number is met to one row, which is 2 million operations.
    """
    import tensorflow as tf

    whole, rest = divmod(max(1, round(flops / (FLOPS * _SIDE * _SIDE))), _SIDE)
    right = tf.random.normal((_SIDE, _SIDE), seed=1)
    lefts = [tf.random.normal((_SIDE, _SIDE), seed=2)] * whole
    lefts += [tf.random.normal((rest, _SIDE), seed=3)] if rest else []

    def work() -> None:
        for left in lefts:
            tf.matmul(left, right).numpy()

    return work


def file_copy(paths: Sequence[Path], target: Path, times: int = 1) -> None:
    """Copies the bytes of these files into one; ``times`` times, if once takes less than can be timed."""
    for _ in range(times):
        with target.open("wb") as whole:
            for path in paths:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, whole, 1 << 20)


def compress(text: bytes, target: Path) -> None:
    """Compresses the bytes by htslib's BGZF writer at its usual level."""
    with pysam.BGZFile(str(target), "wb", None) as out:
        out.write(text)


def python_loop(rounds: int) -> int:
    """Plain Python with almost no memory: what two cores give two processes that share nothing else."""
    total = 0
    for i in range(rounds):
        total += i & 7
    return total
