"""How far a stage is: counted from the rows of its folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cnnspark.common import log
from cnnspark.execution import progress
from cnnspark.execution.blocks import Block
from cnnspark.execution.progress import Rate, Tally, following, pace_text
from cnnspark.execution.run_folder import RunFolder
from cnnspark.formats.regions import Region
from tests.conftest import ROOT

BLOCKS = [Block(i, Region("c1", 10 * i, 10 * i + 10), records=i + 1) for i in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "out", "score", ())
    made.open({}, BLOCKS, "fail")
    return made


def test_the_records_of_committed_blocks_are_done(folder: RunFolder) -> None:
    tally = Tally(folder, BLOCKS, BLOCKS)
    assert (tally.total, tally.unit, tally.done()) == (10, "records", 0)
    folder.commit(BLOCKS[3], {})
    folder.commit(BLOCKS[0], {})
    assert tally.done() == 5


def test_a_resumed_stage_begins_with_what_was_finished_before(folder: RunFolder) -> None:
    folder.commit(BLOCKS[3], {})
    folder.commit(BLOCKS[2], {})  # its shard is gone: it is done again, and its row says nothing until then
    tally = Tally(folder, BLOCKS, BLOCKS[:3])
    assert tally.done() == 4
    folder.commit(BLOCKS[0], {})
    assert tally.done() == 5


def test_blocks_are_counted_where_their_records_are_not_known(folder: RunFolder) -> None:
    blocks = [Block(i, Region("c1", i, i + 1)) for i in range(3)]
    tally = Tally(folder, blocks, blocks)
    folder.commit(blocks[1], {})
    assert (tally.total, tally.unit, tally.done()) == (3, "blocks", 1)


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread() and thread.daemon]


def test_lines_say_how_far_it_is_and_end_with_the_stage(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.1)
    log.set_format("json")
    before = followers()
    with log.about(stage="score", sample="S1"), following(Tally(folder, BLOCKS, BLOCKS)):
        folder.commit(BLOCKS[3], {})
        time.sleep(0.4)
    assert followers() == before
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["done"], line["total"], line["unit"], line["stage"], line["sample"]) == (
        4,
        10,
        "records",
        "score",
        "S1",
    )
    assert line["per_second"] > 0 and line["seconds_left"] >= 0
    assert line["message"].startswith("4 of 10 records (40%)")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_short_or_a_quiet_stage_says_nothing(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    if quiet:
        monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    log.set_quiet(quiet)
    started = time.monotonic()
    with following(Tally(folder, BLOCKS, BLOCKS)):
        time.sleep(0.1)
    assert time.monotonic() - started < 5 and capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_listed_is_no_failure(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)

    def fails() -> set[str]:
        raise OSError("stale file handle")

    monkeypatch.setattr(folder, "committed", fails)
    with following(Tally(folder, BLOCKS, BLOCKS)):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_callsets_beside_each_other_take_turns(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.1)

    def one(name: str) -> None:
        with log.about(callset=name), following(Tally(folder, BLOCKS, BLOCKS)):
            time.sleep(2.0)

    threads = [threading.Thread(target=one, args=(name,)) for name in ("NA1", "NA2", "NA3", "NA4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = capsys.readouterr().err.splitlines()
    # A line every 0.1 s, fewer in the first round and on a busy machine; each callset alone would have written 80.
    assert 4 <= len(said) <= 28
    assert {re.sub(r"\[.*\] (\w+): .*", r"\1", line) for line in said} == {"NA1", "NA2", "NA3", "NA4"}


def test_a_stage_that_fails_ends_its_lines_too(folder: RunFolder) -> None:
    before = followers()
    with pytest.raises(ValueError), following(Tally(folder, BLOCKS, BLOCKS)):
        raise ValueError
    assert followers() == before


SCRIPT = """
import time
from cnnspark.common import log
from cnnspark.execution import progress
from cnnspark.execution.blocks import Block
from cnnspark.execution.run_folder import RunFolder
from cnnspark.formats.regions import Region
blocks = [Block(i, Region("c1", i, i + 1), records=10) for i in range(4)]
folder = RunFolder("out", "score", ())
folder.open({}, blocks, "fail")
progress.LIVE_SECONDS = 0.1
with progress.following(progress.Tally(folder, blocks, blocks)):
    folder.commit(blocks[0], {})
    time.sleep(0.5)
    log.progress("a line")
    time.sleep(0.5)
log.progress("the end")
"""


def test_a_terminal_has_one_line_that_is_overwritten(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "40"}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, cwd=tmp_path, env=environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux' way of saying that the other side is closed
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert process.returncode == 0
    lines = said.decode().split("\r\n")
    # A person sees what follows the last erasure of each line.
    seen = [line.rsplit("\r\x1b[2K", 1)[-1] for line in lines]
    assert [re.sub(r"\[.*\] ", "", line) for line in seen] == ["a line", "the end", ""]
    live = re.findall(r"\r\x1b\[2K(10 of 40 records[^\r]*)", said.decode())
    assert len(live) >= 2 and all(len(text) <= 39 for text in live)


def test_the_rate_leaves_out_what_workers_do_before_their_first_block() -> None:
    rate = Rate(100.0, before=500)  # resumed with 500 done
    assert rate(130.0, 500) == 0
    assert rate(160.0, 700) == pytest.approx(200 / 60)  # the first blocks have just been done
    assert rate(161.0, 800) == pytest.approx(300 / 61)
    assert rate(170.0, 1000) == pytest.approx(30)  # 300 within 10 s of the first
    assert rate(260.0, 1700) == pytest.approx(10)


@pytest.mark.parametrize(
    ("done", "rate", "text"),
    [
        (0, 0.0, "0 of 12,000 records (0%)"),
        (3000, 120.4, "3,000 of 12,000 records (25%), 120/s, 0:01:15 left"),
        (3000, 0.5, "3,000 of 12,000 records (25%), 0.50/s, 5:00:00 left"),
        (12_000, 1e4, "12,000 of 12,000 records (100%), 10,000/s, 0:00:00 left"),
    ],
)
def test_the_text_of_a_pace(done: int, rate: float, text: str) -> None:
    assert pace_text(done, 12_000, rate, "records") == text
