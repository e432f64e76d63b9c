"""A bundle keeps its network and card; one that is damaged or hostile is refused."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnspark.errors import InputError
from cnnspark.models.bundle import Bundle, load_bundle, save_bundle
from cnnspark.models.calibration import Platt
from cnnspark.models.card import Card, read_card, training_ranges
from cnnspark.models.input_drift import known_values
from cnnspark.models.networks.registry import BUILDERS, build_model
from cnnspark.models.summary import usual_spec
from cnnspark.variants.score_fields import log_odds
from tests.models.networks.synthetic_networks import logits, padded, spec_of


@pytest.fixture(scope="module")
def saved(batch: dict, reads_model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model"
    spec = spec_of(batch)
    ranges = training_ranges(spec.annotation_names, batch["annotations"])
    save_bundle(path, reads_model, Card("reads", spec, ranges, {"SNP": {"0.90": 1.5, "0.99": None}}))
    return path


def test_a_bundle_gives_the_same_numbers_after_saving_in_safe_mode(
    batch: dict, reads_model: keras.Model, saved: Path
) -> None:
    bundle = load_bundle(saved)
    expected = logits(reads_model, batch)
    np.testing.assert_allclose(bundle.logits(batch), expected, atol=1e-5)
    probability = bundle.predict(batch)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-expected.astype(np.float64))), rtol=1e-5)
    assert probability.dtype == np.float64
    assert bundle.predict({name: values[:0] for name, values in batch.items()}).shape == (0,)
    np.testing.assert_allclose(bundle.predict(padded(batch, 8)), probability, rtol=1e-5)
    assert bundle.card == read_card(saved)


def test_scoring_leaves_nothing_in_the_folder_for_temporary_files(
    batch: dict, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AutoGraph writes the code that it makes there, and who kills a worker leaves it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load_bundle(saved).predict(batch)
    assert not list(tmp_path.iterdir())


def test_predictions_are_calibrated_and_rank_as_before(batch: dict, saved: Path) -> None:
    bundle = load_bundle(saved)
    plain = bundle.logits(batch).astype(np.float64)
    calibrated = Bundle(dataclasses.replace(bundle.card, calibration=Platt(0.5, -1.25)), bundle.model)
    probability = calibrated.predict(batch)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-(0.5 * plain - 1.25))), rtol=1e-9)
    np.testing.assert_array_equal(np.argsort(probability), np.argsort(plain))


def test_calibration_and_histograms_come_back_from_the_card(batch: dict, saved: Path, tmp_path: Path) -> None:
    bundle = load_bundle(saved)
    known = known_values(bundle.card.annotation_names, batch["annotations"])
    card = dataclasses.replace(
        bundle.card, calibration=Platt(0.5, -1.25), sensitivity_thresholds={"ALL": {"0.999": -3.0}}, known=known
    )
    written = save_bundle(tmp_path / "m", bundle.model, card)
    assert read_card(tmp_path / "m") == written


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("calibration", {"slope": 0, "intercept": 0}),
        ("calibration", 3),
        ("known", {"alleles": 3}),
        ("known", {"alleles": 3, "histograms": [{"name": "x", "edges": [1, 2], "counts": [1], "noise": 1}]}),
        ("sensitivity_thresholds", []),
    ],
)
def test_a_damaged_calibration_or_histogram_is_refused(saved: Path, tmp_path: Path, name: str, value: object) -> None:
    shutil.copytree(saved, tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps(card | {name: value}))
    with pytest.raises(InputError, match="incomplete"):
        read_card(tmp_path / "m")


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_model_survives_saving(batch: dict, tmp_path: Path, name: str) -> None:
    model = build_model(name, spec_of(batch))
    save_bundle(tmp_path / "m", model, Card(name, spec_of(batch)))
    np.testing.assert_allclose(load_bundle(tmp_path / "m").logits(batch), logits(model, batch), atol=1e-5)


def test_a_bundle_is_not_overwritten_unless_told(batch: dict, saved: Path, reads_model: keras.Model) -> None:
    card = read_card(saved)
    with pytest.raises(InputError, match="exists"):
        save_bundle(saved, reads_model, card)
    save_bundle(saved, reads_model, card, replace=True)
    assert read_card(saved).spec == card.spec
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_card_is_read_without_keras(saved: Path) -> None:
    code = (
        "import sys; from cnnspark.models.card import read_card; card = read_card(sys.argv[1]);"
        "assert not {'keras', 'tensorflow', 'pyspark'} & set(sys.modules); print(card.model, card.thresholds)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "reads {'SNP': {'0.90': 1.5, '0.99': None}}"


def test_what_is_not_a_bundle_is_said_so(saved: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for file in saved.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    def edited(name: str, **changes: object) -> Path:
        target = copy(name)
        card = json.loads((target / "model.json").read_text()) | changes
        (target / "model.json").write_text(json.dumps(card))
        return target

    no_network, no_card, no_json, other = copy("a"), copy("b"), copy("c"), copy("d")
    (no_network / "model.keras").unlink()
    (no_card / "model.json").unlink()
    (no_json / "model.json").write_text("{")
    with open(other / "model.keras", "ab") as network:
        network.write(b"x")
    cases = [
        (tmp_path / "nowhere", "is not a model bundle"),
        (saved / "model.json", "is not a model bundle"),
        (no_network, "model.keras is missing"),
        (no_card, "model.json is missing"),
        (no_json, "is not JSON"),
        (edited("e", format="other"), "is not the card of a cnnspark model"),
        (edited("f", format_version=99), "format version 99"),
        (edited("g", spec={}), "is incomplete"),
        (edited("h", thresholds=[]), "is incomplete"),
        (edited("i", schema={"window": 64}), "another layout"),
        (other, "is not the network its card describes"),
        (edited("j", thresholds={"SNP": {"0.90": 1.6}}), "model.json has changed since it was written"),
    ]
    for path, message in cases:
        with pytest.raises(InputError, match=message):
            load_bundle(path)


def test_code_hidden_in_a_network_is_refused(saved: Path, tmp_path: Path) -> None:
    x = keras.Input((3,), name="annotations")
    model = keras.Model({"annotations": x}, keras.layers.Reshape(())(keras.layers.Lambda(lambda v: v[:, :1])(x)))
    card = dataclasses.replace(read_card(saved), sha256="")
    save_bundle(tmp_path / "m", model, card)
    with pytest.raises(InputError, match="cannot be opened"):
        load_bundle(tmp_path / "m")


def test_scores_are_log_odds_with_the_documented_smoothing() -> None:
    np.testing.assert_allclose(log_odds(np.array([0.5, 1.0, 0.0])), [0, np.log((1 + 1e-7) / 1e-7), -np.log(1e7 + 1)])


def test_ranges_leave_missing_values_out() -> None:
    values = np.array([[0, np.nan], [100, np.nan], [50, np.nan], [np.nan, np.nan]])
    first, second = training_ranges(("DP", "QD"), values)
    assert (first.minimum, first.median, first.maximum, first.missing_share) == (0, 50, 100, 0.25)
    assert second.median is None and second.missing_share == 1


def test_prediction_is_compiled_once_for_all_shapes(batch: dict, saved: Path) -> None:
    bundle: Bundle = load_bundle(saved)
    for count, more in ((1, 0), (5, 8), (12, 24)):
        bundle.predict(padded({name: values[:count] for name, values in batch.items()}, more))
    assert bundle._logits.experimental_get_tracing_count() == 1


def test_the_same_network_gives_the_same_bytes_whenever_it_is_saved(tmp_path: Path) -> None:
    code = (
        "import sys, keras; from cnnspark.models.summary import usual_spec;"
        "from cnnspark.models.networks.registry import build_model; from cnnspark.models.bundle import save_bundle;"
        "from cnnspark.models.card import Card; keras.utils.set_random_seed(1);"
        "spec = usual_spec('features'); card = Card('features', spec);"
        "print(save_bundle(sys.argv[1], build_model('features', spec), card).sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one")], capture_output=True, text=True, check=True
    )
    # Here other networks have been made before, and it is later.
    keras.utils.set_random_seed(1)
    spec = usual_spec("features")
    card = save_bundle(tmp_path / "two", build_model("features", spec), Card("features", spec))
    assert card.sha256 == done.stdout.strip()
    load_bundle(tmp_path / "two")
