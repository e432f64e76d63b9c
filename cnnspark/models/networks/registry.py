"""The networks by name, and what one costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from cnnspark.errors import UsageError
from cnnspark.models.networks.features import build_features
from cnnspark.models.networks.gatk import build_gatk_1d, build_gatk_2d
from cnnspark.models.networks.gatk_mix import build_gatk_2d_mix
from cnnspark.models.networks.reads import build_reads
from cnnspark.models.networks.reference import build_reference
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import is_per_read

BUILDERS: dict[str, Callable[[ModelSpec], keras.Model]] = {
    "features": build_features,
    "gatk_1d": build_gatk_1d,
    "gatk_2d": build_gatk_2d,
    "gatk_2d_mix": build_gatk_2d_mix,
    "reads": build_reads,
    "reference": build_reference,
}
# Fewest rows that a batch is padded to: a maximum over no rows at all is not defined on every backend.
LEAST_ROWS = 8
COUNTED = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dense)


def build_model(name: str, spec: ModelSpec) -> keras.Model:
    """Builds an untrained network.

    Args:
        name: One of :data:`cnnspark.models.names.MODELS`.
        spec: Its inputs and hyper-parameters.

    Returns:
        A network that takes a dict of named tensors and gives the logit (B,).

    Raises:
        UsageError: if there is no network of that name, or it cannot be built from this spec.
    """
    if name not in BUILDERS:
        raise UsageError(f"there is no model '{name}'; choose one of {', '.join(sorted(BUILDERS))}")
    return BUILDERS[name](spec)


def model_inputs(model: keras.Model) -> dict[str, str]:
    """Input names of a network with their dtypes."""
    return {tensor.name: tensor.dtype for tensor in model.inputs}


def feed(batch: Mapping[str, np.ndarray], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays that a network, or a loss, takes from a batch.

    Args:
        batch: Arrays by the names of the schema, (B, ...) each.
        dtypes: Dtypes by name, as :func:`model_inputs` gives them.

    Returns:
        The named arrays in these dtypes. Per-read fields have at least ``LEAST_ROWS`` rows, added rows are zeros;
        ``noise_key`` is zeros if the batch lacks it.
    """
    fed = {}
    for name, dtype in dtypes.items():
        if name == "noise_key" and name not in batch:
            fed[name] = np.zeros(len(batch["row_count"]), np.int32)
            continue
        values = np.asarray(batch[name]).astype(dtype, copy=False)
        if is_per_read(name) and values.shape[1] < LEAST_ROWS:
            padding = [(0, 0)] * values.ndim
            padding[1] = (0, LEAST_ROWS - values.shape[1])
            values = np.pad(values, padding)
        fed[name] = values
    return fed


def complexity(model: keras.Model, rows: int = 32) -> tuple[int, float]:
    """Parameters that training changes, and millions of multiply-accumulates for one example with ``rows`` reads."""
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return parameters, sum(cost.macs for cost in layer_costs(model, rows)) / 1e6


@dataclass(frozen=True)
class LayerCost:
    """The cost of a layer for one example.

    Attributes:
        name: Name of the layer.
        kind: Name of its class.
        output: Shape of its output, without the batch.
        parameters: Numbers that training changes.
        macs: Multiply-accumulates.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int


def layer_costs(model: keras.Model, rows: int = 32) -> list[LayerCost]:
    """The cost of each layer for one example with ``rows`` reads, from the shapes of a real pass through the network.

    Multiply-accumulates of convolutions and dense layers are counted, which are nearly all of the work; sums over
    reads, norms and activations are not.

    Raises:
        UsageError: if ``rows`` is below ``LEAST_ROWS``.
    """
    if rows < LEAST_ROWS:
        raise UsageError(f"a network is run on {LEAST_ROWS} rows or more, not on {rows}")
    counted = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    # A pass instead of the shapes that Keras infers: how some depend on the number of reads it cannot express.
    outputs = keras.Model(model.inputs, [layer.output for layer in counted])
    shapes = {t.name: tuple(rows if size is None else size for size in t.shape[1:]) for t in model.inputs}
    values = outputs([np.zeros((1, *shapes[t.name]), t.dtype) for t in model.inputs])
    costs = []
    # flat, because a lone output comes without its list
    for layer, value in zip(counted, keras.tree.flatten(values), strict=True):
        shape = tuple(int(size) for size in value.shape[1:])
        macs = 0
        if isinstance(layer, COUNTED):
            # Each number of the output is a sum over the kernel's window and input channels.
            macs = int(np.prod(shape, dtype=np.int64)) * int(np.prod(layer.kernel.shape[:-1], dtype=np.int64))
        parameters = sum(int(np.prod(v.shape)) for v in layer.trainable_variables)
        costs.append(LayerCost(layer.name, type(layer).__name__, shape, parameters, macs))
    return costs
