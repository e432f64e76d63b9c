"""The replicas of a training run and sums over all of them; TensorFlow's strategy is only the transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# What TensorFlow raises where another replica is gone, stands still, or its machine cannot be reached.
LOST_REPLICA = (tf.errors.DeadlineExceededError, tf.errors.UnavailableError, tf.errors.AbortedError)


class Replicas:
    """The replicas of this run, and sums over all of them. One replica is its own sum."""

    def __init__(self, rank: int, count: int, timeout_seconds: int):
        self.rank, self.count = rank, count
        if count == 1:
            self.strategy = tf.distribute.get_strategy()
        else:
            # Without a time limit the others wait for a stalled replica for ever.
            options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout_seconds)
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        self._sum = tf.function(lambda values: self.run(lambda: self.all_reduce(values)), autograph=False)

    def run(self, function: Callable[[], Any]) -> Any:
        """``function`` in the context in which :meth:`all_reduce` may be called."""
        return self.strategy.run(function)

    def all_reduce(self, values: Any) -> Any:
        """The sum of a tensor over all replicas; only within :meth:`run`."""
        # A tensor from outside run() has no device yet, which the strategy refuses; its copy has.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

    def sum_tensor(self, values: Any) -> Any:
        """The sum of a tensor over all replicas."""
        return values if self.count == 1 else self._sum(values)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all replicas, in its own dtype."""
        return values if self.count == 1 else self._sum(tf.constant(values)).numpy()

    def from_first(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The arrays of rank 0, on every replica; their shapes are the same everywhere."""
        # float64 holds every float32 and every count below 2^53.
        flat = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
        flat = self.sum(flat if self.rank == 0 else np.zeros_like(flat))
        parts = np.split(flat, np.cumsum([a.size for a in arrays])[:-1])
        return [part.reshape(a.shape).astype(a.dtype) for part, a in zip(parts, arrays, strict=True)]


def compute_type(mixed_precision: bool | str) -> str:
    """What the network computes in: ``float32``, ``bfloat16`` or ``float16``. Weights and sums are float32 always.

    ``auto`` is mixed precision where there is a GPU whose tensor cores have it: bfloat16 from compute capability 8
    (A100), which has float32's range and needs no scaled loss, float16 from 7 (V100, T4). ``True`` is bfloat16 where
    there is none of them, too.
    """
    if mixed_precision in ("bfloat16", "float16"):
        return str(mixed_precision)
    if mixed_precision is False:
        return "float32"
    gpus = tf.config.get_visible_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    capability = details.get("compute_capability", (0, 0))[0]
    if capability >= 7:
        return "bfloat16" if capability >= 8 else "float16"
    if mixed_precision is True:
        return "bfloat16"
    return "float32"
