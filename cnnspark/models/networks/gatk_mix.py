"""``gatk_2d_mix``: the larger of GATK's published 2D networks, ``2d_cnn_mix_train``."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from cnnspark.models.networks.gatk import GatkLogit, RepeatLastRow, inputs_with_reads
from cnnspark.models.networks.layers import KeyedDropout
from cnnspark.models.spec import ModelSpec

_KERNEL = 16


def build_gatk_2d_mix(spec: ModelSpec) -> keras.Model:
    """GATK's network ``2d_cnn_mix_train``: read tensor and annotations.

    2,031,718 parameters with its seven annotations; 12,471 million multiply-accumulates on 128 rows, here 3,918 at
    32 reads (:class:`cnnspark.models.networks.gatk.RepeatLastRow`).

    Returns:
        The untrained network: inputs by their names in the schema, output the logit (B,).

    Raises:
        UsageError: if the spec names no annotations, or allows more than 128 reads.
    """
    inputs, annotations, x = inputs_with_reads(spec, "gatk_2d_mix", _KERNEL)  # (B, R + 16 of 128, 128, 15)
    key = inputs["noise_key"]

    def conv(x: Any, i: int, filters: int, kernel: tuple[int, int]) -> Any:
        return layers.Conv2D(filters, kernel, activation="relu", kernel_initializer="glorot_normal", name=f"conv_{i}")(
            x
        )

    x = conv(x, 1, 216, (_KERNEL, 1))  # (B, R + 1 of 113, 128, 216)
    x = conv(x, 2, 160, (1, _KERNEL))  # (B, R + 1, 113, 160)
    x = RepeatLastRow(_KERNEL - 1, 113, name="rows_3")(x)
    x = conv(x, 3, 128, (_KERNEL, 1))  # (B, R + 1 of 98, 113, 128)
    # Two more before each pool, so that the last of the pooled rows is also one of empty rows.
    x = RepeatLastRow(2, 98, name="rows_pool_1")(x)
    x = layers.MaxPooling2D((2, 1), name="pool_1")(x)  # (B, R / 2 of 49, 113, 128)
    x = conv(x, 4, 96, (1, _KERNEL))  # (B, R / 2, 98, 96)
    x = RepeatLastRow(2, 49, name="rows_pool_2")(x)
    x = layers.MaxPooling2D((2, 1), name="pool_2")(x)  # (B, R / 4 of 24, 98, 96)
    # All rows from here on: dropout treats equal rows differently, and they are few.
    x = RepeatLastRow(0, 24, exactly=True, name="rows_5")(x)
    x = KeyedDropout(0.2, salt=31, name="pool_2_dropout")(x, key)
    x = conv(x, 5, 64, (_KERNEL, 1))  # (B, 9, 98, 64)
    x = layers.MaxPooling2D((2, 1), name="pool_3")(x)  # (B, 4, 98, 64)
    x = KeyedDropout(0.2, salt=32, name="pool_3_dropout")(x, key)
    x = layers.Flatten(name="flatten")(x)
    dense = layers.Dense(16, activation="relu", name="annotations_1")(annotations)
    x = layers.Concatenate(name="join_annotations")([x, dense])
    x = layers.Dense(32, activation="relu", name="joint")(x)
    x = layers.Concatenate(name="shortcut")([x, annotations])
    x = KeyedDropout(0.3, salt=33, name="shortcut_dropout")(x, key)
    classes = layers.Dense(4, name="classes")(x)
    return keras.Model(inputs, GatkLogit(name="logits")(classes, inputs["variant_type"]), name="gatk_2d_mix")
