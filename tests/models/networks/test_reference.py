"""The network without reads: what it takes, what it costs, and that it learns from the windows."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnspark.evaluation.metrics import auprc
from cnnspark.models.networks.registry import build_model, complexity, model_inputs
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import REF_COLUMN, WINDOW
from cnnspark.training import train
from cnnspark.training.settings import TrainSettings
from tests.models.networks.synthetic_networks import logits, spec_of
from tests.support.synthetic_training import synthetic_batch, write_synthetic


@pytest.fixture(scope="module")
def batch() -> dict:
    return synthetic_batch(10, seed=8)


@pytest.fixture(scope="module")
def model(batch: dict) -> keras.Model:
    keras.utils.set_random_seed(4)
    return build_model("reference", spec_of(batch))


def test_it_takes_windows_and_annotations_alone(model: keras.Model) -> None:
    assert set(model_inputs(model)) == {"reference", "alternate", "annotations", "noise_key"}


def test_it_stays_within_three_million_multiply_accumulates(model: keras.Model) -> None:
    parameters, macs = complexity(model)
    assert parameters < 150_000 and 1 < macs <= 3
    assert complexity(model, rows=128) == (parameters, macs)


@pytest.mark.parametrize("name", ["reference", "alternate", "annotations"])
def test_each_of_its_inputs_matters(model: keras.Model, batch: dict, name: str) -> None:
    changed = dict(batch)
    changed[name] = np.roll(batch[name], 1, axis=1)
    assert np.abs(logits(model, changed) - logits(model, batch)).min() > 1e-5


def test_one_changed_base_of_the_allele_is_seen(model: keras.Model, batch: dict) -> None:
    changed = dict(batch, alternate=batch["alternate"].copy())
    changed["alternate"][:, REF_COLUMN] = changed["alternate"][:, REF_COLUMN] % 4 + 1
    assert np.abs(logits(model, changed) - logits(model, batch)).min() > 1e-5


def test_an_example_does_not_depend_on_its_batch(model: keras.Model, batch: dict) -> None:
    alone = np.concatenate([logits(model, {n: v[i : i + 1] for n, v in batch.items()}) for i in range(10)])
    np.testing.assert_allclose(alone, logits(model, batch), atol=1e-5)


def test_missing_annotations_and_none_at_all_give_finite_logits(model: keras.Model, batch: dict) -> None:
    blank = dict(batch, annotations=np.full_like(batch["annotations"], np.nan))
    assert np.isfinite(logits(model, blank)).all()
    assert np.isfinite(logits(build_model("reference", ModelSpec()), batch)).all()


def homopolymer_alleles(count: int, seed: int) -> dict[str, Any]:
    """Alleles that are false where they stand in a run of one base, with annotations that say nothing of it."""
    batch = synthetic_batch(count, seed, annotations=2)
    rng = np.random.default_rng(seed)
    for i in np.flatnonzero(batch["label"] == 0):
        at = REF_COLUMN - int(rng.integers(0, 12))
        batch["reference"][i, at : at + 13] = batch["reference"][i, REF_COLUMN]
        kept = np.arange(WINDOW) != REF_COLUMN
        batch["alternate"][i, kept] = batch["reference"][i, kept]
    batch["annotations"] = rng.normal(size=batch["annotations"].shape).astype(np.float32)
    return batch


@pytest.mark.spark
def test_it_learns_from_the_windows_and_its_card_asks_for_no_site_features(spark: Any, tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path / "data", 2, 2)
    held = homopolymer_alleles(120, seed=2)
    np.savez(tmp_path / "data" / "train.npz", **homopolymer_alleles(480, seed=1))
    np.savez(tmp_path / "data" / "validation.npz", **held)
    settings = TrainSettings(model="reference", epochs=12, batch_size=16, learning_rate=3e-3)
    opener = "tests.models.networks.test_reference:open_windows"
    result = train(spark, folder, str(tmp_path / "model"), settings, lambda line: None, opener)
    assert result.card.feature_names == () and result.card.annotation_names == ("a1", "a2")
    assert result.card.metrics["AUPRC ALL"] > 0.95

    # a fresh process gives the same scores
    np.savez(tmp_path / "held.npz", **held)
    code = (
        "import sys, json, numpy as np; from cnnspark.models.bundle import load_bundle;"
        "print(json.dumps(load_bundle(sys.argv[1]).logits(dict(np.load(sys.argv[2]))).tolist()))"
    )
    command = [sys.executable, "-c", code, result.model_out, str(tmp_path / "held.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    again = np.array(json.loads(done.stdout))
    assert auprc(held["label"], again) == pytest.approx(result.card.metrics["AUPRC ALL"], abs=1e-6)


def open_windows(paths: Any, validation: Any, fields: Any = None) -> Any:
    """What the training opens its data by: two annotations, and no site features, as there are none without reads."""
    from tests.support.synthetic_training import SyntheticData

    class Windows(SyntheticData):
        annotation_names = ("a1", "a2")  # type: ignore[assignment]
        feature_names = ()

        def __init__(self, path: str):
            super().__init__(path)
            self.with_reads = False
            for part in (self.train, self.validation):
                part["site_features"] = part["site_features"][:, :0]

    return Windows(paths[0])
