"""The configuration: defaults < YAML < --set, with every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cnnspark.config import Config, differences, load_config
from cnnspark.errors import UsageError
from tests.conftest import ROOT


def test_the_defaults_are_a_configuration() -> None:
    assert load_config() == Config()


def test_set_wins_over_yaml_and_yaml_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("train: {epochs: 3, batch_size: 16}\ntensors: {read_filter: {duplicate: false}}\n")
    config = load_config(str(path), ["train.epochs=5", "blocks.records=7"])
    assert (config.train.epochs, config.train.batch_size, config.blocks.records) == (5, 16, 7)
    assert not config.tensors.read_filter.duplicate and config.tensors.read_filter.secondary


def test_paths_of_a_yaml_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("inputs: {vcf: x.vcf.gz, reads: /abs.bam, reference: 's3://b/r.fa'}\n")
    inputs = load_config(str(tmp_path / "a.yaml")).inputs
    assert (inputs.vcf, inputs.reads, inputs.reference) == (str(tmp_path / "x.vcf.gz"), "/abs.bam", "s3://b/r.fa")


def test_models_of_a_yaml_are_relative_to_it_but_for_the_bundled(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: mine\ntrain: {init: features, picture: ../its/picture}\n")
    config = load_config(str(path))
    assert (config.model, config.train.init) == (str(tmp_path / "mine"), "features")
    assert config.train.picture == str(tmp_path / "../its/picture")
    path.write_text("model: features\ntrain: {init: 's3://b/m', picture: reads}\n")
    config = load_config(str(path))
    assert (config.model, config.train.init, config.train.picture) == ("features", "s3://b/m", "reads")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.epoch=3"], "did you mean 'epochs'"),
        (["train.epochs=three"], "a whole number"),
        (["train.epochs=0"], "at least 1"),
        (["epochs"], "key=value"),
        (["train=3"], "group of settings"),
        (["blocks.records.x=3"], "cannot be"),
        (["tensors.seed=[1"], "not YAML"),
        (["tensors.use_soft_clips=1"], "true or false"),
        (["blocks.records=0"], "1 or more"),
        (["score.batch_size=0"], "1 or more"),
        (["inputs=foo"], "group of settings"),
        (["filter.precision=2"], "filter.precision is 2; give a number between 0 and 1"),
        (["filter.sensitivity=0"], "filter.sensitivity is 0;"),
        (["train.validation=2"], "the validation share is 2; give a number between 0 and 1 or regions"),
        (["train.validation=0.0"], "the validation share is 0;"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_config(None, settings)


def test_an_unknown_setting_is_told_of_those_that_are_a_users() -> None:
    with pytest.raises(UsageError, match="there is no setting 'train.foo'; known are model, init, picture") as caught:
        load_config(None, ["train.foo=1"])
    assert "patience" in str(caught.value)
    assert "data_opener" not in str(caught.value) and "if_exists" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n", "x: 1\n"])
def test_a_yaml_that_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError):
        load_config(str(tmp_path / "a.yaml"))


def test_a_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.yaml")), ids=lambda path: path.name)
def test_the_example_configurations_load(path: Path) -> None:
    config = load_config(str(path))
    assert config.train.replicas >= 1


def test_the_stored_configuration_loads_again(tmp_path: Path) -> None:
    from cnnspark.stages.pipeline import _plain

    config = load_config(None, ["train.epochs=3", "inputs.regions=[chr1]", "train.validation=[chr2]"])
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(_plain(config.to_dict())))
    assert load_config(str(tmp_path / "a.yaml")) == config


def test_what_is_not_a_default_is_said() -> None:
    assert differences(Config()) == []
    config = load_config(None, ["train.epochs=3", "tensors.read_filter.duplicate=false", "model=m"])
    assert differences(config) == ["model=m", "tensors.read_filter.duplicate=False", "train.epochs=3"]


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert load_config(None, ["train.learning_rate=1e-3"]).train.learning_rate == 1e-3
