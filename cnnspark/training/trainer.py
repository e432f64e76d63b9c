"""One replica's network and its compiled steps: gradients lane by lane, their sum over all replicas, one update.

Each replica owns plain variables and applies the same summed gradient to them, so all stay equal, and equal to one
replica with the whole batch: the rows of a lane do not depend on who computes it, and the order in which whole numbers
are added does not matter (:mod:`cnnspark.training.lane_gradients`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnspark.errors import InputError
from cnnspark.models.bundle import load_bundle
from cnnspark.models.networks.layers import noise_keys
from cnnspark.models.networks.reads import PICTURE_LOGIT, picture_part
from cnnspark.models.networks.registry import feed, model_inputs
from cnnspark.training.all_reduce import Replicas
from cnnspark.training.augmentation import augment
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.dead_layers import activity
from cnnspark.training.job import ReplicaJob
from cnnspark.training.lane_gradients import UNITS, LaneGradients, pack_lanes
from cnnspark.training.mixed_precision import LossScale, compute_type, in_mixed_precision
from cnnspark.training.objectives import objective_of
from cnnspark.training.warm_start import arranged, take_weights, taken_text


def _start_from_bundle(job: ReplicaJob, path: str, sha256: str, model: keras.Model) -> tuple[str, list[str]]:
    """Gives the network, or a part of it, the weights of a bundle.

    Returns:
        What was taken as a line of text, and the names of the layers.

    Raises:
        InputError: if the bundle has another digest than when the training began.
    """
    bundle = load_bundle(path, job.settings.threads)
    if bundle.card.sha256 != sha256:
        raise InputError(
            f"{path} has changed since this training began; put the old model back, or start again with --if-exists "
            "overwrite"
        )
    taken, new = take_weights(model, bundle.model, bundle.card.training.get("untrained_layers", ()))
    return taken_text(path, taken, new), taken


def _take_picture(job: ReplicaJob, model: keras.Model) -> tuple[str, list[str]]:
    """Gives the network the picture (the convolutions over the reads) of another bundle, with half of its logit.

    The picture was trained by itself, and the rest of the network knows much of what it knows.
    """
    found = _start_from_bundle(job, str(job.settings.picture), job.picture_sha256, picture_part(model))
    for weight in model.get_layer(PICTURE_LOGIT).weights:
        weight.assign(np.asarray(weight) / 2)
    return found


class Trainer:
    """The network, its optimizer and the compiled steps of one replica.

    ``model`` is what the bundle holds. ``network`` is the same, or in pre-training another network of its layers; it
    validates in float32. ``trained`` is the network that is trained: ``network``, or its copy in mixed precision.
    ``dtypes`` names the inputs of the network; ``taken`` says in one line which weights came from other bundles.
    """

    def __init__(self, job: ReplicaJob, replicas: Replicas):
        """Builds the network, with the weights of the bundles that the job starts from.

        Args:
            job: the training.
            replicas: all replicas; the first one chooses the type to compute in.

        Raises:
            InputError: if a bundle that the job starts from has changed since, or cannot be read.
            UsageError: if the network cannot be trained for the job's objective.
        """
        settings = job.settings
        self.replicas, self.job = replicas, job
        # The same weights at first on every replica and in every run.
        keras.utils.set_random_seed(settings.seed)
        self.objective = objective_of(job)
        self.model, self.network = self.objective.model, self.objective.network
        self.trained = self.network
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
            self.trained = in_mixed_precision(self.network, self.compute_type)
            self._copy_weights(self.network, self.trained)
        self._copied = True
        self.optimizer = keras.optimizers.Adam(settings.learning_rate, epsilon=settings.adam_epsilon)
        self.loss_scale = LossScale(self.compute_type)
        self.dtypes = model_inputs(self.network)
        self._target_dtypes = {name: dtype for name, (_, dtype) in self.objective.targets.items()}
        self.class_weights = np.asarray(job.class_weights, np.float32)
        inputs = {t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in self.network.inputs}
        targets = {n: tf.TensorSpec(shape, dtype, name=n) for n, (shape, dtype) in self.objective.targets.items()}
        self.lane_gradients = LaneGradients(
            self.trained, self.objective, self.loss_scale, settings.batch_size, job.lanes, inputs, targets
        )
        parameters = sum(self.lane_gradients.sizes)
        # One long variable for the optimizer: the same numbers as one by one, and compiled in a fifth of the time.
        self._flat = keras.Variable(np.zeros(parameters, np.float32), name="parameters")
        self.optimizer.build([self._flat])
        # Without AutoGraph, for the same reason as LaneGradients.
        summed = tf.TensorSpec([parameters + 3], tf.int64)
        rate = tf.TensorSpec([], tf.float32)
        self._update = tf.function(self._apply_gradient, autograph=False, input_signature=[summed, rate])
        self._measured = tf.function(
            lambda x, y: self.objective.measured(y, self.network(x, training=False)),
            autograph=False,
            input_signature=[inputs, targets],
        )

    def _apply_gradient(self, summed: Any, rate: Any) -> Any:
        """One update from the sum over all lanes, if it is finite.

        Args:
            summed: what :class:`LaneGradients` gives, summed over all replicas: int64 (parameters + 3,).
            rate: the learning rate, float32 ().

        Returns:
            The loss of the global batch, float32 (); NaN if the loss or the gradient is not finite, unless float16 has
            overflowed and the loss is scaled less from now on.
        """
        bad_losses, bad_gradients = summed[-2], summed[-1]
        values = tf.cast(summed[:-2], tf.float32) / UNITS
        gradient, loss = values[:-1], values[-1]
        # Clipped by the norm of the whole gradient, hence after the sum.
        norm = tf.linalg.global_norm(tf.split(gradient, self.lane_gradients.sizes))
        factor = tf.minimum(1.0, self.job.settings.clip_norm / (norm + 1e-12))
        finite = bad_losses + bad_gradients == 0

        def update() -> Any:
            self.optimizer.learning_rate.assign(rate)
            # Outside the replicas' context the optimizer sees one replica and does not add the gradients up again.
            variables = self.trained.trainable_variables
            self._flat.assign(tf.concat([tf.reshape(variable.value, [-1]) for variable in variables], axis=0))
            self.optimizer.apply([gradient * factor], [self._flat])
            for part, variable in zip(tf.split(self._flat.value, self.lane_gradients.sizes), variables, strict=True):
                variable.assign(tf.reshape(part, variable.shape))
            return tf.constant(True)

        tf.cond(finite, update, lambda: tf.constant(False))
        overflowed = tf.constant(False)
        if self.loss_scale.is_used:
            overflowed = tf.logical_and(bad_losses == 0, self.loss_scale.factor > 1.0)
            self.loss_scale.adapt(finite)
        return tf.where(tf.logical_or(finite, overflowed), loss, np.nan)

    def train(self, batches: Sequence[Mapping[str, np.ndarray]], step: int, rate: float) -> float:
        """One step on this replica's lanes of a global batch.

        Args:
            batches: the lanes, as :meth:`cnnspark.training.data.TrainingData.train_batches` gives them.
            step: the number of the step, from 0 over all epochs.
            rate: the learning rate.

        Returns:
            The loss of the global batch, the same on every replica; NaN if it or its gradient is not finite, and then
            nothing has changed.
        """
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
        summed = self.replicas.sum_tensor(self.lane_gradients(inputs, targets, weights, starts, rows))
        self._copied = self.network is self.trained
        return float(self._update(summed, np.float32(rate)))

    def measure(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """What validation keeps of each allele, without dropout.

        Args:
            batch: arrays by name, (B, ...).

        Returns:
            float32 (B,) logits, or in pre-training (B, figures) losses (:mod:`cnnspark.training.objectives`).
        """
        self._update_network()
        batch = self.objective.prepare(self._arranged(batch), None)
        return self._measured(feed(batch, self.dtypes), feed(batch, self._target_dtypes)).numpy()

    def activity(self, batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
        """For each layer the share of alleles that it tells from most, as :mod:`cnnspark.training.dead_layers` says."""
        self._update_network()
        prepared = (self.objective.prepare(self._arranged(batch), None) for batch in batches)
        return activity(self.network, (feed(batch, self.dtypes) for batch in prepared))

    def _update_network(self) -> None:
        if not self._copied:
            self._copy_weights(self.trained, self.network)
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
        return [*self.optimizer.variables, *self.loss_scale.variables]

    def state(self) -> TrainingState:
        """Weights and optimizer variables as they are now, as copies; the same weights are also the best so far."""
        weights = [np.array(w) for w in self.trained.weights]
        return TrainingState(weights, [np.array(v) for v in self._optimizer_state()], weights)

    def kept_shares(self) -> list[float]:
        """For each of the state's weights the share of its start that training ends with.

        That is ``keep_start``, and 0 for a layer that was new, whose start is chance.
        """
        layers = [layer for layer in self.trained.layers if layer.name in self._taken_layers]
        kept = {id(weight) for layer in layers for weight in layer.weights}
        return [self.job.settings.keep_start if id(weight) in kept else 0.0 for weight in self.trained.weights]

    def restore(self, state: TrainingState) -> None:
        """Sets weights and optimizer variables to those of a state."""
        self.set_weights(state.weights)
        for variable, values in zip(self._optimizer_state(), state.optimizer, strict=True):
            variable.assign(values)

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights alone, in the order of :meth:`state`."""
        for model in (self.network, self.trained):
            for variable, values in zip(model.weights, weights, strict=True):
                variable.assign(values)
        self._copied = True
