"""Losses against their textbook formulas in float64, and their gradients against finite differences."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf

from cnnspark.errors import UsageError
from cnnspark.training.losses import LOSSES, loss_by_name, training_loss
from cnnspark.training.settings import LOSS_NAMES

# The formulas as one writes them down, p being the probability of the true class.
ORACLE = {
    "cross_entropy": lambda p: -np.log(p),
    "focal": lambda p: -((1 - p) ** 2) * np.log(p),
    "log_loss_squared": lambda p: (-np.log(p)) ** 2,
    "log_loss_cubed": lambda p: (-np.log(p)) ** 3,
}


def truth(name: str, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return ORACLE[name](np.where(labels == 1, positive, 1 - positive))


def test_the_settings_know_the_losses() -> None:
    assert sorted(LOSS_NAMES) == sorted(LOSSES)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_values_equal_the_formula(name: str) -> None:
    logits = np.linspace(-8, 8, 41, dtype=np.float32)
    for label in (0.0, 1.0):
        labels = np.full_like(logits, label)
        got = loss_by_name(name)(tf.constant(labels), tf.constant(logits)).numpy()
        np.testing.assert_allclose(got, truth(name, labels, logits), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_equal_finite_differences_of_the_formula(name: str) -> None:
    logits, h = np.linspace(-6, 6, 25), 1e-5
    for label in (0.0, 1.0):
        labels = np.full_like(logits, label)
        z = tf.Variable(logits, dtype=tf.float64)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(loss_by_name(name)(tf.constant(labels), tf.convert_to_tensor(z)))
        slope = (truth(name, labels, logits + h) - truth(name, labels, logits - h)) / (2 * h)
        np.testing.assert_allclose(tape.gradient(total, z).numpy(), slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_pull_towards_the_label(name: str) -> None:
    z = tf.Variable([-2.0, 0.0, 2.0])
    for label, direction in ((1.0, -1), (0.0, 1)):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(loss_by_name(name)(tf.fill([3], label), tf.convert_to_tensor(z)))
        assert (np.sign(tape.gradient(total, z).numpy()) == direction).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("logit", [-1e4, -100.0, 100.0, 1e4])
def test_large_logits_stay_finite(name: str, logit: float) -> None:
    for label in (0.0, 1.0):
        z = tf.Variable([logit])
        with tf.GradientTape() as tape:
            loss = loss_by_name(name)(tf.constant([label]), tf.convert_to_tensor(z))
        assert np.isfinite(loss.numpy()).all() and np.isfinite(tape.gradient(loss, z).numpy()).all()
        wrong = (logit > 0) != (label == 1)
        assert (loss.numpy()[0] >= abs(logit) * 0.99) if wrong else (loss.numpy()[0] < 1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_smoothed_labels_mix_the_losses_of_both_classes_and_their_gradients(name: str) -> None:
    logits, h, share = np.linspace(-6, 6, 25), 1e-5, 0.2
    for label in (0.0, 1.0):
        labels = np.full_like(logits, label)

        def mixed(z: np.ndarray, labels: np.ndarray = labels) -> np.ndarray:
            return 0.9 * truth(name, labels, z) + 0.1 * truth(name, 1 - labels, z)

        z = tf.Variable(logits, dtype=tf.float64)
        with tf.GradientTape() as tape:
            losses = training_loss(name, label_smoothing=share)(tf.constant(labels), tf.convert_to_tensor(z))
            total = tf.reduce_sum(losses)
        np.testing.assert_allclose(losses.numpy(), mixed(logits), rtol=1e-6)
        slope = (mixed(logits + h) - mixed(logits - h)) / (2 * h)
        np.testing.assert_allclose(tape.gradient(total, z).numpy(), slope, rtol=1e-4, atol=1e-7)


def test_smoothed_cross_entropy_is_least_at_a_finite_logit() -> None:
    loss = training_loss("cross_entropy", label_smoothing=0.2)
    logits = np.linspace(0, 6, 6001)
    values = loss(tf.ones(6001, tf.float64), tf.constant(logits)).numpy()
    assert logits[values.argmin()] == pytest.approx(np.log(1.8 / 0.2), abs=1e-3)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_hard_examples_weigh_more_by_a_constant_and_within_bounds(name: str) -> None:
    logits, strength = np.linspace(-6, 6, 25), 3.0
    for label in (0.0, 1.0):
        labels = np.full_like(logits, label)
        p = 1 / (1 + np.exp(-np.where(labels == 1, logits, -logits)))
        weight = 1 + strength * (1 - p)
        assert weight.min() > 1 and weight.max() < 1 + strength
        z = tf.Variable(logits, dtype=tf.float64)
        with tf.GradientTape(persistent=True) as tape:
            plain = loss_by_name(name)(tf.constant(labels), tf.convert_to_tensor(z))
            weighted = training_loss(name, hard_examples=strength)(tf.constant(labels), tf.convert_to_tensor(z))
        np.testing.assert_allclose(weighted.numpy(), weight * plain.numpy(), rtol=1e-9)
        # the weight itself has no gradient
        expected = weight * tape.gradient(plain, z).numpy()
        np.testing.assert_allclose(tape.gradient(weighted, z).numpy(), expected, rtol=1e-9)


def test_without_smoothing_and_weights_the_loss_is_the_plain_one() -> None:
    assert training_loss("focal") is loss_by_name("focal")


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("logit", [-1e4, -100.0, 100.0, 1e4])
def test_extreme_logits_stay_finite_with_smoothing_and_weights_too(name: str, logit: float) -> None:
    for label in (0.0, 1.0):
        z = tf.Variable([logit])
        with tf.GradientTape() as tape:
            loss = training_loss(name, 0.1, 2.0)(tf.constant([label]), tf.convert_to_tensor(z))
        assert np.isfinite(loss.numpy()).all() and np.isfinite(tape.gradient(loss, z).numpy()).all()


def test_an_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="cross_entropy, focal"):
        loss_by_name("hinge")
