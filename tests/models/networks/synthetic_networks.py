"""What the tests of networks and bundles share: specs, logits and padding of synthetic batches."""

from __future__ import annotations

import keras
import numpy as np

from cnnspark.models.networks.registry import feed, model_inputs
from cnnspark.models.spec import ModelSpec, quantile_edges


def spec_of(batch: dict) -> ModelSpec:
    """A spec for the annotations and site features of a batch, with their own quantiles."""
    return ModelSpec(
        tuple(f"a{i}" for i in range(batch["annotations"].shape[1])),
        tuple(f"f{i}" for i in range(batch["site_features"].shape[1])),
        quantile_edges(batch["annotations"]),
        quantile_edges(batch["site_features"]),
    )


def logits(model: keras.Model, batch: dict, **more: object) -> np.ndarray:
    """The network's output (B,) for a batch."""
    return np.asarray(model(feed(batch, model_inputs(model)), **more))


def padded(batch: dict, more: int, garbage: bool = False) -> dict:
    """The batch with ``more`` rows behind its reads, of zeros or of anything."""
    result = dict(batch)
    rng = np.random.default_rng(9)
    for name in ("read_bases", "read_quals", "read_flags", "read_mapqs", "read_support"):
        values = batch[name]
        extra = np.zeros((len(values), more, *values.shape[2:]), values.dtype)
        if garbage:
            extra = rng.integers(1, 4, extra.shape).astype(values.dtype)
        result[name] = np.concatenate([values, extra], axis=1)
    return result
