"""The networks by name, and what one costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from cnnspark.errors import UsageError
from cnnspark.models.features import build_features
from cnnspark.models.gatk import build_gatk_1d, build_gatk_2d
from cnnspark.models.reads import build_reads
from cnnspark.models.spec import ModelSpec

BUILDERS: dict[str, Callable[[ModelSpec], keras.Model]] = {
    "features": build_features,
    "gatk_1d": build_gatk_1d,
    "gatk_2d": build_gatk_2d,
    "reads": build_reads,
}
# Fewest rows that a batch is padded to: a maximum over no rows at all is not defined on every backend.
LEAST_ROWS = 8
PER_READ = ("read_bases", "read_quals", "read_flags", "read_mapqs", "read_support")


def build_model(name: str, spec: ModelSpec) -> keras.Model:
    """The untrained network ``name``: a dict of named tensors in, the logit (B,) out. UsageError for other names."""
    if name not in BUILDERS:
        raise UsageError(f"there is no model '{name}'; choose one of {', '.join(sorted(BUILDERS))}")
    return BUILDERS[name](spec)


def model_inputs(model: keras.Model) -> dict[str, str]:
    """Input names of a network with their dtypes."""
    return {tensor.name: tensor.dtype for tensor in model.inputs}


def feed(batch: Mapping[str, np.ndarray], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What a network takes from a batch: the inputs it knows, as it wants them.

    Per-read fields are padded to at least ``LEAST_ROWS`` rows; ``noise_key`` is zeros where the batch has none.
    """
    fed = {}
    for name, dtype in dtypes.items():
        if name == "noise_key" and name not in batch:
            fed[name] = np.zeros(len(batch["row_count"]), np.int32)
            continue
        values = np.asarray(batch[name]).astype(dtype, copy=False)
        if name in PER_READ and values.shape[1] < LEAST_ROWS:
            padding = [(0, 0)] * values.ndim
            padding[1] = (0, LEAST_ROWS - values.shape[1])
            values = np.pad(values, padding)
        fed[name] = values
    return fed


def complexity(model: keras.Model, rows: int = 32) -> tuple[int, float]:
    """Trainable parameters, and millions of multiply-accumulates for one example with ``rows`` reads.

    Counted over the convolutions and dense layers, which are nearly all of the work.
    """
    macs = 0
    for layer in model.layers:
        if not isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dense)):
            continue
        shape: tuple[Any, ...] = layer.output.shape[1:-1]  # without batch and channels
        places = int(np.prod([rows if size is None else size for size in shape], dtype=np.int64))
        macs += places * int(np.prod(layer.kernel.shape))
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return parameters, macs / 1e6
