"""One replica's network and its compiled steps: gradients lane by lane, their sum over all replicas, one update.

Each replica owns plain variables and applies the same summed gradient to them, so all stay equal, and equal to one
replica with the whole batch: lanes are the same rows whoever computes them, and their gradients are added as whole
numbers, of which the order of adding does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnspark.errors import InputError
from cnnspark.models.bundle import load_bundle
from cnnspark.models.networks.gatk import RepeatLastRow
from cnnspark.models.networks.layers import AddToRows, ClearPadding, KeyedDropout, KeyedSpatialDropout, noise_keys
from cnnspark.models.networks.reads import PICTURE_LOGIT, picture_part
from cnnspark.models.networks.registry import LEAST_ROWS, feed, model_inputs
from cnnspark.tensors.schema import is_per_read
from cnnspark.training.all_reduce import Replicas, compute_type
from cnnspark.training.augmentation import augment
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.dead_layers import activity
from cnnspark.training.objectives import objective_of
from cnnspark.training.pretraining_heads import HEADS
from cnnspark.training.settings import ReplicaJob
from cnnspark.training.warm_start import arranged, take_weights, taken_text

# A gradient is counted in units of 2^-36 = 1.5e-11, a millionth of Adam's epsilon.
UNITS = 2.0**36
# What all lanes together may reach, far above any gradient that leads anywhere: 2^62 units.
LARGEST = 2.0**26
# float16 loses gradients below 6e-8: the loss is scaled up, half as much after a step that overflows, twice as much
# after so many that did not (Micikevicius et al. 2018, "Mixed precision training", 3.2).
FIRST_SCALE, MOST_SCALE, SCALE_STEPS = 2.0**15, 2.0**24, 2000
# Layers behind the last hidden one stay float32.
EXACT = ("logit", "counts_logit", "picture_logit", "residual", "classes", "logits")


def in_mixed_precision(model: keras.Model, compute: str) -> keras.Model:
    """The network with layers that compute in ``compute``; its weights, its logit and its heads stay float32.

    So do cnnspark's own layers, which turn codes and counts into channels, but for those that stand between
    convolutions.
    """
    between = (AddToRows, ClearPadding, KeyedDropout, KeyedSpatialDropout, RepeatLastRow)

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        own = type(layer).__module__.startswith("cnnspark.") and not isinstance(layer, between)
        exact = isinstance(layer, keras.layers.InputLayer) or layer.name in (*EXACT, *HEADS)
        if not own and not exact:
            config["dtype"] = f"mixed_{compute}"
        return layer.__class__.from_config(config)

    return keras.models.clone_model(model, clone_function=clone)


def pack_lanes(
    batches: Sequence[Mapping[str, np.ndarray]],
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The lanes as one batch: ``(arrays, starts (L + 1,), rows (L,))``, int32.

    Lane i are the examples ``starts[i]:starts[i + 1]`` with its own padding, ``rows[i]`` reads; behind them stands
    padding of the deepest. Each lane has an example or more.
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


def _start_from_bundle(job: ReplicaJob, path: str, sha256: str, model: keras.Model) -> tuple[str, list[str]]:
    """Gives the network, or a part of it, the weights of a bundle; returns what was taken as a line of text, and the
    layers."""
    bundle = load_bundle(path, job.settings.threads)
    if bundle.card.sha256 != sha256:
        raise InputError(f"{path} is not the model that training began with; start again with --if-exists overwrite")
    taken, new = take_weights(model, bundle.model, bundle.card.training.get("untrained_layers", ()))
    return taken_text(path, taken, new), taken


def _take_picture(job: ReplicaJob, model: keras.Model) -> tuple[str, list[str]]:
    """Gives the network the picture of the job's other bundle, with half of its logit: the picture was trained by
    itself, and much of what it says the rest says, too."""
    found = _start_from_bundle(job, str(job.settings.picture), job.picture_sha256, picture_part(model))
    for weight in model.get_layer(PICTURE_LOGIT).weights:
        weight.assign(np.asarray(weight) / 2)
    return found


class Trainer:
    """The network, its optimizer and the compiled steps of one replica.

    ``model`` is saved; ``network``, the same or, where it is pre-trained, another of its layers, is trained and
    validates in float32; with mixed precision a copy of it is trained.
    """

    def __init__(self, job: ReplicaJob, replicas: Replicas):
        settings = job.settings
        self.replicas, self.job = replicas, job
        # The same weights at first on every replica and in every run.
        keras.utils.set_random_seed(settings.seed)
        self.objective = objective_of(job)
        self.model, self.network = self.objective.model, self.objective.network
        self._trained = self.network
        # What was taken from the bundles that training starts from; empty where it starts from nothing.
        starts = [_start_from_bundle(job, settings.init, job.init_sha256, self.model)] if settings.init else []
        if settings.picture:
            starts.append(_take_picture(job, self.model))
        self.taken = "; ".join(text for text, _ in starts)
        self._taken_layers = {name for _, names in starts for name in names}
        # The first replica's choice: a machine may have another GPU.
        names = ("float32", "bfloat16", "float16")
        own = np.array([names.index(compute_type(settings.mixed_precision))])
        self.compute_type = names[int(replicas.from_first([own])[0][0])]
        if self.compute_type != "float32":
            self._trained = in_mixed_precision(self.network, self.compute_type)
            self._copy_weights(self.network, self._trained)
        self._copied = True
        self.optimizer = keras.optimizers.Adam(settings.learning_rate, epsilon=settings.adam_epsilon)
        variables = self._trained.trainable_variables
        self.optimizer.build(variables)
        # Scale of the loss, and steps since it changed; not used but with float16.
        self._scale = tf.Variable(FIRST_SCALE if self.compute_type == "float16" else 1.0)
        self._steps_at_scale = tf.Variable(0)
        self._sizes = [int(np.prod(v.shape)) for v in variables]
        self.dtypes = model_inputs(self.network)
        self._target_dtypes = {name: dtype for name, (_, dtype) in self.objective.targets.items()}
        self.class_weights = np.asarray(job.class_weights, np.float32)
        self._bound = LARGEST / job.lanes
        inputs = {t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in self.network.inputs}
        targets = {n: tf.TensorSpec(shape, dtype, name=n) for n, (shape, dtype) in self.objective.targets.items()}
        row, index = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int32)
        # No dimension that varies between batches is fixed, so each function is compiled once. Without AutoGraph, which
        # has nothing to do here: it takes seconds, and leaves files in TMPDIR where the process is killed.
        self._share = tf.function(
            self._lanes_gradient, autograph=False, input_signature=[inputs, targets, row, index, index]
        )
        summed, rate = tf.TensorSpec([sum(self._sizes) + 3], tf.int64), tf.TensorSpec([], tf.float32)
        self._update = tf.function(self._apply_gradient, autograph=False, input_signature=[summed, rate])
        self._measured = tf.function(
            lambda x, y: self.objective.measured(y, self.network(x, training=False)),
            autograph=False,
            input_signature=[inputs, targets],
        )

    def _lanes_gradient(
        self, inputs: dict[str, Any], targets: dict[str, Any], weights: Any, starts: Any, rows: Any
    ) -> Any:
        """The sum of this replica's lanes, int64 (parameters + 3,), in units of 1 / UNITS.

        Behind the gradient: the share of the loss, lanes whose loss is not finite (or beyond all measure), and lanes
        whose gradient is not.
        """

        def one(lane: Any, total: Any, rest: Any) -> tuple[Any, Any, Any]:
            begin, end = starts[lane], starts[lane + 1]
            part, of_part = (
                {
                    name: values[begin:end, : rows[lane]] if is_per_read(name) else values[begin:end]
                    for name, values in arrays.items()
                }
                for arrays in (inputs, targets)
            )
            counted, more = self._lane_gradient(part, of_part, weights[begin:end])
            return lane + 1, total + counted, rest + more

        state = [tf.constant(0), tf.zeros([sum(self._sizes)], tf.int64), tf.zeros([3], tf.int64)]
        done = tf.while_loop(lambda lane, *_: lane < tf.size(rows), one, state, parallel_iterations=1)
        return tf.concat(done[1:], axis=0)

    def _lane_gradient(self, inputs: dict[str, Any], targets: dict[str, Any], weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            losses = self.objective.losses(targets, self._trained(inputs, training=True))
            # Over the global batch, so that the sum over the lanes is its mean.
            total = tf.reduce_sum(weights * losses) / self.job.settings.batch_size
            scaled = total * self._scale
        parts = tape.gradient(scaled, self._trained.trainable_variables)
        flat = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
        if self.compute_type == "float16":
            flat /= self._scale
        # Few passes over the gradient: it is long, and a lane short. An infinity or a NaN ends up in the norm, too.
        norm = tf.sqrt(2 * tf.nn.l2_loss(flat))
        good = [tf.abs(total) < self._bound, norm < self._bound]
        loss = tf.where(good[0], total, 0.0) * UNITS
        # Not logical_not: TensorFlow turns "not less" into "greater or equal", which a NaN is not either.
        rest = [tf.cast(loss, tf.int64), *(tf.cast(tf.where(ok, 0, 1), tf.int64) for ok in good)]
        return tf.cast(flat * UNITS, tf.int64), tf.stack(rest)

    def _apply_gradient(self, summed: Any, rate: Any) -> Any:
        """One update from the sum over all lanes; returns the loss of the global batch, NaN where there is none."""
        bad_losses, bad_gradients = summed[-2], summed[-1]
        values = tf.cast(summed[:-2], tf.float32) / UNITS
        *parts, loss = tf.split(values, [*self._sizes, 1])
        variables = self._trained.trainable_variables
        gradients = [tf.reshape(p, v.shape) for p, v in zip(parts, variables, strict=True)]
        # Clipped by the norm of the whole gradient, hence after the sum.
        norm = tf.linalg.global_norm(gradients)
        factor = tf.minimum(1.0, self.job.settings.clip_norm / (norm + 1e-12))
        finite = bad_losses + bad_gradients == 0

        def update() -> Any:
            self.optimizer.learning_rate.assign(rate)
            # Outside the replicas' context the optimizer sees one replica and does not add the gradients up again.
            self.optimizer.apply([g * factor for g in gradients], variables)
            return tf.constant(True)

        tf.cond(finite, update, lambda: tf.constant(False))
        overflowed = tf.constant(False)
        if self.compute_type == "float16":
            overflowed = tf.logical_and(bad_losses == 0, self._scale > 1.0)
            self._adapt_scale(finite)
        return tf.where(tf.logical_or(finite, overflowed), loss[0], np.nan)

    def _adapt_scale(self, finite: Any) -> None:
        steps = tf.where(finite, self._steps_at_scale + 1, 0)
        grown = steps >= SCALE_STEPS
        scale = tf.where(finite, tf.where(grown, self._scale * 2, self._scale), self._scale / 2)
        self._scale.assign(tf.clip_by_value(scale, 1.0, MOST_SCALE))
        self._steps_at_scale.assign(tf.where(grown, 0, steps))

    def train(self, batches: Sequence[Mapping[str, np.ndarray]], step: int, rate: float) -> float:
        """One step on this replica's lanes of a global batch; returns the loss of the global batch."""
        settings = self.job.settings
        lanes = []
        for batch in batches:
            keys = noise_keys(batch["example_key"], settings.seed, step)
            batch = {**self._arranged(batch), "noise_key": keys}
            if settings.augments:
                batch = augment(
                    batch, keys, settings.drop_reads, settings.flip_strand, self.job.spec.annotation_names,
                    self.job.spec.feature_names, settings.drop_annotations,
                )  # fmt: skip
            lanes.append(self.objective.prepare(batch, keys))
        arrays, starts, rows = pack_lanes(lanes)
        labels = arrays["label"]
        weights = arrays["weight"] * self.class_weights[(labels > 0.5).astype(np.int64)]
        inputs, targets = feed(arrays, self.dtypes), feed(arrays, self._target_dtypes)
        summed = self.replicas.sum_tensor(self._share(inputs, targets, weights, starts, rows))
        self._copied = self.network is self._trained
        return float(self._update(summed, np.float32(rate)))

    def measure(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """What validation keeps of each allele (the logit, or losses; :mod:`cnnspark.training.objectives`), in float32
        and without dropout."""
        self._update_network()
        batch = self.objective.prepare(self._arranged(batch), None)
        return self._measured(feed(batch, self.dtypes), feed(batch, self._target_dtypes)).numpy()

    def activity(self, batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
        """How many of the alleles each layer tells apart (:mod:`cnnspark.training.dead_layers`)."""
        self._update_network()
        prepared = (self.objective.prepare(self._arranged(batch), None) for batch in batches)
        return activity(self.network, (feed(batch, self.dtypes) for batch in prepared))

    def _update_network(self) -> None:
        if not self._copied:
            self._copy_weights(self._trained, self.network)
            self._copied = True

    def _arranged(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The batch with its annotations and site features in the network's order."""
        job = self.job
        taken = {
            name: batch[name][:, :0] if not names else arranged(batch[name], columns)
            for name, names, columns in (
                ("annotations", job.spec.annotation_names, job.annotation_columns),
                ("site_features", job.spec.feature_names, job.feature_columns),
            )
            if name in batch and (columns or not names)
        }
        return {**batch, **taken} if taken else batch

    @staticmethod
    def _copy_weights(source: keras.Model, target: keras.Model) -> None:
        for old, new in zip(source.weights, target.weights, strict=True):
            new.assign(old)

    def _optimizer_state(self) -> list[Any]:
        scale = [self._scale, self._steps_at_scale] if self.compute_type == "float16" else []
        return [*self.optimizer.variables, *scale]

    def state(self) -> TrainingState:
        """The state at the start of a run."""
        weights = [np.array(w) for w in self._trained.weights]
        return TrainingState(weights, [np.array(v) for v in self._optimizer_state()], weights)

    def kept_shares(self) -> list[float]:
        """Of each of the state's weights the share of its start that training ends with: ``keep_start``, and nothing of
        a layer that was new, whose start is chance."""
        layers = [layer for layer in self._trained.layers if layer.name in self._taken_layers]
        kept = {id(weight) for layer in layers for weight in layer.weights}
        return [self.job.settings.keep_start if id(weight) in kept else 0.0 for weight in self._trained.weights]

    def restore(self, state: TrainingState) -> None:
        """Weights and optimizer variables as they were."""
        self.set_weights(state.weights)
        for variable, values in zip(self._optimizer_state(), state.optimizer, strict=True):
            variable.assign(values)

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Weights only."""
        for model in (self.network, self._trained):
            for variable, values in zip(model.weights, weights, strict=True):
                variable.assign(values)
        self._copied = True
