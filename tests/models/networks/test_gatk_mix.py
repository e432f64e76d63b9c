"""``gatk_2d_mix`` from a file as GATK published it: Keras on Theano, channels first. The weights here are random."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


import h5py
import keras
import numpy as np
import pytest

from cnnspark.models.gatk_weights.files import read_weights
from cnnspark.models.networks import gatk
from cnnspark.models.networks.registry import build_model, feed, model_inputs
from tests.models.networks.synthetic_networks import logits
from tests.models.networks.test_gatk import SPEC, padded, random_arrays, slow_channels
from tests.support.synthetic_training import synthetic_batch

KIND = "gatk_2d_mix"
CONVOLUTIONS = 5
Layers = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def file_layers() -> Layers:
    """The arrays of the file by Keras' names, as Theano has them."""
    arrays = random_arrays(KIND)
    found: Layers = {}
    for i in range(CONVOLUTIONS):
        found[f"conv2d_{i + 1}/kernel"] = arrays[f"conv.{i}.weight"].transpose(2, 3, 1, 0)
        found[f"conv2d_{i + 1}/bias"] = arrays[f"conv.{i}.bias"]
    for ours, theirs in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
                         ("running_var", "moving_variance")):  # fmt: skip
        found[f"batch_normalization_1/{theirs}"] = arrays[f"normalize.{ours}"]
    for i, name in enumerate(("dense_1.0", "dense_2.0", "dense_3"), 1):
        found[f"dense_{i}/kernel"], found[f"dense_{i}/bias"] = arrays[f"{name}.weight"].T, arrays[f"{name}.bias"]
    return found


@pytest.fixture(scope="module")
def model(file_layers: Layers, tmp_path_factory: pytest.TempPathFactory) -> keras.Model:
    """The network with the weights of the file."""
    path = tmp_path_factory.mktemp("mix") / "2d_cnn_mix_train.hd5"
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = b"theano"
        file.attrs["model_config"] = b'{"config": {"data_format": "channels_first"}}'
        weights = file.create_group("model_weights")
        weights.attrs["backend"] = b"theano"
        for name, values in file_layers.items():
            layer, part = name.split("/")
            weights[f"{layer}/{layer}/{part}"] = values
    built = build_model(KIND, SPEC)
    gatk.assign_weights(built, read_weights(path, "2d_mix"))
    return built


def slow_theano(layers: Layers, tensor: np.ndarray, annotations: np.ndarray) -> np.ndarray:
    """The four outputs for a tensor (15, 128, 128), channels first, by convolution in the sense of mathematics."""

    def conv(x: np.ndarray, number: int) -> np.ndarray:  # (in, rows, columns)
        kernel = np.ascontiguousarray(layers[f"conv2d_{number}/kernel"])  # else NumPy multiplies without BLAS
        rows, columns = kernel.shape[:2]
        height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
        out = np.zeros((kernel.shape[3], height * width), np.float32) + layers[f"conv2d_{number}/bias"][:, None]
        for i in range(rows):
            for j in range(columns):
                seen = x[:, rows - 1 - i :, columns - 1 - j :][:, :height, :width]
                out += kernel[i, j].T @ seen.reshape(len(x), -1)
        return np.maximum(out, 0).reshape(-1, height, width)

    def pool(x: np.ndarray) -> np.ndarray:
        pairs = x[:, : x.shape[1] // 2 * 2]
        return np.maximum(pairs[:, ::2], pairs[:, 1::2])

    x = pool(conv(conv(conv(tensor, 1), 2), 3))
    x = pool(conv(pool(conv(x, 4)), 5)).ravel()
    norm = {
        part: layers[f"batch_normalization_1/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    a = (annotations - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
    dense = np.maximum(a @ layers["dense_1/kernel"] + layers["dense_1/bias"], 0)
    x = np.maximum(np.concatenate([x, dense]) @ layers["dense_2/kernel"] + layers["dense_2/bias"], 0)
    return np.concatenate([x, a]) @ layers["dense_3/kernel"] + layers["dense_3/bias"]


def test_it_has_the_published_number_of_parameters(model: keras.Model) -> None:
    assert sum(int(np.prod(w.shape)) for w in model.trainable_variables) == 2_031_718


@pytest.mark.parametrize("rows", [0, 3, 95, 128])
def test_the_file_gives_what_theano_would_compute_of_all_rows(
    model: keras.Model, file_layers: Layers, rows: int
) -> None:
    one = synthetic_batch(1, seed=rows, rows=max(2, rows), annotations=7)
    one["row_count"][:] = rows
    one["annotations"] = np.nan_to_num(one["annotations"])
    tensor = slow_channels(one, 0).transpose(2, 0, 1).astype(np.float32)
    expected = slow_theano(file_layers, tensor, one["annotations"][0])
    classes = keras.Model(model.inputs, model.get_layer("classes").output)
    for more in (0, 7):
        fed = feed(padded(one, min(128, one["read_bases"].shape[1] + more)), model_inputs(classes))
        np.testing.assert_allclose(np.asarray(classes([fed[t.name] for t in classes.inputs]))[0], expected, atol=2e-4)


def test_in_training_an_examples_dropout_does_not_depend_on_its_batch(model: keras.Model) -> None:
    batch = synthetic_batch(2, seed=5, rows=9, annotations=7)
    batch |= {"variant_type": np.array([0, 2], np.int32), "noise_key": np.arange(2, dtype=np.int32) * 7919}
    whole = logits(model, batch, training=True)
    assert np.abs(whole - logits(model, batch)).min() > 1e-4
    alone = {name: values[1:] for name, values in batch.items()}
    np.testing.assert_allclose(logits(model, alone, training=True), whole[1:], atol=1e-4)
