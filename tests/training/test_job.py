"""What the driver tells its replicas, and what a run that an earlier version began needs to be resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cnnspark.config import load_config
from cnnspark.errors import UsageError
from cnnspark.models.bundle_files import BUNDLED, chosen_model
from cnnspark.models.card import read_card
from cnnspark.models.input_drift import KnownValues
from cnnspark.models.spec import ModelSpec
from cnnspark.training import TrainSettings
from cnnspark.training.job import ReplicaJob
from tests.support.synthetic_training import OPENER, prepare_job, write_synthetic


def job_of(settings: TrainSettings, init_sha256: str = "") -> ReplicaJob:
    return ReplicaJob(
        settings=settings,
        data=("a",),
        model_out="m",
        spec=ModelSpec(("QUAL",), ("gc_32",), ((0.0, 1.0),), ((0.0, 0.5),), 64),
        ranges=(),
        class_weights=(1.5, 0.75),
        data_facts={"path": ["a"], "train": 3, "sha256": "d"},
        known=KnownValues(3, ()),
        lanes=4,
        init_sha256=init_sha256,
    )


def test_the_fingerprint_is_that_of_versions_which_counted_the_opener_among_the_settings() -> None:
    # As commit 832085f computed them, where data_opener was a setting.
    usual = "42a12d30d03b9ef71c9ee267b49a927dfee5bcc562c6cd8357a92da061bb56d9"
    pretraining = "68bb7b28f63ccd0d79005986289ef783d555b4af562a8b71d034c342322060fd"
    assert job_of(TrainSettings()).fingerprint == usual
    settings = TrainSettings(model="features", objective="pretrain", validation=("c1",))
    assert job_of(settings, init_sha256="x").fingerprint == pretraining


def test_the_opener_is_told_to_the_replicas_and_no_setting(tmp_path: Path) -> None:
    data = write_synthetic(tmp_path / "data", train=10, validation=4)
    job = prepare_job(data, str(tmp_path / "m"), TrainSettings(model="features"))
    assert job.data_opener == OPENER and ReplicaJob.from_json(job.to_json()) == job
    assert dataclasses.replace(job, data_opener="other:opener").fingerprint == job.fingerprint
    assert "data_opener" not in job.settings.identity()


def test_no_user_can_have_a_function_called(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no setting 'train.data_opener'"):
        load_config(None, ["train.data_opener=os:getcwd"])
    (tmp_path / "c.yaml").write_text("train:\n  data_opener: os:getcwd\n")
    with pytest.raises(UsageError, match="there is no setting 'train.data_opener'"):
        load_config(str(tmp_path / "c.yaml"))


@pytest.mark.parametrize("name", BUNDLED)
def test_a_card_that_still_names_the_opener_is_read(name: str) -> None:
    card = read_card(chosen_model(name, with_reads=True))
    assert "data_opener" in card.training and card.training["fingerprint"]
