"""conf/models: one configuration for each network, whose header says what to expect of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnspark.config import load_config
from cnnspark.models.names import GATK_MODELS, MODELS, MODELS_WITHOUT_READS
from cnnspark.training.job import check_data
from tests.conftest import ROOT

FILES = sorted((ROOT / "conf" / "models").glob("*.yaml"))


def header(path: Path) -> str:
    return "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))


def test_every_network_has_one() -> None:
    assert [path.stem for path in FILES] == sorted(MODELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_and_its_tensors_suit_its_network(path: Path) -> None:
    config = load_config(str(path))
    assert config.train.model == path.stem
    assert (config.tensors.encoding == "gatk") == (path.stem in GATK_MODELS)
    check_data(path.stem, config.tensors.encoding, with_reads=path.stem not in MODELS_WITHOUT_READS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_header_says_data_hardware_time_and_result(path: Path) -> None:
    text = header(path)
    assert text.startswith(f"# {path.stem}: ")
    assert re.findall(r"^# ([A-Z]\w+): +\S", text, re.MULTILINE) == ["Data", "Hardware", "Time", "Result"]
    commands = re.findall(r"^#   cnnspark (tensors|train) .*--config (\S+)(.*)$", text, re.MULTILINE)
    assert [command for command, _, _ in commands] == ["tensors", "train"]
    assert all(ROOT / given == path for _, given, _ in commands)
    assert ("--reads" in commands[0][2]) == (path.stem not in MODELS_WITHOUT_READS)
