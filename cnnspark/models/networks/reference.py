"""``reference``: the windows of reference and alternate and the annotations. No reads are needed to run it.

A caller's annotations do not describe the sequence around the allele: repeats, homopolymers, a change that lengthens
one. This network sees the sequence with and without the allele, column by column; GATK's 1D network sees the reference
alone. Kernels run at full resolution first, strides halve the window, and the maximum comes last. Nothing depends on
other examples of a batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import layers

from cnnspark.models.networks.features import encoded_features
from cnnspark.models.networks.layers import DEEP_ACTIVATION, KeyedDropout, WindowChannels
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import WINDOW

# Filters, kernel and stride of the convolutions: half of the window's work is done at full resolution.
CONVOLUTIONS = ((32, 7, 1), (32, 5, 2), (48, 5, 1), (48, 5, 2), (64, 3, 2))
# As in ``reads``: padded columns are near zero, and the usual 1e-6 would multiply them.
NORM_EPSILON = 0.01


def build_reference(spec: ModelSpec) -> keras.Model:
    """Convolutions over both windows, and the encoded annotations.

    Site features of the spec are left out, because they are made of reads.

    Returns:
        The untrained network: inputs by their names in the schema, output the logit (B,) of "this allele is real".
    """
    inputs: dict[str, Any] = {
        "reference": keras.Input((WINDOW,), dtype="uint8", name="reference"),
        "alternate": keras.Input((WINDOW,), dtype="uint8", name="alternate"),
        "noise_key": keras.Input((), dtype="int32", name="noise_key"),
    }
    x = WindowChannels(name="window_channels")(inputs["reference"], inputs["alternate"])  # (B, W, 13)
    for i, (filters, kernel, stride) in enumerate(CONVOLUTIONS, 1):
        x = layers.Conv1D(filters, kernel, stride, padding="same", activation="relu", name=f"window_{i}")(x)
        x = layers.RMSNormalization(epsilon=NORM_EPSILON, name=f"window_{i}_norm")(x)
    x = layers.MaxPooling1D(2, name="pool_window")(x)  # (B, W/16, 64)
    x = layers.Dense(64, activation=DEEP_ACTIVATION, name="picture")(layers.Flatten(name="flatten")(x))

    parts = [x]
    without_reads = dataclasses.replace(spec, feature_names=(), feature_edges=())
    annotation_inputs, annotations = encoded_features(without_reads, inputs["noise_key"])
    if annotations is not None:
        annotations = layers.Dense(64, activation="relu", name="annotations_1")(annotations)
        parts.append(layers.Dense(48, activation="relu", name="annotations_2")(annotations))
    x = layers.Concatenate(name="shortcut")(parts) if len(parts) > 1 else x
    x = layers.Dense(64, activation="relu", name="classifier")(x)
    x = KeyedDropout(spec.dropout, salt=2, name="classifier_dropout")(x, inputs["noise_key"])
    logit = layers.Dense(1, name="logit")(x)
    logit = layers.Reshape((), name="logits")(logit)
    return keras.Model({**inputs, **annotation_inputs}, logit, name="reference")
