"""The command line: help, exit codes, one sentence for each failure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from cnnspark import errors
from cnnspark.cli.main import cli, main
from cnnspark.common.error_translation import explain
from cnnspark.config import InputPaths
from cnnspark.training.settings import TrainSettings


def test_a_failure_is_a_line_of_json_where_lines_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = [
        "import-gatk",
        "--weights",
        str(tmp_path / "none.pt"),
        "--kind",
        "1d",
        "--model-out",
        str(tmp_path / "m"),
    ]
    assert main([*weights, "--log-format", "json"]) == 3
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["exit_code"]) == ("error", 3) and "none.pt" in line["message"]
    assert main(weights) == 3
    assert capsys.readouterr().err.startswith("cnnspark: ")


def test_help_lists_the_commands_in_the_datas_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    names = ["simulate", "candidates", "tensors", "pretrain", "train", "score", "filter", "evaluate", "show"]
    names += ["import-gatk", "model-summary", "run", "demo"]
    positions = [text.index(f"\n  {name}") for name in names]
    assert positions == sorted(positions)
    assert "Exit codes: 0 done" in text


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_each_command_explains_each_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for parameter in cli.commands[command].params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"
    assert "Usage: cnnspark" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["score"],
        ["score", "--model", "m", "--out", "o", "--if-exists", "maybe"],
        ["simulate", "--seed", "x"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tensors", "--out", "{}/x", "--set", "tensor.seed=1"], 2, "did you mean 'tensors'"),
        (["filter", "--in", "x", "--out", "{}/y.vcf.gz", "--conf-spark", "nonsense"], 2, "write key=value"),
        (["score", "--vcf", "x", "--model", "{}", "--out", "{}/x", "--config", "{}/none.yaml"], 2, "cannot be read"),
    ],
)
def test_a_failure_is_one_sentence_and_its_exit_code(
    tmp_path: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([text.replace("{}", str(tmp_path)) for text in arguments]) == code
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1 and message.startswith("cnnspark: ")


@pytest.mark.spark
@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--out", "{}/x"],
        ["candidates", "--reads", "{s}/reads.bam", "--reference", "{s}/reference.fa", "--out", "{}/x.vcf.gz"],
        ["tensors", "--vcf", "{s}/callset.vcf.gz", "--reference", "{s}/reference.fa", "--out", "{}/x"],
        ["filter", "--in", "{s}/callset.vcf.gz", "--key", "DP", "--threshold", "1", "--out", "{}/x.vcf.gz"],
        ["evaluate", "--vcf", "{s}/callset.vcf.gz", "--labels", "{s}/labels.tsv", "--score", "DP", "--out", "{}/x"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_output_that_cannot_be_written_is_said(
    spark: Any, simulated: InputPaths, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    folder = str(Path(str(simulated.vcf)).parent)
    filled = [text.replace("{}", str(tmp_path / "file")).replace("{s}", folder) for text in arguments]
    assert main([*filled, "-q"]) == 2
    message = capsys.readouterr().err
    assert re.search(r"cnnspark: .*file(/x)? cannot be written \(.*\); choose another --out\n$", message)


def test_simulate_prints_its_files_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", "--out", str(tmp_path / "s"), "--length", "30000", "--coverage", "10", "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    files = json.loads(captured.out)
    assert Path(files["reads"]).exists() and Path(files["truth"]).exists()
    assert captured.err == ""


def test_an_error_of_a_task_is_found_in_what_spark_says() -> None:
    text = (
        "Job aborted due to stage failure: Traceback (most recent call last):\n  File x\n"
        "cnnspark.errors.InputError: x.bam has no index; run 'samtools index x.bam'\n\tat org.apache.spark.api.python"
    )
    explained = explain(RuntimeError(text))
    assert isinstance(explained, errors.InputError)
    assert str(explained) == "x.bam has no index; run 'samtools index x.bam'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ExecutorLostFailure (executor 1 exited) exit code: 137", "memoryOverhead"),
        ("java.io.IOException: No space left on device", "a disk is full"),
        ("OSError: [Errno 28] No space left on device: '/data/out/.x.gz'\n\tat java", "the disk of /data/out is full"),
        ("OSError: [Errno 122] Disk quota exceeded: '/data/out/.x.gz'", "full (Disk quota exceeded)"),
        ("failed 4 times: ExecutorLostFailure (executor 5 exited) Reason: RPC", "executors were lost again and again"),
        ("something odd\nsecond line", "something odd"),
    ],
)
def test_other_failures_are_explained_and_resumable(text: str, said: str) -> None:
    explained = explain(RuntimeError(text))
    assert said in str(explained) and explained.exit_code == 4


def test_the_help_of_train_says_the_defaults() -> None:
    said = {option.name: getattr(option, "help", "") for option in cli.commands["train"].params}
    defaults = TrainSettings()
    for name in ("model", "replicas", "epochs", "batch_size", "validation"):
        assert f"[{getattr(defaults, name)}]" in said[name]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--by-parts"], {"by_parts": True, "model": "reads"}),
        (["--by-parts", "--init", "features"], {"by_parts": True, "model": "reads", "init": "features"}),
        (["--init", "reads", "--set", "train.keep_start=0.5"], {"by_parts": False, "keep_start": 0.5, "init": "reads"}),
        (["--init", "features"], {"model": "features", "by_parts": False}),
    ],
)
def test_what_train_is_told_is_what_is_trained(
    arguments: list[str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Mock(side_effect=errors.RunError("that is all"))
    monkeypatch.setattr("cnnspark.training.driver.train", trained)
    monkeypatch.setattr("cnnspark.cli.run.Run.spark", Mock())
    assert main(["train", "--data", "d", "--model-out", "m", *arguments]) == errors.RunError.exit_code
    settings = trained.call_args.args[3]
    assert {name: getattr(settings, name) for name in expected} == expected


def test_flags_win_over_the_configuration() -> None:
    configured = TrainSettings(batch_size=64, patience=3)
    settings = configured.with_flags(("0.3",), model="features", replicas=2, epochs=3, batch_size=None, patience=0)
    assert (settings.model, settings.replicas, settings.epochs, settings.batch_size) == ("features", 2, 3, 64)
    assert (settings.validation, settings.patience) == (0.3, 0)
    assert configured.with_flags(("chr20", "chr21:1-5")).validation == ("chr20", "chr21:1-5")
    assert configured.with_flags((), model=None) == configured
    assert configured.with_flags(("20",)).validation == ("20",)  # a contig's name in GRCh37
