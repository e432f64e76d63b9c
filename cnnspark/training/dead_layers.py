"""Which layers of a trained network say nothing: the same of nearly every allele.

A rectifier that training has pushed below zero for every input stays there, for it has no gradient (Lu et al. 2019,
"Dying ReLU and initialization"). What lies behind it says nothing either, and where layers run beside each other, as in
``reads``, the rest of the network hides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras
import numpy as np
from keras import ops

# Below this share of the alleles a layer that says something else of them says next to nothing.
LEAST_SHARE = 0.1
# Of a layer's greatest value: rounding is no difference.
TOLERANCE = 1e-4


def activity(model: keras.Model, batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """For each layer with weights of its own the share of alleles of which it says something else than of most.

    Args:
        batches: inputs of the network by name, arrays (B, ...).

    A layer's output is averaged over reads and columns to (B, units); it differs from that of most where one unit is
    off its median over all alleles.
    """
    layers = [layer for layer in model.layers if layer.trainable_weights]
    probe = keras.Model(model.inputs, [_units(layer.output) for layer in layers])
    parts = [[np.asarray(units) for units in probe(dict(batch), training=False)] for batch in batches]
    shares = {}
    for i, layer in enumerate(layers):
        units = np.concatenate([part[i] for part in parts])  # (n, units)
        usual = np.median(units, axis=0)
        differs = np.abs(units - usual) > TOLERANCE * max(np.abs(units).max(), 1e-6)
        shares[layer.name] = float(differs.any(axis=1).mean())
    return shares


def dead_layers(shares: Mapping[str, float]) -> dict[str, float]:
    """Those of :func:`activity` that say nothing, with their shares."""
    return {name: share for name, share in shares.items() if share < LEAST_SHARE}


def _units(output: keras.KerasTensor) -> keras.KerasTensor:
    middle = tuple(range(1, len(output.shape) - 1))
    return ops.mean(output, axis=middle) if middle else output
