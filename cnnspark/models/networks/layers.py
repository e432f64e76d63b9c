"""Layers that the networks share: expansion of the compact codes to channels, masks, encoding of numbers, dropout.

Public Keras 3 and ``keras.ops`` only, so that a network runs on any Keras backend. In shapes B is the batch, R the rows
(reads), W the window, C the channels, F the annotations or site features. Integer inputs may have any integer dtype.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from cnnspark.tensors.schema import MATE_ROW, SUPPORTS_ALT, SUPPORTS_REF

# Stays for ever: a saved network names each of these layers "cnnspark>Class" and finds it by that name, in whichever
# module it is now. Another package name here, or another class name, would make the bundles of users unreadable.
register = keras.saving.register_keras_serializable(package="cnnspark")

# Codes of read_bases, reference and alternate (cnnspark.tensors.schema): 0 nothing, 1-4 bases, 5 other, 6 gap.
CODES = 7
# Bits of read_flags that are channels of a row: paired, proper pair, reverse, mate reverse, first, second, and whether
# the mate is also a row: both are one observation.
FLAG_BITS = (0x1, 0x2, 0x10, 0x20, 0x40, 0x80, MATE_ROW)
UNKNOWN_MAPPING_QUALITY = 255
# For the last layers behind the convolutions: a rectifier may be pushed below zero for every allele at once, and no
# gradient brings it back (Lu et al. 2019, "Dying ReLU and initialization"). This has a slope there.
DEEP_ACTIVATION = "leaky_relu"


def _as_int(x: Any) -> Any:
    return ops.cast(x, "int32")


def _as_float(x: Any) -> Any:
    return ops.cast(x, "float32")


def _one_hot_codes() -> np.ndarray:
    """float32 (7, 6): a row for each code; that of code 0, nothing, is all zeros."""
    return np.eye(CODES, dtype=np.float32)[:, 1:]


@register
class RowMask(keras.layers.Layer):
    """1 for a read's row, 0 for padding."""

    def call(self, row_count: Any, read_flags: Any) -> Any:
        """Marks the rows that hold a read.

        Args:
            row_count: Number of reads, (B,).
            read_flags: (B, R); only its shape is used.

        Returns:
            float32 (B, R).
        """
        # cumsum instead of arange: R is known only when the network runs, and this needs no dynamic shape
        position = ops.cumsum(ops.ones_like(read_flags, dtype="int32"), axis=1)
        return _as_float(position <= _as_int(row_count)[:, None])


@register
class BaseChannels(keras.layers.Layer):
    """What each read says in each column.

    Channels: A, C, G, T, other, gap, differs from the reference, differs from the alternate; the last two only where
    the read has a base and the window has a base or a gap. One gather from a table instead of eight comparisons.
    """

    channels = 8

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        table = np.zeros((4, CODES, self.channels), np.float32)
        table[..., :6] = _one_hot_codes()
        table[[1, 3], :, 6] = 1
        table[[2, 3], :, 7] = 1
        self._table = table.reshape(-1, self.channels)

    def call(self, read_bases: Any, reference: Any, alternate: Any, mask: Any) -> Any:
        """Expands the codes of the reads to channels.

        Args:
            read_bases: Codes, (B, R, W).
            reference: Codes of the window without the allele, (B, W).
            alternate: Codes of the window with the allele, (B, W).
            mask: Of :class:`RowMask`, (B, R).

        Returns:
            float32 (B, R, W, 8).
        """
        bases = _as_int(read_bases) * _as_int(mask)[:, :, None]
        is_base = ops.logical_and(bases >= 1, bases <= 4)
        index = bases
        for bit, window in ((CODES, reference), (2 * CODES, alternate)):
            codes = _as_int(window)[:, None, :]
            known = ops.logical_and(codes != 0, codes != 5)
            differs = ops.logical_and(ops.logical_and(is_base, known), bases != codes)
            index = index + bit * _as_int(differs)
        return ops.take(ops.convert_to_tensor(self._table), index, axis=0)


@register
class QualityChannels(keras.layers.Layer):
    """Base qualities: Phred / 40, at most 1.5, and P(the base is right) = 1 - 10^(-Phred / 10)."""

    channels = 2

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        phred = np.arange(256, dtype=np.float32)
        self._table = np.stack([np.minimum(phred, 60) / 40, 1 - 10 ** (-phred / 10)], axis=-1).astype(np.float32)

    def call(self, read_quals: Any, mask: Any) -> Any:
        """Expands base qualities to channels.

        Args:
            read_quals: Phred, (B, R, W).
            mask: Of :class:`RowMask`, (B, R).

        Returns:
            float32 (B, R, W, 2).
        """
        quals = _as_int(read_quals) * _as_int(mask)[:, :, None]
        return ops.take(ops.convert_to_tensor(self._table), quals, axis=0)


def orientations(read_flags: Any) -> Any:
    """Whether a read's fragment is oriented F1R2, and whether F2R1; an unpaired read is neither.

    Damage to one strand of a molecule before it is copied shows in one orientation alone.

    Args:
        read_flags: SAM FLAG, (B, R).

    Returns:
        float32 (B, R, 2), 1 or 0.
    """
    flags = _as_int(read_flags)

    def has(bit: int) -> Any:
        return ops.bitwise_and(flags, bit) != 0

    paired, f1r2 = has(0x1), ops.logical_xor(has(0x40), has(0x10))
    both = [ops.logical_and(paired, f1r2), ops.logical_and(paired, ops.logical_not(f1r2))]
    return _as_float(ops.stack(both, axis=-1))


@register
class RowChannels(keras.layers.Layer):
    """What holds for a whole read; padding rows are zero.

    Channels: mapping quality / 60, mapping quality unknown, seven FLAG bits, support one-hot (4), covered share of the
    window, whether F1R2, whether F2R1.
    """

    channels = 2 + len(FLAG_BITS) + 4 + 1 + 2

    def call(self, read_flags: Any, read_mapqs: Any, read_support: Any, read_bases: Any, mask: Any) -> Any:
        """Gathers the channels of each row.

        Args:
            read_flags: SAM FLAG and :data:`cnnspark.tensors.schema.MATE_ROW`, (B, R).
            read_mapqs: Mapping qualities, 255 if unknown, (B, R).
            read_support: Codes of the allele that the read supports, (B, R).
            read_bases: Codes, (B, R, W).
            mask: Of :class:`RowMask`, (B, R).

        Returns:
            float32 (B, R, 16).
        """
        unknown = ops.equal(_as_int(read_mapqs), UNKNOWN_MAPPING_QUALITY)
        quality = ops.where(unknown, 0.0, _as_float(read_mapqs) / 60.0)
        flags = _as_int(read_flags)[:, :, None]
        bits = ops.bitwise_and(flags, np.asarray(FLAG_BITS, np.int32)) != 0
        support = ops.equal(_as_int(read_support)[:, :, None], np.arange(4, dtype=np.int32))
        covered = ops.mean(_as_float(_as_int(read_bases) != 0), axis=-1, keepdims=True)
        scalars = [quality[:, :, None], unknown[:, :, None], bits, support, covered, orientations(read_flags)]
        return ops.concatenate([_as_float(s) for s in scalars], axis=-1) * mask[:, :, None]


@register
class WindowChannels(keras.layers.Layer):
    """The reference and the alternate side by side: codes of each one-hot (6 + 6), and whether they differ (1)."""

    channels = 13

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        codes = _one_hot_codes()
        table = np.zeros((CODES, CODES, self.channels), np.float32)
        table[:, :, :6] = codes[:, None]
        table[:, :, 6:12] = codes[None, :]
        table[:, :, 12] = 1 - np.eye(CODES)
        self._table = table.reshape(-1, self.channels)

    def call(self, reference: Any, alternate: Any) -> Any:
        """Expands the codes of both windows to channels.

        Args:
            reference: Codes of the window without the allele, (B, W).
            alternate: Codes of the window with the allele, (B, W).

        Returns:
            float32 (B, W, 13).
        """
        index = _as_int(reference) * CODES + _as_int(alternate)
        return ops.take(ops.convert_to_tensor(self._table), index, axis=0)


@register
class AddToRows(keras.layers.Layer):
    """Adds a vector for each row to every column of that row, padding included.

    The same as joining the vector as constant channels in front of the convolution, W times cheaper.
    """

    def call(self, x: Any, rows: Any) -> Any:
        """Adds ``rows`` (B, R, C) to ``x`` (B, R, W, C); returns (B, R, W, C)."""
        return x + rows[:, :, None, :]


@register
class ClearPadding(keras.layers.Layer):
    """Sets padding rows to zero, so that kernels along the reads see the same as at the edge."""

    def call(self, x: Any, mask: Any) -> Any:
        """Multiplies ``x`` (B, R, W, C) by ``mask`` (B, R); returns (B, R, W, C)."""
        return x * mask[:, :, None, None]


@register
class PoolReads(keras.layers.Layer):
    """Pools the reads of an allele, whatever their number and padding.

    Mean over all reads, over the reads that support REF and over those that support this ALT, and maximum over all
    reads. A group without reads gives zeros.
    """

    def call(self, x: Any, mask: Any, read_support: Any) -> Any:
        """Pools over the rows.

        Args:
            x: (B, R, W, C).
            mask: Of :class:`RowMask`, (B, R).
            read_support: Codes of the allele that the read supports, (B, R).

        Returns:
            (B, W, 4 C): the three means, then the maximum.
        """
        support = _as_int(read_support)
        groups = [mask] + [mask * _as_float(ops.equal(support, g)) for g in (SUPPORTS_REF, SUPPORTS_ALT)]
        # (B, 3, R), each group's weights adding up to 1
        weights = ops.stack([g / ops.maximum(ops.sum(g, axis=1, keepdims=True), 1.0) for g in groups], axis=1)
        window, channels = x.shape[2], x.shape[3]
        flat = ops.reshape(x, (-1, ops.shape(x)[1], window * channels))
        means = ops.reshape(ops.matmul(weights, flat), (-1, 3, window, channels))
        highest = ops.max(ops.where(mask[:, :, None, None] > 0, x, -1e30), axis=1)
        highest = ops.where(ops.max(mask, axis=1)[:, None, None] > 0, highest, 0.0)
        return ops.concatenate([means[:, 0], means[:, 1], means[:, 2], highest], axis=-1)


@register
class SupportCounts(keras.layers.Layer):
    """How many reads support which allele.

    log(1 + count) of each support code (4) and its share (4); for REF, then for this ALT, log(1 + count) of F1R2 and of
    F2R1 reads and the share of F1R2 among both, a half without any (3 + 3).
    """

    channels = 14

    def call(self, read_support: Any, read_flags: Any, mask: Any) -> Any:
        """Counts the reads.

        Args:
            read_support: Codes of the allele that the read supports, (B, R).
            read_flags: SAM FLAG, (B, R).
            mask: Of :class:`RowMask`, (B, R).

        Returns:
            float32 (B, 14).
        """
        member = _as_float(ops.equal(_as_int(read_support)[:, :, None], np.arange(4, dtype=np.int32)))
        counts = ops.sum(member * mask[:, :, None], axis=1)
        shares = counts / ops.maximum(ops.sum(counts, axis=1, keepdims=True), 1.0)
        parts = [ops.log1p(counts), shares]
        oriented = orientations(read_flags) * mask[:, :, None]
        for code in (SUPPORTS_REF, SUPPORTS_ALT):
            each = ops.sum(oriented * member[:, :, code, None], axis=1)  # (B, 2)
            share = (each[:, :1] + 0.5) / (ops.sum(each, axis=1, keepdims=True) + 1.0)
            parts += [ops.log1p(each), share]
        return ops.concatenate(parts, axis=-1)


@register
class QuantileEncoding(keras.layers.Layer):
    """Numbers as piecewise-linear codes, as themselves, and whether they are missing.

    For each feature, ``bins`` + 2 values:

    - code k of ``bins`` is how far the value has come through bin k, from 0 to 1 (Gorishniy et al. 2022, "On embeddings
      for numerical features", eq. 1, clipped at both ends so that an outlier counts as the largest value seen);
    - the value itself, less the middle edge, by the width of the bins except the outer ones, within +-``MOST_WIDTHS``;
    - 1 if it is missing (NaN), and then all others are 0.

    Attributes:
        edges: (F, bins + 1), ascending; weights that training does not change.
    """

    MOST_WIDTHS = 3.0

    def __init__(self, edges: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._edges = np.asarray(edges, np.float32)

    def build(self, *input_shape: Any) -> None:
        """Makes the edges a weight, so that they are saved with the network."""

        def initial(shape: Any, dtype: Any = None) -> Any:
            return ops.convert_to_tensor(self._edges, dtype=dtype)

        self.edges = self.add_weight(shape=self._edges.shape, initializer=initial, trainable=False, name="edges")

    def call(self, values: Any) -> Any:
        """Encodes ``values`` (B, F), NaN where missing; returns float32 (B, F * (bins + 2)), feature by feature."""
        edges = ops.convert_to_tensor(self.edges)
        # never seen in training counts as missing
        missing = ops.logical_or(ops.isnan(values), edges[None, :, 0] > 1e38)[:, :, None]
        values = ops.where(missing, 0.0, values[:, :, None])
        low, high = edges[None, :, :-1], edges[None, :, 1:]
        width = high - low
        flat = width <= 0  # equal edges: a step instead of a ramp
        ramp = ops.clip((values - low) / ops.where(flat, 1.0, width), 0.0, 1.0)
        codes = ops.where(flat, _as_float(values >= high), ramp)
        inner, outer = edges[:, -2] - edges[:, 1], edges[:, -1] - edges[:, 0]
        scale = ops.where(inner > 0, inner, ops.where(outer > 0, outer, 1.0))[None, :, None]
        middle = edges[None, :, self._edges.shape[1] // 2, None]
        itself = ops.clip((values - middle) / scale, -self.MOST_WIDTHS, self.MOST_WIDTHS)
        codes = ops.where(missing, 0.0, ops.concatenate([codes, itself], axis=-1))
        codes = ops.concatenate([codes, _as_float(missing)], axis=-1)  # (B, F, bins + 2)
        return ops.reshape(codes, (-1, self._edges.shape[0] * (self._edges.shape[1] + 1)))

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the layer again."""
        return {**super().get_config(), "edges": self._edges.tolist()}


def _signed(constant: int) -> int:
    """A 32-bit constant as int32 holds it."""
    return constant - (1 << 32) if constant >= 1 << 31 else constant


def _mix(h: Any) -> Any:
    """MurmurHash3's finaliser (Appleby, fmix32) in wrapping int32 arithmetic; every bit depends on every bit."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        # int32 shifts to the right copy the sign bit: the copies are masked away
        h = ops.bitwise_xor(h, ops.bitwise_and(ops.right_shift(h, shift), (1 << (32 - shift)) - 1))
        h = h * _signed(factor)
    return h


@register
class KeyedDropout(keras.layers.Layer):
    """Dropout whose mask is a hash of (salt, the example's noise key, unit), not of a generator's state.

    So an example is treated alike in whichever replica, position or batch it is: n replicas equal one. Kept units are
    scaled by 1 / (1 - rate), as in Srivastava et al. 2014.

    Attributes:
        rate: Share of the units that are dropped, at least 0 and below 1.
        salt: A number of the layer's own, so that layers drop different units.
    """

    def __init__(self, rate: float, salt: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate is at least 0 and below 1, not {rate}")
        self.rate, self.salt = rate, salt

    def call(self, x: Any, noise_key: Any, training: bool = False) -> Any:
        """Drops units of each example.

        Args:
            x: (B, ...); all dimensions except the first must be known.
            noise_key: (B,) int32 (:func:`noise_keys`).
            training: Without it nothing is dropped.

        Returns:
            The shape and dtype of ``x``.
        """
        if not training or self.rate == 0:
            return x
        factors = self.factors(noise_key, int(np.prod(x.shape[1:])))
        return x * ops.cast(ops.reshape(factors, (-1, *x.shape[1:])), x.dtype)

    def factors(self, noise_key: Any, units: int) -> Any:
        """The factor of each unit, 0 or 1 / (1 - rate): float32 (B, units) for ``noise_key`` (B,)."""
        key = _mix(ops.bitwise_xor(_as_int(noise_key), _signed(self.salt * 0x9E3779B1 & 0xFFFFFFFF)))
        unit = (np.arange(units, dtype=np.uint32) * np.uint32(0x9E3779B9)).view(np.int32)
        draw = ops.bitwise_and(_mix(key[:, None] + ops.convert_to_tensor(unit)[None, :]), 0x7FFFFFFF)
        return _as_float(draw >= int(self.rate * 2**31)) / (1.0 - self.rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the layer again."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}


@register
class KeyedSpatialDropout(KeyedDropout):
    """:class:`KeyedDropout` of whole channels (Tompson et al. 2015)."""

    def call(self, x: Any, noise_key: Any, training: bool = False) -> Any:
        """Drops channels of each example: ``x`` (B, ..., C), ``noise_key`` (B,) int32; returns (B, ..., C)."""
        if not training or self.rate == 0:
            return x
        channels = x.shape[-1]
        factors = ops.reshape(self.factors(noise_key, channels), (-1, *[1] * (len(x.shape) - 2), channels))
        return x * ops.cast(factors, x.dtype)


def noise_keys(example_key: np.ndarray, seed: int, step: int) -> np.ndarray:
    """The noise key of each example at one step of one run: a hash of (seed, step, example).

    Args:
        example_key: Integers that tell the examples apart, (B,).
        seed: Of the run.
        step: Number of the step.

    Returns:
        int32 (B,).
    """
    with np.errstate(over="ignore"):
        h = np.asarray(example_key).astype(np.int64).astype(np.uint32)
        for word in (seed, step):
            h = _mix_numpy(h ^ np.uint32((word * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF))
    return h.view(np.int32)


def _mix_numpy(h: np.ndarray) -> np.ndarray:
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))
