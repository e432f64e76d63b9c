"""The replicas of a training and sums over all of them; TensorFlow's strategy is only the transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# What TensorFlow raises if another replica is gone, stands still, or its machine cannot be reached.
LOST_REPLICA = (tf.errors.DeadlineExceededError, tf.errors.UnavailableError, tf.errors.AbortedError)


class Replicas:
    """The replicas of a training, and sums over all of them."""

    def __init__(self, rank: int, count: int, timeout_seconds: int):
        """Joins the cluster that TF_CONFIG describes, if there are several replicas.

        Args:
            rank: of this replica, from 0.
            count: of all replicas.
            timeout_seconds: of one sum.
        """
        self.rank, self.count = rank, count
        if count == 1:
            self.strategy = tf.distribute.get_strategy()
        else:
            # Without a time limit the others would wait for a stalled replica forever.
            options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout_seconds)
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        self._sum = tf.function(lambda values: self.run(lambda: self.all_reduce(values)), autograph=False)

    def run(self, function: Callable[[], Any]) -> Any:
        """Calls ``function`` in the context in which :meth:`all_reduce` may be called, and returns its result."""
        return self.strategy.run(function)

    def all_reduce(self, values: Any) -> Any:
        """The sum of a tensor over all replicas; call it within :meth:`run` only."""
        # A tensor from outside run() has no device yet, which the strategy refuses; its copy has one.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

    def sum_tensor(self, values: Any) -> Any:
        """The sum of a tensor over all replicas: a tensor of the same shape and dtype."""
        return values if self.count == 1 else self._sum(values)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all replicas: an array of the same shape and dtype."""
        return values if self.count == 1 else self._sum(tf.constant(values)).numpy()

    def from_first(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The arrays of rank 0, on every replica.

        Args:
            arrays: this replica's own, of the same shapes and dtypes on every replica; counts are below 2^53.
        """
        # float64 holds every float32 and every count below 2^53.
        flat = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
        flat = self.sum(flat if self.rank == 0 else np.zeros_like(flat))
        parts = np.split(flat, np.cumsum([a.size for a in arrays])[:-1])
        return [part.reshape(a.shape).astype(a.dtype) for part, a in zip(parts, arrays, strict=True)]
