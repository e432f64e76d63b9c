"""Layers that the networks share: expansion of the compact codes to channels, masks, encoding of numbers, dropout.

Public Keras 3 and ``keras.ops`` only, so that a network runs on any Keras backend. B is the batch, R the rows (reads),
W the window, C the channels.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from cnnspark.tensors.schema import MATE_ROW, SUPPORTS_ALT, SUPPORTS_REF

register = keras.saving.register_keras_serializable(package="cnnspark")

# Codes of read_bases, reference and alternate (cnnspark.tensors.schema): 0 nothing, 1-4 bases, 5 other, 6 gap.
CODES = 7
# Bits of read_flags that are channels of a row: paired, proper pair, reverse, mate reverse, first, second, and that the
# mate is a row, too: both are one observation.
FLAG_BITS = (0x1, 0x2, 0x10, 0x20, 0x40, 0x80, MATE_ROW)
UNKNOWN_MAPPING_QUALITY = 255
# Of the last hidden layers of a picture: a rectifier may be pushed below zero for every allele at once, and then no
# gradient brings it back (Lu et al. 2019, "Dying ReLU and initialization"). This has a slope there.
DEEP_ACTIVATION = "leaky_relu"


def _as_int(x: Any) -> Any:
    return ops.cast(x, "int32")


def _as_float(x: Any) -> Any:
    return ops.cast(x, "float32")


def _one_hot_codes() -> np.ndarray:
    """(7, 6): a row for each code; nothing is all zeros."""
    return np.eye(CODES, dtype=np.float32)[:, 1:]


@register
class RowMask(keras.layers.Layer):
    """1 for a read's row, 0 for padding: ``(row_count (B,), read_flags (B, R)) -> (B, R)`` float32."""

    def call(self, row_count: Any, read_flags: Any) -> Any:
        # cumsum instead of arange: R is known only when the network runs, and this needs no dynamic shape
        position = ops.cumsum(ops.ones_like(read_flags, dtype="int32"), axis=1)
        return _as_float(position <= _as_int(row_count)[:, None])


@register
class BaseChannels(keras.layers.Layer):
    """What each read says in each column: ``-> (B, R, W, 8)``.

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
    """Base qualities ``-> (B, R, W, 2)``: Phred / 40, and P(the base is right) = 1 - 10^(-Phred / 10)."""

    channels = 2

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        phred = np.arange(256, dtype=np.float32)
        self._table = np.stack([np.minimum(phred, 60) / 40, 1 - 10 ** (-phred / 10)], axis=-1).astype(np.float32)

    def call(self, read_quals: Any, mask: Any) -> Any:
        quals = _as_int(read_quals) * _as_int(mask)[:, :, None]
        return ops.take(ops.convert_to_tensor(self._table), quals, axis=0)


def orientations(read_flags: Any) -> Any:
    """Whether a read's fragment lies F1R2, and whether F2R1: ``(B, R) -> (B, R, 2)`` float32, of an unpaired one
    neither. What damages one strand of a molecule before it is copied is seen in one of them alone."""
    flags = _as_int(read_flags)

    def has(bit: int) -> Any:
        return ops.bitwise_and(flags, bit) != 0

    paired, f1r2 = has(0x1), ops.logical_xor(has(0x40), has(0x10))
    both = [ops.logical_and(paired, f1r2), ops.logical_and(paired, ops.logical_not(f1r2))]
    return _as_float(ops.stack(both, axis=-1))


@register
class RowChannels(keras.layers.Layer):
    """What holds for a whole read ``-> (B, R, 16)``; padding rows are zero.

    Mapping quality / 60, mapping quality unknown, seven FLAG bits, support one-hot (4), covered share of the window,
    whether F1R2, whether F2R1.
    """

    channels = 2 + len(FLAG_BITS) + 4 + 1 + 2

    def call(self, read_flags: Any, read_mapqs: Any, read_support: Any, read_bases: Any, mask: Any) -> Any:
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
    """The reference and the alternate side by side ``-> (B, W, 13)``: codes of each as one-hot (6), and whether they
    differ."""

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
        index = _as_int(reference) * CODES + _as_int(alternate)
        return ops.take(ops.convert_to_tensor(self._table), index, axis=0)


@register
class AddToRows(keras.layers.Layer):
    """Adds a vector for each row to every column of that row, padding included: ``-> (B, R, W, C)``.

    The same as joining the vector as constant channels in front of the convolution, W times cheaper.
    """

    def call(self, x: Any, rows: Any) -> Any:
        return x + rows[:, :, None, :]


@register
class ClearPadding(keras.layers.Layer):
    """Sets padding rows to zero, so that kernels along the reads see the same as at the edge: ``-> (B, R, W, C)``."""

    def call(self, x: Any, mask: Any) -> Any:
        return x * mask[:, :, None, None]


@register
class PoolReads(keras.layers.Layer):
    """One picture of all reads, whatever their number and padding: ``(B, R, W, C) -> (B, W, 4 C)``.

    Mean and maximum over all reads, mean over the reads that support REF and over those that support this ALT. Where
    there is no such read the values are zero.
    """

    def call(self, x: Any, mask: Any, read_support: Any) -> Any:
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
    """How many reads support what: ``-> (B, 14)``.

    log(1 + count) and share of each support code; for REF, then for this ALT, log(1 + count) of F1R2 and of F2R1 reads
    and the share of F1R2 among both, a half where there is neither.
    """

    channels = 14

    def call(self, read_support: Any, read_flags: Any, mask: Any) -> Any:
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
    """Numbers as piecewise-linear codes and as themselves: ``(B, F) -> (B, F * (bins + 2))``.

    For each feature: code k of ``bins`` is how far the value has come through bin k, from 0 to 1 (Gorishniy et al.
    2022, "On embeddings for numerical features", eq. 1, clipped at both ends so that an outlier is no more than the
    largest value seen); then the value itself, less the middle edge, by the width of the bins but the outer ones,
    within +-``MOST_WIDTHS``; then 1 where it is missing (NaN), and the others 0. ``edges`` (F, bins + 1), ascending,
    are weights that training does not touch.
    """

    MOST_WIDTHS = 3.0

    def __init__(self, edges: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._edges = np.asarray(edges, np.float32)

    def build(self, *input_shape: Any) -> None:
        def initial(shape: Any, dtype: Any = None) -> Any:
            return ops.convert_to_tensor(self._edges, dtype=dtype)

        self.edges = self.add_weight(shape=self._edges.shape, initializer=initial, trainable=False, name="edges")

    def call(self, values: Any) -> Any:
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
        return {**super().get_config(), "edges": self._edges.tolist()}


def _signed(constant: int) -> int:
    """A 32-bit constant as int32 holds it."""
    return constant - (1 << 32) if constant >= 1 << 31 else constant


def _mix(h: Any) -> Any:
    """MurmurHash3's finaliser (Appleby, fmix32) in wrapping int32 arithmetic; every bit depends on every bit."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        # int32 shifts to the right drag the sign along: what it dragged in is masked away
        h = ops.bitwise_xor(h, ops.bitwise_and(ops.right_shift(h, shift), (1 << (32 - shift)) - 1))
        h = h * _signed(factor)
    return h


@register
class KeyedDropout(keras.layers.Layer):
    """Dropout whose mask is a hash of (salt, the example's noise key, unit), not of a generator's state.

    So an example is treated alike in whichever replica, position or batch it stands: n replicas equal one. Call with
    ``(x (B, ...), noise_key (B,) int32)``; all dimensions but the first must be known. Kept units are scaled by
    1 / (1 - rate), as in Srivastava et al. 2014.
    """

    def __init__(self, rate: float, salt: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate is at least 0 and below 1, not {rate}")
        self.rate, self.salt = rate, salt

    def call(self, x: Any, noise_key: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return x
        factors = self.factors(noise_key, int(np.prod(x.shape[1:])))
        return x * ops.cast(ops.reshape(factors, (-1, *x.shape[1:])), x.dtype)

    def factors(self, noise_key: Any, units: int) -> Any:
        """What each unit is multiplied by, 0 or 1 / (1 - rate): float32 (B, units)."""
        key = _mix(ops.bitwise_xor(_as_int(noise_key), _signed(self.salt * 0x9E3779B1 & 0xFFFFFFFF)))
        unit = (np.arange(units, dtype=np.uint32) * np.uint32(0x9E3779B9)).view(np.int32)
        draw = ops.bitwise_and(_mix(key[:, None] + ops.convert_to_tensor(unit)[None, :]), 0x7FFFFFFF)
        return _as_float(draw >= int(self.rate * 2**31)) / (1.0 - self.rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}


@register
class KeyedSpatialDropout(KeyedDropout):
    """The same for whole channels (Tompson et al. 2015): ``(x (B, ..., C), noise_key (B,)) -> (B, ..., C)``."""

    def call(self, x: Any, noise_key: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return x
        channels = x.shape[-1]
        factors = ops.reshape(self.factors(noise_key, channels), (-1, *[1] * (len(x.shape) - 2), channels))
        return x * ops.cast(factors, x.dtype)


def noise_keys(example_key: np.ndarray, seed: int, step: int) -> np.ndarray:
    """The noise key (B,) int32 of each example at one step of one run: a hash of (seed, step, example)."""
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
