"""``reads``: the network for read tensors.

Kernels run along the sequence (1, k) or along the reads (k, 1), never both. Bases and qualities have a tower each at
full resolution; then the facts of a whole read are added, the window is halved step by step, and pooling comes last.
Annotations and site features have the layers of ``features``, by the same names, so that training can start from such a
model: its logit is added to that of the convolutions (the picture) and to that of the counts of reads. Nothing depends
on other examples of a batch (no batch statistics), so that n replicas compute what one computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from cnnspark.models.networks.features import encoded_features, feature_layers
from cnnspark.models.networks.layers import (
    DEEP_ACTIVATION,
    AddToRows,
    BaseChannels,
    ClearPadding,
    KeyedDropout,
    PoolReads,
    QualityChannels,
    RowChannels,
    RowMask,
    SupportCounts,
    WindowChannels,
)
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import WINDOW

# Channels are near zero in columns without bases. The usual 1e-6 would multiply them a thousandfold, and with them the
# rounding errors by which replicas differ.
NORM_EPSILON = 0.01
COUNTS_LOGIT, PICTURE_LOGIT = "counts_logit", "picture_logit"


def build_reads(spec: ModelSpec) -> keras.Model:
    """Convolutions over the reads, counts of reads, annotations and site features; three logits added up.

    Returns:
        The untrained network: inputs by their names in the schema, output the logit (B,) of "this allele is real".
    """
    inputs: dict[str, Any] = {
        "read_bases": keras.Input((None, WINDOW), dtype="uint8", name="read_bases"),
        "read_quals": keras.Input((None, WINDOW), dtype="uint8", name="read_quals"),
        "read_mapqs": keras.Input((None,), dtype="uint8", name="read_mapqs"),
        "reference": keras.Input((WINDOW,), dtype="uint8", name="reference"),
        "alternate": keras.Input((WINDOW,), dtype="uint8", name="alternate"),
        "read_flags": keras.Input((None,), dtype="int32", name="read_flags"),
        "read_support": keras.Input((None,), dtype="uint8", name="read_support"),
        "row_count": keras.Input((), dtype="int32", name="row_count"),
        "noise_key": keras.Input((), dtype="int32", name="noise_key"),
    }
    mask = RowMask(name="row_mask")(inputs["row_count"], inputs["read_flags"])
    picture = _picture(spec, inputs, mask)
    feature_inputs, features = encoded_features(spec, inputs["noise_key"])
    counts = SupportCounts(name="support_counts")(inputs["read_support"], inputs["read_flags"], mask)
    logits = []
    if features is not None:
        features = feature_layers(spec, features, inputs["noise_key"])
        logits.append(layers.Dense(1, name="logit")(features))
        counts = layers.Concatenate(name="shortcut")([counts, features])
    counts = layers.Dense(64, activation="relu", name="classifier")(counts)
    counts = KeyedDropout(spec.dropout, salt=2, name="classifier_dropout")(counts, inputs["noise_key"])
    # From zero: a network that starts from trained ``features`` is at first as good as these. The picture has its own
    # logit, so that convolutions that were trained alone can be joined with the rest, at half of their logit.
    parts = {COUNTS_LOGIT: counts, PICTURE_LOGIT: picture}
    logits += [layers.Dense(1, kernel_initializer="zeros", name=name)(part) for name, part in parts.items()]
    logit = layers.Add(name="residual")(logits)
    logit = layers.Reshape((), name="logits")(logit)
    return keras.Model({**inputs, **feature_inputs}, logit, name="reads")


def _picture(spec: ModelSpec, inputs: Mapping[str, Any], mask: Any) -> Any:
    """The last hidden layer (B, 64) of the convolutions over reads and windows."""
    bases = BaseChannels(name="base_channels")(
        inputs["read_bases"], inputs["reference"], inputs["alternate"], mask
    )  # (B, R, W, 8)
    quals = QualityChannels(name="quality_channels")(inputs["read_quals"], mask)  # (B, R, W, 2)
    rows = RowChannels(name="row_channels")(
        inputs["read_flags"], inputs["read_mapqs"], inputs["read_support"], inputs["read_bases"], mask
    )  # (B, R, 16)

    def conv(x: Any, filters: int, kernel: tuple[int, int], stride: int, name: str) -> Any:
        x = layers.Conv2D(filters, kernel, (1, stride), padding="same", activation="relu", name=name)(x)
        # RMS instead of layer normalisation: a third faster on a CPU
        x = layers.RMSNormalization(epsilon=NORM_EPSILON, name=f"{name}_norm")(x)
        return ClearPadding(name=f"{name}_mask")(x, mask)

    bases = layers.Conv2D(8, (1, 5), padding="same", activation="relu", name="bases")(bases)
    quals = layers.Conv2D(4, (1, 5), padding="same", activation="relu", name="quals")(quals)
    x = layers.Concatenate(name="join_quals")([bases, quals])  # (B, R, W, 12)
    x = layers.Conv2D(16, (1, 5), (1, 2), padding="same", name="sequence_1")(x)  # (B, R, W/2, 16)
    x = AddToRows(name="join_rows")(x, layers.Dense(16, name="rows")(rows))
    x = layers.RMSNormalization(epsilon=NORM_EPSILON, name="sequence_1_norm")(layers.ReLU(name="sequence_1_relu")(x))
    x = ClearPadding(name="sequence_1_mask")(x, mask)
    x = conv(x, 16, (5, 1), 1, "reads_1")
    x = conv(x, 24, (1, 5), 2, "sequence_2")  # (B, R, W/4, 24)
    x = conv(x, 24, (5, 1), 1, "reads_2")
    x = conv(x, 32, (1, 3), 2, "sequence_3")  # (B, R, W/8, 32)
    x = conv(x, 32, (5, 1), 1, "reads_3")
    x = PoolReads(name="pool_reads")(x, mask, inputs["read_support"])  # (B, W/8, 128)

    window = WindowChannels(name="window_channels")(inputs["reference"], inputs["alternate"])  # (B, W, 13)
    for i, (filters, kernel) in enumerate(((16, 7), (24, 5), (32, 3)), 1):
        window = layers.Conv1D(filters, kernel, 2, padding="same", activation="relu", name=f"window_{i}")(window)
        window = layers.RMSNormalization(epsilon=NORM_EPSILON, name=f"window_{i}_norm")(window)
    x = layers.Concatenate(name="join_window")([x, window])  # (B, W/8, 160)
    for i in (1, 2):
        x = layers.Conv1D(48, 3, padding="same", activation=DEEP_ACTIVATION, name=f"joint_{i}")(x)
        x = layers.RMSNormalization(epsilon=NORM_EPSILON, name=f"joint_{i}_norm")(x)
    x = layers.MaxPooling1D(2, name="pool_window")(x)  # (B, W/16, 48)
    x = layers.Dense(64, activation=DEEP_ACTIVATION, name="picture")(layers.Flatten(name="flatten")(x))
    return KeyedDropout(spec.dropout, salt=3, name="picture_dropout")(x, inputs["noise_key"])


def picture_part(model: keras.Model) -> keras.Model:
    """The part of a ``reads`` network that ends in the logit of its convolutions, (B, 1)."""
    return keras.Model(model.inputs, model.get_layer(PICTURE_LOGIT).output)
