"""What the tests of networks and bundles share: one batch, and a network ``reads`` that looks trained."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.synthetic_training import synthetic_batch

if TYPE_CHECKING:
    import keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="module")
def batch() -> dict:
    """Twelve alleles."""
    return synthetic_batch(12, seed=5)


@pytest.fixture(scope="module")
def reads_model(batch: dict) -> keras.Model:
    """A network ``reads`` for the batch, with weights as after training."""
    # Here, because most tests of this folder need no Keras.
    import keras

    from cnnspark.models.networks.registry import build_model
    from tests.models.networks.synthetic_networks import spec_of

    keras.utils.set_random_seed(3)
    model = build_model("reads", spec_of(batch))
    # Biases and scales as after training: at their first values of 0 and 1 a missing mask would not show.
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        if len(weight.shape) == 1:
            weight.assign(np.asarray(weight) + rng.uniform(0.1, 0.3, weight.shape))
    # At first it is 0, and the reads would change nothing.
    for head in ("counts_logit", "picture_logit"):
        kernel = model.get_layer(head).kernel
        kernel.assign(rng.normal(0, 0.2, kernel.shape))
    return model
