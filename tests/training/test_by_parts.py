"""``reads`` trained by parts: as the three trainings by hand, and resumed where it was."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from cnnspark.config import load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle import load_bundle, save_bundle
from cnnspark.models.calibration import Platt
from cnnspark.models.card import Card, read_card
from cnnspark.models.networks.registry import build_model, feed, model_inputs
from cnnspark.models.spec import ModelSpec, quantile_edges
from cnnspark.training import driver
from cnnspark.training.by_parts import parts_folder, parts_of
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.driver import TrainResult
from cnnspark.training.job import ReplicaJob
from cnnspark.training.settings import TrainSettings
from cnnspark.training.validation import Findings, trained_card
from tests.support.synthetic_training import synthetic_batch, train
from tests.support.trainings import SETTINGS, run, weights

BY_PARTS = {
    "model": "reads", "by_parts": True, "epochs": 1, "drop_reads": 0.5, "hidden_dropout": 0.2, "keep_start": 0.75
}  # fmt: skip


def spec_of(batch: dict[str, Any], **changes: Any) -> ModelSpec:
    edges = [quantile_edges(batch[name], 3) for name in ("annotations", "site_features")]
    return ModelSpec(("a", "b", "c"), ("f1", "f2", "f3", "f4"), *edges, **changes)


def test_the_parts_in_their_order(tmp_path: Path) -> None:
    settings = TrainSettings(
        by_parts=True, epochs=5, drop_reads=0.5, keep_start=0.75, log_dir="logs", if_exists="overwrite"
    )
    parts = parts_of(settings, str(tmp_path / "m"), starts_whole=False)
    assert [part.title for part in parts] == ["site features", "picture", "all together"]
    features, picture, last = parts
    assert [part.model_out for part in parts] == [
        *(str(tmp_path / "m.parts" / name) for name in ("features", "picture")), str(tmp_path / "m")
    ]  # fmt: skip
    assert features.settings.model == "features" and not features.settings.drop_reads
    assert not picture.settings.use_site_features and picture.settings.init is None
    assert (last.settings.init, last.settings.picture) == (features.model_out, picture.model_out)
    assert [part.settings.keep_start for part in parts] == [0.0, 0.0, 0.75]
    assert last.settings.epochs == 2 and last.settings.learning_rate == pytest.approx(1e-4)
    assert {part.settings.log_dir for part in parts} == {f"logs/{n}" for n in ("features", "picture", "all")}
    assert {part.settings.if_exists for part in parts} == {"resume"}
    of_mine = parts_of(dataclasses.replace(settings, init="mine"), str(tmp_path / "m"), starts_whole=True)
    assert [part.title for part in of_mine] == ["picture", "all together"]
    assert of_mine[1].settings.init == "mine"


def test_the_hidden_layers_are_as_wide_as_the_spec_says() -> None:
    batch = synthetic_batch(40, 1)
    spec = spec_of(batch, hidden_units=(32, 16, 8), hidden_dropout=0.5)
    for name in ("features", "reads"):
        model = build_model(name, spec)
        assert [model.get_layer(f"dense_{i}").units for i in (1, 2, 3)] == [32, 16, 8]
        fed = feed(batch | {"noise_key": np.arange(40, dtype=np.int32)}, model_inputs(model))
        still, noisy = (np.asarray(model(fed, training=training)) for training in (False, True))
        assert np.abs(still - noisy).max() > 1e-3
    assert ModelSpec.from_json(spec.to_json()) == spec
    older = {name: value for name, value in spec.to_json().items() if name not in ("hidden_units", "hidden_dropout")}
    assert ModelSpec.from_json(older | {"picture": True}).hidden_units == (128, 64)
    with pytest.raises(InputError, match="'counts' .* is no longer used.*; where it comes before another, score with"):
        ModelSpec.from_json(older | {"picture": False})
    with pytest.raises(ValueError, match="hidden_units"):
        ModelSpec(hidden_units=())


@pytest.mark.spark
def test_by_parts_is_the_three_trainings_one_after_another_even_if_it_is_interrupted(
    spark: Any, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(spark: Any, job: ReplicaJob, say: Any) -> None:
        if not job.settings.use_site_features:
            raise KeyboardInterrupt
        real(spark, job, say)

    out, real, shown = tmp_path / "m", driver.run_with_retries, []
    with monkeypatch.context() as patched:
        patched.setattr(driver, "run_with_retries", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(spark, dataset, str(out), dataclasses.replace(SETTINGS, **BY_PARTS), shown.append)
    titles = ("site features", "picture", "all together")
    said = [f"part {i} of 3: {title}" for i, title in enumerate(titles, 1)]
    assert [line for line in shown if line.startswith("part ")] == said[:2] and not out.exists()
    with pytest.raises(UsageError, match="from a training that is not finished"):
        run(spark, dataset, out, **BY_PARTS)
    whole, lines = run(spark, dataset, out, **BY_PARTS, if_exists="resume")
    assert [line for line in lines if line.startswith("part ")] == said
    assert lines[lines.index(said[0]) + 1] == said[1]  # nothing was trained between them
    assert not parts_folder(whole.model_out).exists()

    own = {name: value for name, value in BY_PARTS.items() if name not in ("by_parts", "keep_start")}
    features = run(spark, dataset, tmp_path / "features", **own | {"model": "features", "drop_reads": 0.0})[0].model_out
    picture = run(spark, dataset, tmp_path / "picture", **own, use_site_features=False, use_annotations=False)[
        0
    ].model_out
    last = run(
        spark, dataset, tmp_path / "last", **own, init=features, picture=picture, learning_rate=1e-4, keep_start=0.75
    )[0]
    np.testing.assert_array_equal(weights(whole.model_out), weights(last.model_out))
    assert last.card.training["keep_start"] == 0.75
    model = load_bundle(whole.model_out).model
    for name in ("logit", "counts_logit", "picture_logit"):
        assert np.abs(model.get_layer(name).kernel.numpy()).max() > 1e-4, name
    assert len(whole.card.training["by_parts"]) == 64
    assert whole.card.training["init_sha256"] == read_card(features).sha256
    # Done is done; other settings are another training.
    again, lines = run(spark, dataset, out, **BY_PARTS, if_exists="resume")
    assert (lines, again.card.sha256) == ([], whole.card.sha256)
    with pytest.raises(UsageError, match="trained with other settings"):
        run(spark, dataset, out, **BY_PARTS | {"seed": 2}, if_exists="resume")
    with pytest.raises(UsageError, match="choose another --model-out"):
        run(spark, dataset, out, **BY_PARTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "features", "by_parts": True},
            "train.by_parts is for the model 'reads' alone, not for 'features'",
        ),
        ({"picture": "p", "by_parts": True}, "exclude each other"),
        ({"by_parts": True, "use_site_features": False}, "begins with the site features"),
        ({"by_parts": True, "objective": "pretrain"}, "pre-training has no parts; leave train.by_parts out"),
        ({"hidden_units": ()}, "hidden_units is"),
        ({"hidden_dropout": 1.0}, "hidden_dropout is 1.0"),
        ({"bins": 0}, "bins is 0"),
        ({"keep_start": 1.0, "init": "m"}, "keep_start is 1.0"),
    ],
)
def test_parts_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SETTINGS, **{"model": "reads", **changes})


def test_a_share_of_the_start_may_be_asked_for_before_the_start_is_named(tmp_path: Path) -> None:
    settings = load_config(None, ["train.keep_start=0.5"]).train
    assert settings.with_flags(init="reads").keep_start == 0.5
    assert settings.with_flags(by_parts=True).keep_start == 0.5
    for refuse in (
        settings.with_flags,
        # Before Spark or the data are looked at: there are none.
        lambda: train(None, str(tmp_path / "none"), str(tmp_path / "m"), settings),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match="it starts from nothing; leave train.keep_start out, or give"):
            refuse()


@pytest.mark.parametrize("asked", [{"by_parts": True}, {"picture": "reads"}])
def test_what_only_reads_has_names_it_where_training_starts_from_features(asked: dict[str, Any]) -> None:
    assert TrainSettings().with_flags(init="features").model == "features"
    assert TrainSettings().with_flags(init="features", **asked).model == "reads"
    # As from a file, without the command's flags.
    assert TrainSettings(init="features", **asked).with_flags(objective="classify").model == "reads"


class Trained(list[str]):
    """The folders of the trainings that were begun, by name; that of ``interrupted`` does not begin."""

    interrupted = ""

    def __call__(self, spark: Any, job: ReplicaJob, say: Any) -> None:
        name = Path(job.model_out).name
        if name == self.interrupted:
            raise KeyboardInterrupt
        self.append(name)
        card = trained_card(job, TrainingState([], [], []), Findings({}, {}, {}, Platt()))
        save_bundle(job.model_out, build_model(job.settings.model, job.spec), card, replace=True)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Trainings without Spark, each of no steps."""
    begun = Trained()
    monkeypatch.setattr(driver, "run_with_retries", begun)
    monkeypatch.setattr(driver, "check_slots", lambda *_: None)
    return begun


def by_parts(data: str, out: Path, **changes: Any) -> Any:
    return run(None, data, out, **BY_PARTS | changes)  # type: ignore[arg-type]


def test_the_result_says_what_is_kept_of_the_start() -> None:
    row = {"epoch": 1, "val_auprc": 0.99724, "val_loss": 0.2}
    card = Card("reads", ModelSpec(), metrics={"AUPRC ALL": 0.99682}, history=[row], training={"best_epoch": 1})
    assert TrainResult("m", card).text() == "best epoch 1, validation AUPRC 0.9972: m"
    kept = dataclasses.replace(card, training={"best_epoch": 1, "keep_start": 0.5})
    said = "best epoch 1, validation AUPRC 0.9972, with 0.5 of the start's weights AUPRC 0.9968: m"
    assert TrainResult("m", kept).text() == said


def test_a_model_stays_until_the_last_part_has_another(
    dataset: str, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parts = tmp_path / "m", tmp_path / "m.parts"
    old = by_parts(dataset, out)[0].card
    trained.clear()
    # Refused with all else in order: nothing is gone.
    for init in ("reads", "reference"):
        with pytest.raises(UsageError, match=f"'{init}' model, training by parts starts from 'features'; choose"):
            by_parts(dataset, out, init=init, seed=2, if_exists="overwrite")
    with monkeypatch.context() as patched:
        patched.setattr(driver, "check_slots", Mock(side_effect=UsageError("too few")))
        with pytest.raises(UsageError, match="too few"):
            by_parts(dataset, out, seed=2, if_exists="overwrite")
    assert read_card(out) == old and trained == [] and not parts.exists()
    trained.interrupted = "picture"
    with pytest.raises(KeyboardInterrupt):
        by_parts(dataset, out, seed=2, if_exists="overwrite")
    assert read_card(out) == old and (parts / "features").is_dir()
    trained.clear()
    trained.interrupted = ""
    result, _ = by_parts(dataset, out, seed=2, if_exists="resume")
    assert trained == ["picture", "m"] and not parts.exists()
    assert read_card(out) == result.card != old and result.card.training["seed"] == 2


@pytest.mark.parametrize("left", ["m.parts/features/model.keras", "m.parts/picture", "m.ckpt/state.npz"])
def test_a_run_that_ended_in_its_clean_up_is_done(dataset: str, tmp_path: Path, trained: Trained, left: str) -> None:
    done = by_parts(dataset, tmp_path / "m")[0].card
    trained.clear()
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).write_bytes(b"some of it")
    again, lines = by_parts(dataset, tmp_path / "m", if_exists="resume")
    assert (again.card, trained, lines) == (done, [], [])
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_first_part_is_done_by_features_that_have_seen_labels(
    dataset: str, tmp_path: Path, trained: Trained
) -> None:
    settings = {"model": "features", "epochs": 1}
    for name, objective, expected in (
        ("finished", "classify", ["picture", "of finished"]),
        ("pretrained", "pretrain", ["features", "picture", "of pretrained"]),
    ):
        run(None, dataset, tmp_path / name, **settings, objective=objective)  # type: ignore[arg-type]
        trained.clear()
        card = by_parts(dataset, tmp_path / f"of {name}", init=str(tmp_path / name))[0].card
        assert trained == expected and not card.pretrained
