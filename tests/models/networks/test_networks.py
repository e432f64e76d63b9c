"""The networks: padding, order and missing reads change nothing that they should not."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from cnnspark.errors import UsageError
from cnnspark.models.networks.registry import build_model, complexity, feed, model_inputs
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import WINDOW
from tests.models.networks.synthetic_networks import logits, padded


@pytest.mark.parametrize("garbage", [False, True])
def test_padding_rows_have_no_influence_whatever_they_hold(
    batch: dict, reads_model: keras.Model, garbage: bool
) -> None:
    expected = logits(reads_model, batch)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(logits(reads_model, padded(batch, 24, garbage)), expected, atol=1e-5)


def test_padding_rows_get_no_gradient(batch: dict, reads_model: keras.Model) -> None:
    import tensorflow as tf

    def gradients(of: dict) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(reads_model(feed(of, model_inputs(reads_model))))
        return [g.numpy() for g in tape.gradient(total, reads_model.trainable_variables)]

    for plain, more in zip(gradients(batch), gradients(padded(batch, 24, garbage=True)), strict=True):
        np.testing.assert_allclose(more, plain, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(plain).max()))


def test_an_allele_without_reads_gets_a_finite_logit_that_its_neighbours_do_not_change(
    batch: dict, reads_model: keras.Model
) -> None:
    empty = dict(batch, row_count=batch["row_count"].copy())
    empty["row_count"][0] = 0
    got = logits(reads_model, empty)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[1:], logits(reads_model, batch)[1:], atol=1e-5)
    none = {name: v[:1, :0] if name.startswith("read_") else v[:1] for name, v in empty.items()}
    np.testing.assert_allclose(logits(reads_model, none), got[:1], atol=1e-5)


@pytest.mark.parametrize("name", ["read_bases", "read_quals", "read_flags", "read_mapqs", "read_support", "alternate"])
def test_every_input_matters(batch: dict, reads_model: keras.Model, name: str) -> None:
    changed = dict(batch)
    changed[name] = np.where(batch[name] > 0, 1, 0).astype(batch[name].dtype)
    assert np.abs(logits(reads_model, changed) - logits(reads_model, batch)).max() > 1e-4


def test_the_order_of_examples_does_not_matter(batch: dict, reads_model: keras.Model) -> None:
    turned = {name: values[::-1] for name, values in batch.items()}
    np.testing.assert_allclose(logits(reads_model, turned)[::-1], logits(reads_model, batch), atol=1e-5)


def test_reads_stays_within_its_budget(reads_model: keras.Model) -> None:
    parameters, macs = complexity(reads_model)
    assert parameters < 200_000 and 10 < macs < 25
    # by hand: places x kernel x channels in x channels out, of one layer of each kind
    small = keras.Sequential([keras.Input((32, WINDOW, 2)), keras.layers.Conv2D(4, (1, 5), (1, 2), padding="same")])
    assert complexity(small) == (5 * 2 * 4 + 4, 32 * 64 * 5 * 2 * 4 / 1e6)


def test_an_unknown_model_names_the_known_ones_and_features_needs_some() -> None:
    with pytest.raises(UsageError, match="features, gatk_1d, gatk_2d, gatk_2d_mix, reads, reference"):
        build_model("resnet", ModelSpec())
    with pytest.raises(UsageError, match="needs annotations or site features"):
        build_model("features", ModelSpec())


def test_reads_works_without_annotations_and_site_features(batch: dict) -> None:
    assert logits(build_model("reads", ModelSpec()), batch).shape == (12,)
