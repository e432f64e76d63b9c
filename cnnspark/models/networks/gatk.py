"""``gatk_1d`` and ``gatk_2d``: the networks of GATK's CNNScoreVariants, for its published weights or for training.

A third one, ``gatk_2d_mix``, is in :mod:`cnnspark.models.networks.gatk_mix`.

Their inputs are the compact fields of ``encoding: gatk`` (:mod:`cnnspark.tensors.gatk_encoder`), expanded to GATK's
channels inside the network. The four classes become the one logit that all networks here give; the score made from it
is GATK's own score of the record's type (:class:`GatkLogit`).

What differs from GATK in training: batch normalisation takes its moments from the training data instead of from each
batch, and dropout is a hash, because n replicas must compute what one computes (docs/models.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cnnspark.errors import InputError, UsageError
from cnnspark.models.gatk_weights.layout import KINDS, difference, value_problem, weight_shapes
from cnnspark.models.networks.layers import CODES, KeyedDropout, KeyedSpatialDropout, RowMask, register
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import WINDOW
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.score_fields import EPSILON

# Rows (reads) of the 2D tensor.
GATK_ROWS = 128
NORM_EPSILON = 1e-3
# Order of the softmax.
NOT_SNP, NOT_INDEL, SNP, INDEL = range(4)
# SAM FLAG bits of channels 10 to 13: reverse, mate reverse, first, second.
_FLAG_BITS = (0x10, 0x20, 0x40, 0x80)
_OTHER, _GAP = 5, 6
_CONV_ROWS = 25


@register
class FixedNormalization(keras.layers.Layer):
    """``(x - mean) / sqrt(variance + 0.001) * gamma + beta`` with moments that do not change in training.

    Missing values (NaN) count as 0. Moments of a batch would make n replicas differ from one.

    Attributes:
        gamma: (F,), trained.
        beta: (F,), trained.
        mean: (F,), saved with the network and never trained.
        variance: (F,), saved with the network and never trained.
    """

    def __init__(self, means: Any, variances: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._means, self._variances = np.asarray(means, np.float32), np.asarray(variances, np.float32)

    def build(self, *input_shape: Any) -> None:
        """Makes scale, shift and moments weights of the network."""

        def constant(values: np.ndarray) -> Callable[..., Any]:
            return lambda shape, dtype=None: ops.convert_to_tensor(values, dtype=dtype)

        shape = self._means.shape
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")
        self.mean = self.add_weight(shape=shape, initializer=constant(self._means), trainable=False, name="mean")
        self.variance = self.add_weight(
            shape=shape, initializer=constant(self._variances), trainable=False, name="variance"
        )

    def call(self, values: Any) -> Any:
        """Normalises ``values`` (B, F), NaN where missing; returns float32 (B, F)."""
        values = ops.where(ops.isnan(values), 0.0, values)
        scale = ops.rsqrt(ops.convert_to_tensor(self.variance) + NORM_EPSILON) * self.gamma
        return (values - self.mean) * scale + self.beta

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the layer again."""
        config = {"means": self._means.tolist(), "variances": self._variances.tolist()}
        return {**super().get_config(), **config}


def _reference_table(gap: bool) -> np.ndarray:
    """float32 (7, 4 or 5) by code: A, C, G, T (and gap) one-hot, a quarter each for another letter, 0 for nothing."""
    table = np.zeros((CODES, 5 if gap else 4), np.float32)
    table[1:5, :4] = np.eye(4)
    table[_OTHER, :4] = 0.25
    if gap:
        table[_GAP, 4] = 1
    return table


@register
class GatkReference(keras.layers.Layer):
    """The reference window one-hot."""

    def call(self, reference: Any) -> Any:
        """Expands codes ``reference`` (B, W); returns float32 (B, W, 4)."""
        return ops.take(ops.convert_to_tensor(_reference_table(gap=False)), ops.cast(reference, "int32"), axis=0)


@register
class GatkReadTensor(keras.layers.Layer):
    """The 15 channels of GATK's read tensor, followed by ``empty_rows`` rows without reads, at most 128 rows in all.

    Channels:

    - 0 to 4: the read's A, C, G, T by quality (p = 1 - 10^(-Q/10) at its base, (1 - p) / 3 at the others), gap;
    - 5 to 9: the reference's A, C, G, T, gap, the same in every row;
    - 10 to 14: reverse, mate reverse, first, second, mapping quality / 60, from the row's first used column to the one
      before its last.

    Attributes:
        empty_rows: Rows without reads that follow those of the batch.
    """

    def __init__(self, empty_rows: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.empty_rows = empty_rows
        right = 1 - 10.0 ** (-np.arange(256) / 10)
        table = np.zeros((CODES, 256, 5))
        for code in range(1, 5):
            table[code, :, :4] = ((1 - right) / 3)[:, None]
            table[code, :, code - 1] = right
        table[_OTHER, :, :4] = 0.25
        table[_GAP, :, 4] = 1
        self._bases = table.reshape(-1, 5).astype(np.float32)

    def call(
        self, read_bases: Any, read_quals: Any, read_flags: Any, read_mapqs: Any, reference: Any, mask: Any
    ) -> Any:
        """Builds GATK's tensor.

        Args:
            read_bases: Codes, (B, R, W).
            read_quals: Phred, (B, R, W).
            read_flags: SAM FLAG, (B, R).
            read_mapqs: Mapping qualities, (B, R).
            reference: Codes of the window, (B, W).
            mask: Of :class:`cnnspark.models.networks.layers.RowMask`, (B, R).

        Returns:
            float32 (B, min(R + empty_rows, 128), W, 15).
        """
        more = [[0, 0], [0, self.empty_rows]]
        inside = ops.cast(mask, "int32")
        codes = ops.pad(ops.cast(read_bases, "int32") * inside[:, :, None], [*more, [0, 0]])[:, :GATK_ROWS]
        quals = ops.pad(ops.cast(read_quals, "int32"), [*more, [0, 0]])[:, :GATK_ROWS]
        flags = ops.pad(ops.cast(read_flags, "int32"), more)[:, :GATK_ROWS]
        mapqs = ops.pad(ops.cast(read_mapqs, "float32"), more)[:, :GATK_ROWS]

        read = ops.take(ops.convert_to_tensor(self._bases), codes * 256 + quals, axis=0)  # (B, rows, W, 5)
        columns = ops.take(
            ops.convert_to_tensor(_reference_table(gap=True)), ops.cast(reference, "int32"), axis=0
        )  # (B, W, 5)
        columns = ops.broadcast_to(columns[:, None], ops.shape(read))
        bits = ops.cast(ops.bitwise_and(flags[:, :, None], np.asarray(_FLAG_BITS, np.int32)) != 0, "float32")
        row = ops.concatenate([bits, mapqs[:, :, None] / 60.0], axis=-1)  # (B, rows, 5)
        used = ops.cumsum(ops.cast(codes != 0, "int32"), axis=-1)
        painted = ops.logical_and(used > 0, used < used[:, :, -1:])
        row = row[:, :, None, :] * ops.cast(painted, "float32")[:, :, :, None]
        return ops.concatenate([read, columns, row], axis=-1)

    def compute_output_shape(self, *_: Any, **__: Any) -> tuple[int | None, ...]:
        """(B, rows, W, 15); the number of rows is known only when the network runs."""
        return (None, None, WINDOW, 15)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the layer again."""
        return {**super().get_config(), "empty_rows": self.empty_rows}


@register
class RepeatLastRow(keras.layers.Layer):
    """Repeats the last row.

    Behind the last read all rows of a tensor are alike, and so are those of every layer's output. Each layer computes
    one of them, and this one makes the copies that the next layer's kernel reaches. The result is that of 128 rows, for
    a third of the work at 32 reads.

    Attributes:
        more: Number of copies.
        limit: The most rows of the result.
        exactly: The result has ``limit`` rows, whatever ``more`` is.
    """

    def __init__(self, more: int, limit: int, exactly: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.more, self.limit, self.exactly = more, limit, exactly

    def call(self, x: Any) -> Any:
        """Adds the copies to ``x`` (B, R, W, C); returns (B, min(R + more, limit), W, C), or (B, limit, W, C)."""
        last = ops.shape(x)[1] - 1
        if self.exactly:
            rows = ops.minimum(ops.convert_to_tensor(np.arange(self.limit, dtype=np.int32)), last)
            return ops.take(x, rows, axis=1)
        copies = ops.repeat(x[:, -1:], self.more, axis=1)
        return ops.concatenate([x, copies], axis=1)[:, : self.limit]

    def compute_output_shape(self, shape: Any) -> tuple[int | None, ...]:
        """(B, rows, W, C) for ``shape`` (B, R, W, C); rows are None unless ``exactly``."""
        # Keras would infer from the cut at ``limit`` that the number of rows never varies.
        rows = self.limit if self.exactly else None
        return (shape[0], rows, *shape[2:])

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the layer again."""
        return {**super().get_config(), "more": self.more, "limit": self.limit, "exactly": self.exactly}


@register
class GatkLogit(keras.layers.Layer):
    """The logit whose score (:func:`cnnspark.variants.score_fields.log_odds`) is GATK's.

    GATK's score is ln(e + P_true / (P_false + e)), e = 1e-7, for the record's type, and the greater of both for types
    other than SNP and INDEL. With E = exp(score), the probability p for which ln((p + e) / (1 - p + e)) is that score
    is (E (1 + e) - e) / (1 + E), and its logit ln(E (1 + e) - e) - ln(1 + e - e E). With r = P_true / (P_false + e)
    and E = e + r these are ln(r (1 + e) + e^2) and ln((P_false + e (1 - P_true)) / (P_false + e) + e - e^2), which
    lose nothing in float32: both are positive for all probabilities, so nothing needs clipping.
    """

    def call(self, classes: Any, variant_type: Any) -> Any:
        """Makes one logit of the four classes.

        Args:
            classes: Before the softmax, (B, 4), in the order NOT_SNP, NOT_INDEL, SNP, INDEL.
            variant_type: :class:`cnnspark.variants.alleles.VariantType`, (B,).

        Returns:
            float32 (B,).
        """
        p = ops.softmax(classes, axis=-1)
        snp = self._logit(p[:, SNP], p[:, NOT_SNP], p[:, INDEL] + p[:, NOT_INDEL])
        indel = self._logit(p[:, INDEL], p[:, NOT_INDEL], p[:, SNP] + p[:, NOT_SNP])
        kind = ops.cast(variant_type, "int32")
        is_indel = ops.logical_or(ops.equal(kind, VariantType.INSERTION), ops.equal(kind, VariantType.DELETION))
        other = ops.maximum(snp, indel)
        return ops.where(ops.equal(kind, VariantType.SNV), snp, ops.where(is_indel, indel, other))

    @staticmethod
    def _logit(p_true: Any, p_false: Any, p_rest: Any) -> Any:
        ratio = p_true / (p_false + EPSILON)
        above = ratio * (1 + EPSILON) + EPSILON**2
        below = (p_false + EPSILON * (p_false + p_rest)) / (p_false + EPSILON) + EPSILON - EPSILON**2
        return ops.log(above) - ops.log(below)


def _shared_inputs(spec: ModelSpec) -> tuple[dict[str, Any], Any]:
    """The inputs that both networks have, and the normalised annotations (B, A)."""
    count = len(spec.annotation_names)
    if not count:
        raise UsageError("the networks of GATK take annotations; name some with 'annotations'")
    inputs = {
        "reference": keras.Input((WINDOW,), dtype="uint8", name="reference"),
        "annotations": keras.Input((count,), dtype="float32", name="annotations"),
        "variant_type": keras.Input((), dtype="int32", name="variant_type"),
        "noise_key": keras.Input((), dtype="int32", name="noise_key"),
    }
    means = spec.annotation_means or (0.0,) * count
    variances = spec.annotation_variances or (1.0,) * count
    return inputs, FixedNormalization(means, variances, name="normalize")(inputs["annotations"])


def inputs_with_reads(spec: ModelSpec, name: str, conv_rows: int) -> tuple[dict[str, Any], Any, Any]:
    """The inputs of a network with reads, the normalised annotations (B, A), and the read tensor.

    Args:
        spec: What the network is built from.
        name: The network, for messages.
        conv_rows: Rows of the first convolution's kernel.

    Returns:
        The inputs by name, the annotations, and the tensor (B, R + conv_rows of 128, W, 15) of R rows of reads: the
        last row of the first convolution's output sees empty rows alone.

    Raises:
        UsageError: if the spec names no annotations, or allows more than 128 reads.
    """
    if spec.read_limit > GATK_ROWS:
        raise UsageError(f"{name} has {GATK_ROWS} rows; set tensors.read_limit to {GATK_ROWS} or less")
    inputs, annotations = _shared_inputs(spec)
    inputs |= {
        "read_bases": keras.Input((None, WINDOW), dtype="uint8", name="read_bases"),
        "read_quals": keras.Input((None, WINDOW), dtype="uint8", name="read_quals"),
        "read_flags": keras.Input((None,), dtype="int32", name="read_flags"),
        "read_mapqs": keras.Input((None,), dtype="uint8", name="read_mapqs"),
        "row_count": keras.Input((), dtype="int32", name="row_count"),
    }
    mask = RowMask(name="row_mask")(inputs["row_count"], inputs["read_flags"])
    per_read = [inputs[each] for each in ("read_bases", "read_quals", "read_flags", "read_mapqs")]
    return inputs, annotations, GatkReadTensor(conv_rows, name="read_tensor")(*per_read, inputs["reference"], mask)


def build_gatk_1d(spec: ModelSpec) -> keras.Model:
    """GATK's 1D network (``1d_cnn_mix_train_full_bn``): reference window and annotations.

    1,681,142 parameters with its seven annotations, 122.6 million multiply-accumulates.

    Returns:
        The untrained network: inputs by their names in the schema, output the logit (B,).

    Raises:
        UsageError: if the spec names no annotations.
    """
    inputs, annotations = _shared_inputs(spec)
    key = inputs["noise_key"]
    x = GatkReference(name="reference_channels")(inputs["reference"])  # (B, 128, 4)
    for i, filters in enumerate((256, 256, 128), 1):
        x = layers.Conv1D(filters, 12, activation="relu", kernel_initializer="he_normal", name=f"conv_{i}")(x)
        if i > 1:
            x = KeyedDropout(0.1, salt=10 + i, name=f"conv_{i}_dropout")(x, key)
    x = layers.Flatten(name="flatten")(x)  # (B, 95 * 128)
    dense = layers.Dense(40, activation="relu", name="annotations_1")(annotations)
    x = layers.Concatenate(name="join_annotations")([x, dense])
    x = layers.Dense(40, activation="relu", name="joint")(x)
    x = KeyedDropout(0.2, salt=14, name="joint_dropout")(x, key)
    x = layers.Concatenate(name="shortcut")([x, annotations])
    classes = layers.Dense(4, name="classes")(x)
    return keras.Model(inputs, GatkLogit(name="logits")(classes, inputs["variant_type"]), name="gatk_1d")


def build_gatk_2d(spec: ModelSpec) -> keras.Model:
    """GATK's 2D network (``small_2d``): read tensor and annotations.

    529,394 parameters with its seven annotations; 1,510 million multiply-accumulates on 128 rows, here some 500 at 32
    reads (:class:`RepeatLastRow`).

    Returns:
        The untrained network: inputs by their names in the schema, output the logit (B,).

    Raises:
        UsageError: if the spec names no annotations, or allows more than 128 reads.
    """
    inputs, annotations, x = inputs_with_reads(spec, "gatk_2d", _CONV_ROWS)  # (B, R + 25, 128, 15)
    key = inputs["noise_key"]

    def conv(x: Any, i: int, filters: int, kernel: tuple[int, int]) -> Any:
        x = layers.Conv2D(filters, kernel, activation="relu", kernel_initializer="glorot_normal", name=f"conv_{i}")(x)
        return KeyedSpatialDropout(0.1, salt=20 + i, name=f"conv_{i}_dropout")(x, key)

    x = conv(x, 1, 64, (_CONV_ROWS, 1))  # (B, R + 1 of 104, 128, 64)
    x = conv(x, 2, 48, (1, 25))  # (B, R + 1, 104, 48)
    x = RepeatLastRow(_CONV_ROWS - 1, 104, name="rows_3")(x)
    x = conv(x, 3, 32, (_CONV_ROWS, 1))  # (B, R + 1 of 80, 104, 32)
    # Four more, so that the last of the pooled rows is also one of empty rows.
    x = RepeatLastRow(4, 80, name="rows_pool")(x)
    x = layers.MaxPooling2D((3, 1), name="pool_1")(x)  # (B, R / 3 of 26, 104, 32)
    x = conv(x, 4, 24, (1, 25))  # (B, R / 3, 80, 24)
    x = RepeatLastRow(0, 26, exactly=True, name="rows_flat")(x)
    x = layers.MaxPooling2D((3, 1), name="pool_2")(x)  # (B, 8, 80, 24)
    x = layers.Flatten(name="flatten")(x)
    dense = layers.Dense(64, activation="relu", name="annotations_1")(annotations)
    x = layers.Concatenate(name="join_annotations")([x, dense])
    x = layers.Dense(24, activation="relu", name="joint")(x)
    x = KeyedDropout(0.3, salt=25, name="joint_dropout")(x, key)
    classes = layers.Dense(4, name="classes")(x)
    return keras.Model(inputs, GatkLogit(name="logits")(classes, inputs["variant_type"]), name="gatk_2d")


# Where each array of the PyTorch port's state dict belongs: its name -> (layer, weight).
_NORMALIZE = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "mean"), ("running_var", "variance"))
_LAYERS: dict[str, dict[str, str]] = {
    "gatk_1d": {
        "conv.0": "conv_1",
        "conv.2": "conv_2",
        "conv.5": "conv_3",
        "normalize": "normalize",
        "dense_1.0": "annotations_1",
        "dense_2.0": "joint",
        "dense_3": "classes",
    },
    "gatk_2d": {
        "conv.0": "conv_1",
        "conv.3": "conv_2",
        "conv.6": "conv_3",
        "conv.10": "conv_4",
        "dense_1.0": "normalize",
        "dense_1.1": "annotations_1",
        "dense_2.0": "joint",
        "dense_2.3": "classes",
    },
    "gatk_2d_mix": {
        **{f"conv.{i}": f"conv_{i + 1}" for i in range(5)},
        "normalize": "normalize",
        "dense_1.0": "annotations_1",
        "dense_2.0": "joint",
        "dense_3": "classes",
    },
}


def _targets(kind: str) -> dict[str, tuple[str, str]]:
    named = {}
    for prefix, layer in _LAYERS[kind].items():
        pairs = _NORMALIZE if layer == "normalize" else (("weight", "kernel"), ("bias", "bias"))
        named.update({f"{prefix}.{theirs}": (layer, ours) for theirs, ours in pairs})
    return named


# The shapes of those arrays, in PyTorch's layout: convolutions (out, in, ...), dense layers (out, in). The columns of
# the dense layer behind the convolutions are ordered (column, channel) or (row, column, channel), channels last: the
# port transposes the tensor before it flattens it, because the weights were trained in Keras networks, channels last.
GATK_SHAPES = {f"gatk_{kind}": weight_shapes(kind) for kind in KINDS}


def check_arrays(kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Checks that the arrays are the weights of a network.

    Args:
        kind: One of :data:`cnnspark.models.names.GATK_MODELS`.
        arrays: By name, as in :data:`GATK_SHAPES`; ``*.num_batches_tracked`` may be among them.

    Raises:
        InputError: if an array is missing, unknown, of another shape, or holds a value that is not a number; the
            message names the first one.
    """
    shapes = GATK_SHAPES[kind]
    if problem := difference({name: np.shape(values) for name, values in arrays.items()}, shapes):
        raise InputError(f"the weights are not those of {kind}: {problem}; check --kind")
    for name in shapes:
        if problem := value_problem(name, np.asarray(arrays[name])):
            raise InputError(f"the weights are damaged: {name} {problem}; get them again")


def assign_weights(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a network the weights of GATK's PyTorch port.

    Args:
        model: One of GATK's networks.
        arrays: By name, in PyTorch's layout, as in :data:`GATK_SHAPES`; ``*.num_batches_tracked`` may be among them.

    Raises:
        InputError: if they are not the weights of this network (:func:`check_arrays`).
    """
    check_arrays(model.name, arrays)
    for name, (layer, weight) in _targets(model.name).items():
        values = np.asarray(arrays[name], np.float32)
        if values.ndim == 2:
            values = values.T  # (in, out)
        elif values.ndim > 2:
            values = np.moveaxis(values, (0, 1), (-1, -2))  # (rows, columns, in, out) or (columns, in, out)
        getattr(model.get_layer(layer), weight).assign(values)
