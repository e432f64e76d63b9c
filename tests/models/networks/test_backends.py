"""Every network on a second Keras backend: the same weights give the same output and the same gradient."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnspark.models.networks.registry import BUILDERS, build_model, feed, model_inputs
from cnnspark.models.spec import ModelSpec, quantile_edges
from tests.conftest import ROOT
from tests.support.synthetic_training import synthetic_batch

# Builds each network anew, takes the weights over, and writes output and gradient of sum(output * weight).
ON_JAX = """
import json, sys
import jax, keras, numpy as np
from cnnspark.models.networks.registry import build_model, feed, model_inputs
from cnnspark.models.spec import ModelSpec

assert keras.backend.backend() == "jax"
folder = sys.argv[1]
spec = ModelSpec.from_json(json.load(open(f"{folder}/spec.json")))
batch = dict(np.load(f"{folder}/batch.npz"))
for name in sys.argv[2:]:
    model = build_model(name, spec)
    saved = np.load(f"{folder}/{name}.npz")
    model.set_weights([saved[str(i)] for i in range(len(saved.files))])
    inputs = feed(batch, model_inputs(model))

    def total(trainable):
        fixed = [v.value for v in model.non_trainable_variables]
        output, _ = model.stateless_call(trainable, fixed, inputs, training=True)
        return (output * batch["weight"]).sum(), output

    trainable = [v.value for v in model.trainable_variables]
    gradient, output = jax.jit(jax.grad(total, has_aux=True))(trainable)
    np.savez(f"{folder}/{name}-jax.npz", output, *gradient)
"""


@pytest.fixture(scope="module")
def jax_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the batch, TensorFlow's weights and what JAX makes of them: one process for all networks."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed; it is part of the extra 'test'")
    folder = tmp_path_factory.mktemp("backends")
    batch = synthetic_batch(3, seed=6)
    batch["weight"] = np.array([1.0, -0.5, 2.0], np.float32)
    batch["noise_key"] = np.array([5, -7, 11], np.int32)  # dropout is a hash of it, the same on every backend
    spec = ModelSpec(
        ("a", "b", "c"), ("f1", "f2", "f3", "f4"),
        quantile_edges(synthetic_batch(50, 1)["annotations"]), quantile_edges(synthetic_batch(50, 1)["site_features"]),
    )  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec.to_json()))
    np.savez(folder / "batch.npz", **batch)
    for i, name in enumerate(sorted(BUILDERS)):
        keras.utils.set_random_seed(i)
        model = build_model(name, spec)
        if name == "reads":  # whose parts of the logit begin at 0
            for head in ("counts_logit", "picture_logit"):
                kernel = model.get_layer(head).kernel
                kernel.assign(np.random.default_rng(1).normal(0, 0.2, kernel.shape))
        np.savez(folder / f"{name}.npz", **{str(j): w for j, w in enumerate(model.get_weights())})
    command = [sys.executable, "-c", ON_JAX, str(folder), *sorted(BUILDERS)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    # Each network is run once: what XLA's optimization takes is more than what it saves.
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_output_and_gradient_are_those_of_tensorflow(jax_results: Path, name: str) -> None:
    import tensorflow as tf

    spec = ModelSpec.from_json(json.loads((jax_results / "spec.json").read_text()))
    model = build_model(name, spec)
    saved = np.load(jax_results / f"{name}.npz")
    model.set_weights([saved[str(i)] for i in range(len(saved.files))])
    batch = dict(np.load(jax_results / "batch.npz"))
    with tf.GradientTape() as tape:
        output = model(feed(batch, model_inputs(model)), training=True)
        total = tf.reduce_sum(output * batch["weight"])
    # The mixed network's kernels add up ten times as many terms as the others'.
    tolerance = 3e-4 if name == "gatk_2d_mix" else 1e-4
    gradient = [g.numpy() for g in tape.gradient(total, model.trainable_variables)]
    theirs = list(np.load(jax_results / f"{name}-jax.npz").values())
    np.testing.assert_allclose(theirs[0], output.numpy(), atol=1e-4)
    assert len(theirs) == len(gradient) + 1 and np.std(theirs[0]) > 1e-3
    for ours, other in zip(gradient, theirs[1:], strict=True):
        scale = max(1.0, float(np.abs(ours).max()))
        np.testing.assert_allclose(other, ours, atol=tolerance * scale)
    assert sum(float(np.abs(g).sum()) for g in gradient) > 0
