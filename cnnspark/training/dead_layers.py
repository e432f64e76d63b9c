"""Dead layers of a trained network: they give nearly every allele the same output.

A rectifier that training has pushed below zero for every input stays there, because it has no gradient (Lu et al. 2019,
"Dying ReLU and initialization"). The layers behind it are dead as well. If the network has parallel branches, as
``reads`` has, the others hide it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras
import numpy as np
from keras import ops

# A layer that tells fewer alleles than this share from most is dead.
LEAST_SHARE = 0.1
# Relative to a layer's greatest value; smaller differences are rounding.
TOLERANCE = 1e-4


def activity(model: keras.Model, batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """For each layer with trainable weights the share of alleles for which its output differs from the usual one.

    A layer's output is averaged over reads and columns to (B, units). It differs if one unit is off its median over all
    alleles.

    Args:
        model: the network.
        batches: its inputs by name, arrays (B, ...).

    Returns:
        Shares from 0 to 1 by the names of the layers.
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
    """The layers whose share is below LEAST_SHARE.

    Args:
        shares: what :func:`activity` gives.
    """
    return {name: share for name, share in shares.items() if share < LEAST_SHARE}


def _units(output: keras.KerasTensor) -> keras.KerasTensor:
    middle = tuple(range(1, len(output.shape) - 1))
    return ops.mean(output, axis=middle) if middle else output
