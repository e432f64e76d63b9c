"""Dead layers: found where one is, and none in a network as it is at first."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from keras import layers

from cnnspark.training.dead_layers import activity, dead_layers


def network(bias: float, activation: str = "relu") -> keras.Model:
    """Two branches; the first layer of one is pushed down by ``bias``."""
    inputs = keras.Input((None, 6), name="x")
    down = layers.Conv1D(4, 3, padding="same", name="first", bias_initializer=keras.initializers.Constant(bias))(inputs)
    down = layers.Conv1D(4, 3, padding="same", activation="relu", name="behind")(layers.Activation(activation)(down))
    beside = layers.Dense(4, name="beside")(inputs)
    joined = layers.Concatenate()([down, beside])
    return keras.Model({"x": inputs}, layers.Dense(1, name="logit")(layers.GlobalAveragePooling1D()(joined)))


def batches(usual: int = 0) -> list[dict[str, np.ndarray]]:
    """40 and 24 examples of different length; the first ``usual`` of each are the same."""
    random = np.random.default_rng(1)
    made = [random.normal(size=(size, length, 6)).astype(np.float32) for size, length in ((40, 7), (24, 9))]
    for values in made:
        values[:usual] = 0.5
    return [{"x": values} for values in made]


@pytest.fixture(autouse=True)
def seed() -> None:
    keras.utils.set_random_seed(3)


def test_a_layer_below_zero_kills_what_is_behind_it_and_nothing_beside() -> None:
    shares = activity(network(-1000.0), batches())
    assert set(dead_layers(shares)) == {"behind"}
    assert shares["behind"] == 0 and shares["beside"] == 1 and shares["logit"] == 1


@pytest.mark.parametrize("bias", [0.0, -1000.0])
def test_a_slope_below_zero_keeps_it_alive(bias: float) -> None:
    assert not dead_layers(activity(network(bias, "leaky_relu"), batches()))


def test_the_share_is_of_the_alleles_that_differ_from_most() -> None:
    shares = activity(network(0.0), batches(usual=22))
    # 44 of 64 alleles are the same except for the length, which padded ends show
    assert shares["beside"] == pytest.approx(20 / 64)
