"""The lines of a run on stderr, as text and as JSON."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from cnnspark.common import log


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    said = capsys.readouterr()
    assert said.out == ""
    return [json.loads(line) for line in said.err.splitlines()]


def test_a_line_of_text_has_the_seconds_and_no_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with log.about(stage="score"):
        log.progress("12 records", records=12)
    said = capsys.readouterr().err
    assert said.startswith("[") and said.endswith(" s] 12 records\n")


def test_a_line_of_text_names_the_callset_of_a_sheet(capsys: pytest.CaptureFixture[str]) -> None:
    with log.about(callset="NA1"), log.about(stage="score"):
        log.progress("12 records")
    assert capsys.readouterr().err.endswith(" s] NA1: 12 records\n")


def test_a_line_of_json_has_time_level_message_and_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_format("json")
    with log.about(stage="score", sample=""), log.about(sample="HG002"):
        log.progress("12 records", records=12)
        log.progress("warning: the index is older")
    log.progress("done")
    log.fail("no such file", 3)
    first, warned, outside, failed = lines(capsys)
    assert (first["level"], first["message"], first["records"]) == ("info", "12 records", 12)
    assert (first["stage"], first["sample"]) == ("score", "HG002")
    assert first["time"].endswith("Z")
    age = datetime.now(timezone.utc) - datetime.fromisoformat(first["time"].replace("Z", "+00:00"))
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert (warned["level"], warned["message"]) == ("warning", "the index is older")
    assert "stage" not in outside and "sample" not in outside
    assert (failed["level"], failed["message"], failed["exit_code"]) == ("error", "no such file", 3)


def test_a_message_of_several_lines_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_format("json")
    log.progress("one\ntwo \u2028 \x1b")
    (line,) = lines(capsys)
    assert line["message"] == "one\ntwo \u2028 \x1b"


@pytest.mark.parametrize("name", log.FORMATS)
def test_quiet_leaves_the_sentence_of_a_failure(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.set_format(name)
    log.set_quiet(True)
    log.progress("12 records")
    log.live("half")
    log.fail("no such file", 3)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no such file" in said


def test_a_decorated_stage_names_its_lines_until_it_ends_or_fails() -> None:
    @log.about(stage="score")
    def stage() -> str:
        assert log.subject()["stage"] == "score"
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            stage()
        assert "stage" not in log.subject()


def test_a_line_overwrites_the_terminals_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    log.live("10 of 20 records")
    log.progress("a warning")
    log.progress("another")
    said = capsys.readouterr().err
    erased, warning = said.split("10 of 20 records")
    assert erased == "\r\x1b[2K" and warning.startswith("\r\x1b[2K[") and warning.count("\x1b") == 1


@pytest.mark.parametrize(
    ("names", "at_most", "letters", "text"),
    [
        ([], 3, None, ""),
        (["a"], 3, None, "a"),
        (["a", "b", "c"], 3, None, "a, b, c"),
        (["a", "b", "c", "d", "e"], 3, None, "a, b, c and 2 more"),
        (["A" * 50, 7], 3, 4, "AAAA, 7"),
    ],
)
def test_a_sentence_names_some_and_counts_the_rest(
    names: list[object], at_most: int, letters: int | None, text: str
) -> None:
    assert log.listed(names, at_most, letters) == text
