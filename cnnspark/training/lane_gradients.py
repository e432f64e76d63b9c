"""Gradients lane by lane, added up as whole numbers: the same sum to the bit, however lanes are dealt to replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnspark.models.networks.registry import LEAST_ROWS
from cnnspark.tensors.schema import is_per_read
from cnnspark.training.mixed_precision import LossScale
from cnnspark.training.objectives import Objective

# A gradient is counted in units of 2^-36 = 1.5e-11, a millionth of Adam's epsilon.
UNITS = 2.0**36
# What all lanes together may reach, far above any gradient that leads anywhere: 2^62 units.
LARGEST = 2.0**26


def pack_lanes(
    batches: Sequence[Mapping[str, np.ndarray]],
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Joins the lanes into one batch.

    Args:
        batches: a lane each, of one example or more: arrays by name, (b, ...), and (b, r, ...) for fields of reads.

    Returns:
        ``(arrays, starts, rows)``: the arrays (B, ...) or (B, R, ...) of all lanes, padded to the deepest; and int32
        (L + 1,) and (L,): the examples of lane i are ``starts[i]:starts[i + 1]``, with ``rows[i]`` rows for reads.
    """
    sizes = [len(batch["label"]) for batch in batches]
    arrays = {}
    for name, first in batches[0].items():
        parts = [batch[name] for batch in batches]
        if is_per_read(name):
            most = max(part.shape[1] for part in parts)
            padding = [(0, 0)] * first.ndim
            parts = [np.pad(part, [padding[0], (0, most - part.shape[1]), *padding[2:]]) for part in parts]
        arrays[name] = np.concatenate(parts)
    per_read = [name for name in arrays if is_per_read(name)]
    rows = [max([LEAST_ROWS, *(batch[name].shape[1] for name in per_read)]) for batch in batches]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return arrays, starts.astype(np.int32), np.array(rows, np.int32)


class LaneGradients:
    """The compiled sum of the gradients of a replica's lanes.

    ``sizes`` are the numbers of values of the network's trainable variables, in their order.
    """

    def __init__(
        self,
        network: keras.Model,
        objective: Objective,
        loss_scale: LossScale,
        batch_size: int,
        lanes: int,
        inputs: Mapping[str, tf.TensorSpec],
        targets: Mapping[str, tf.TensorSpec],
    ):
        """Prepares the function; it is compiled when it is first called.

        Args:
            network: the network that is trained.
            objective: has the losses.
            loss_scale: by which the loss is multiplied.
            batch_size: examples of a global batch.
            lanes: lanes of a global batch.
            inputs: of the network.
            targets: of the objective.
        """
        self._network, self._objective, self._scale = network, objective, loss_scale
        self._batch_size, self._bound = batch_size, LARGEST / lanes
        self.sizes = [int(np.prod(variable.shape)) for variable in network.trainable_variables]
        row, index = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int32)
        # No dimension that varies between batches is fixed, so it is compiled once. Without AutoGraph, which has
        # nothing to do here: it takes seconds, and leaves files in TMPDIR if the process is killed.
        self._sum = tf.function(
            self._sum_of_lanes, autograph=False, input_signature=[dict(inputs), dict(targets), row, index, index]
        )

    def __call__(
        self,
        inputs: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weights: np.ndarray,
        starts: np.ndarray,
        rows: np.ndarray,
    ) -> Any:
        """The sum of the lanes' gradients, in units of 1 / UNITS.

        Args:
            inputs: of the network, all lanes as :func:`pack_lanes` joins them, (B, ...).
            targets: of the objective, (B, ...).
            weights: of the examples, float32 (B,).
            starts: of the lanes, int32 (L + 1,).
            rows: of the lanes, int32 (L,).

        Returns:
            A tensor, int64 (parameters + 3,): the gradient, the share of the loss, the number of lanes whose loss is
            not finite (or too large to count), and the number of lanes whose gradient is not.
        """
        return self._sum(inputs, targets, weights, starts, rows)

    def _sum_of_lanes(
        self, inputs: dict[str, Any], targets: dict[str, Any], weights: Any, starts: Any, rows: Any
    ) -> Any:
        def one(lane: Any, total: Any, rest: Any) -> tuple[Any, Any, Any]:
            begin, end = starts[lane], starts[lane + 1]
            part, of_part = (
                {
                    name: values[begin:end, : rows[lane]] if is_per_read(name) else values[begin:end]
                    for name, values in arrays.items()
                }
                for arrays in (inputs, targets)
            )
            counted, more = self._of_lane(part, of_part, weights[begin:end])
            return lane + 1, total + counted, rest + more

        state = [tf.constant(0), tf.zeros([sum(self.sizes)], tf.int64), tf.zeros([3], tf.int64)]
        done = tf.while_loop(lambda lane, *_: lane < tf.size(rows), one, state, parallel_iterations=1)
        return tf.concat(done[1:], axis=0)

    def _of_lane(self, inputs: dict[str, Any], targets: dict[str, Any], weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            losses = self._objective.losses(targets, self._network(inputs, training=True))
            # Over the global batch, so that the sum over the lanes is its mean.
            total = tf.reduce_sum(weights * losses) / self._batch_size
            scaled = total * self._scale.factor
        parts = tape.gradient(scaled, self._network.trainable_variables)
        flat = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
        if self._scale.is_used:
            flat /= self._scale.factor
        # Few passes over the gradient: it is long, and a lane short. The norm also shows an infinity or a NaN.
        norm = tf.sqrt(2 * tf.nn.l2_loss(flat))
        good = [tf.abs(total) < self._bound, norm < self._bound]
        loss = tf.where(good[0], total, 0.0) * UNITS
        # Not logical_not: TensorFlow turns "not less" into "greater or equal", which a NaN is not either.
        rest = [tf.cast(loss, tf.int64), *(tf.cast(tf.where(ok, 0, 1), tf.int64) for ok in good)]
        return tf.cast(flat * UNITS, tf.int64), tf.stack(rest)
