"""Heads by which a network predicts what was hidden from it (:mod:`cnnspark.training.masking`), and their losses.

The network that is pre-trained consists of the supervised one's own layers: the layers below the heads have the same
weights and names. It uses public Keras 3 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cnnspark.errors import UsageError
from cnnspark.models.networks.layers import CODES
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import TARGET, WINDOW
from cnnspark.training.masking import LAST_BASE, masked_fields

# The last map that still has each read (or column).
MAPS = {"reads": "reads_3_mask", "reference": "window_5_norm"}
# The layers of the heads: bundles do not have their weights.
CELLS, WINDOWS, VALUES = "pretrain_cells", "pretrain_windows", "pretrain_values"
HEADS = (CELLS, f"{CELLS}_shape", f"{CELLS}_sum", WINDOWS, f"{WINDOWS}_shape", f"{VALUES}_join", VALUES)
# For a network that knows nothing, the squared error of a number in 0..1 is about 0.1, the cross-entropy of six codes
# 1.8.
NUMBERS_WEIGHT = 10.0
LARGEST_QUALITY, QUALITY_UNIT = 60.0, 40.0


def pretraining_network(name: str, model: keras.Model, spec: ModelSpec) -> keras.Model:
    """A network with heads, which shares inputs and layers with the supervised one.

    Args:
        name: the network's name.
        model: the supervised network.
        spec: its spec.

    Returns:
        A network with the outputs ``cells`` and ``values``, each if the network has its inputs. ``cells`` are, for each
        cell of a read, six logits of the codes 1 to 6 and the base quality / 40, (B, R, W, 7); or, for ``reference``,
        the logits of each column, (B, W, 6). ``values`` are the positions of the annotations, then of the site
        features, among their quantiles, (B, A + F).

    Raises:
        UsageError: if the network cannot be pre-trained.
    """
    last_hidden = _last_hidden(spec)
    if name not in last_hidden:
        raise UsageError(f"'{name}' cannot be pre-trained; choose one of {', '.join(sorted(last_hidden))}")
    fields = masked_fields(name, spec)
    outputs: dict[str, Any] = {}
    if name in MAPS:
        x = model.get_layer(MAPS[name]).output  # (B, R, W/8, C) or (B, W/8, C)
        shape, channels = ((-1, WINDOW, CODES), CODES) if name == "reads" else ((WINDOW, CODES - 1), CODES - 1)
        x = keras.layers.Dense(WINDOW // x.shape[-2] * channels, name=CELLS)(x)
        x = keras.layers.Reshape(shape, name=f"{CELLS}_shape")(x)
        if name == "reads":
            # Most cells equal the reference. The head sees both windows, so that maps of reads need not carry them.
            windows = keras.layers.Dense(CODES, name=WINDOWS)(model.get_layer("window_channels").output)  # (B, W, 7)
            windows = keras.layers.Reshape((1, WINDOW, CODES), name=f"{WINDOWS}_shape")(windows)
            x = keras.layers.Add(name=f"{CELLS}_sum")([x, windows])
        outputs["cells"] = x
    edges = {"annotations": spec.annotation_edges, "site_features": spec.feature_edges}
    count = sum(len(edges[field]) for field in fields if field in edges)
    if count:
        hidden = [model.get_layer(layer).output for layer in last_hidden[name]]
        x = keras.layers.Concatenate(name=f"{VALUES}_join")(hidden) if hidden[1:] else hidden[0]
        outputs["values"] = keras.layers.Dense(count, name=VALUES)(x)
    return keras.Model({tensor.name: tensor for tensor in model.inputs}, outputs, name=f"{name}_pretraining")


def _last_hidden(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """The last layers before the logit's dropout, by network."""
    of_features = f"dense_{len(spec.hidden_units)}"
    return {"features": (of_features,), "reads": ("classifier", "picture"), "reference": ("classifier",)}


def untrained_layers(model: keras.Model, network: keras.Model) -> list[str]:
    """The names of the layers with weights of the supervised network ``model`` that the pre-trained one lacks."""
    trained = {layer.name for layer in network.layers}
    return [layer.name for layer in model.layers if layer.weights and layer.name not in trained]


def loss_names(fields: Sequence[str]) -> tuple[str, ...]:
    """The names of the losses that :func:`masked_losses` gives, in its order.

    Args:
        fields: of which parts are hidden.
    """
    parts = {
        "bases": {"read_bases", "reference"},
        "qualities": {"read_quals"},
        "values": {"annotations", "site_features"},
    }
    return ("loss", *(name for name, of in parts.items() if of & set(fields)))


def masked_losses(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """The losses of what was hidden.

    ``bases`` is the cross-entropy of the code, ``qualities`` the squared error of Phred / 40, ``values`` the squared
    error of the position among the quantiles. Each is the mean over what was hidden of an example, 0 if nothing was.

    Args:
        targets: by name, as :func:`cnnspark.training.masking.mask` gives them.
        outputs: of :func:`pretraining_network`.

    Returns:
        float32 (B, losses): the weighted sum, then each by itself, as :func:`loss_names` orders them.
    """
    outputs = {name: ops.cast(values, "float32") for name, values in outputs.items()}
    parts: dict[str, Any] = {}
    if "cells" in outputs:
        cells = outputs["cells"]
        codes = targets[TARGET + ("read_bases" if TARGET + "read_bases" in targets else "reference")]
        codes = ops.cast(codes, "int32")
        surprise = -ops.sum(ops.log_softmax(cells[..., : CODES - 1]) * ops.take(_one_hot(), codes, axis=0), axis=-1)
        parts["bases"] = _mean(surprise, codes > 0)
        if cells.shape[-1] == CODES:
            phred = ops.minimum(ops.cast(targets[TARGET + "read_quals"], "float32"), LARGEST_QUALITY)
            has_quality = ops.logical_and(codes > 0, codes <= LAST_BASE)
            parts["qualities"] = _mean(ops.square(cells[..., CODES - 1] - phred / QUALITY_UNIT), has_quality)
    if "values" in outputs:
        of_fields = [targets[TARGET + name] for name in ("annotations", "site_features") if TARGET + name in targets]
        wanted = ops.concatenate(of_fields, axis=-1)
        known = ops.logical_not(ops.isnan(wanted))
        parts["values"] = _mean(ops.square(outputs["values"] - ops.where(known, wanted, 0.0)), known)
    total = sum(part if name == "bases" else NUMBERS_WEIGHT * part for name, part in parts.items())
    return ops.stack([total, *parts.values()], axis=-1)


def _one_hot() -> Any:
    """(7, 6): a row for each code, 0 (no target) all zeros."""
    return ops.convert_to_tensor(np.eye(CODES, dtype=np.float32)[:, 1:])


def _mean(losses: Any, chosen: Any) -> Any:
    """The mean (B,) over the chosen places of each example; 0 if it has none."""
    weights = ops.cast(chosen, "float32")
    axes = tuple(range(1, len(losses.shape)))
    return ops.sum(losses * weights, axis=axes) / ops.maximum(ops.sum(weights, axis=axes), 1.0)
