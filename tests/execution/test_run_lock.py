"""Two runs in one folder, and what killed runs leave: with locks, and with the token alone on storage without locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnnspark.errors import RunError, UsageError
from cnnspark.execution import run_lock
from cnnspark.execution.blocks import Block
from cnnspark.execution.shards import BlockOutput, finished_rows, shard_folder, write_shard
from cnnspark.formats.regions import Region
from tests.conftest import ROOT

BLOCKS = [Block(0, Region("c1", 0, 100)), Block(1, Region("c1", 100, 200))]
HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def work(alt: str) -> object:
    def lines(block: Block) -> BlockOutput:
        return BlockOutput([f"c1\t{block.region.start + 1}\t.\tA\t{alt}\t.\t.\t."], {})  # type: ignore[arg-type]

    return lines


@contextmanager
def other_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed its first line; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


OPENED = """
import sys
from cnnspark.execution.shards import shard_folder
with shard_folder(sys.argv[1]).opened({}, [], "fail"):
    print("open", flush=True)
    sys.stdin.read()
"""
PRIVATE = """
import sys
from pathlib import Path
from cnnspark.execution.run_lock import private_folder
with private_folder(Path(sys.argv[1]), "work"):
    print("made", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_a_second_run_is_told_while_the_first_is_at_work_and_not_when_it_was_killed(tmp_path: Path, mode: str) -> None:
    out = tmp_path / "out"
    with other_process(OPENED, str(out)):
        before = sorted(path.name for path in out.iterdir())
        token = (out / run_lock.OWNER).read_text()
        with pytest.raises(UsageError, match="another run is writing"), shard_folder(str(out)).opened({}, [], mode):
            pass
        assert sorted(path.name for path in out.iterdir()) == before
        assert (out / run_lock.OWNER).read_text() == token
    with shard_folder(str(out)).opened({}, [], mode):
        assert (out / run_lock.OWNER).read_text() != token


def test_without_locks_the_last_run_owns_the_folder_and_the_first_can_commit_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "flock", no_locks)
    first, second = shard_folder(str(tmp_path / "out")), shard_folder(str(tmp_path / "out"))
    with first.opened({}, BLOCKS, "fail"):
        (tmp_path / "out" / "shards").mkdir()
        write_shard(first, BLOCKS[0], HEADER, work("C"))  # type: ignore[arg-type]
        with second.opened({}, BLOCKS, "resume"):
            with pytest.raises(RunError, match="another run has taken over"):
                write_shard(first, BLOCKS[1], HEADER, work("C"))  # type: ignore[arg-type]
            with pytest.raises(RunError, match="another run has taken over"):
                first.succeed({})
            assert [row.block for row in finished_rows(second)] == [0]
            write_shard(second, BLOCKS[1], HEADER, work("C"))  # type: ignore[arg-type]
            second.succeed({})
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_task_that_was_late_is_noticed_when_it_commits(tmp_path: Path) -> None:
    """The run is taken over while one of its tasks is at work on a block."""
    first, second = shard_folder(str(tmp_path / "out")), shard_folder(str(tmp_path / "out"))
    first.open({}, BLOCKS, "fail")
    (tmp_path / "out" / "shards").mkdir()

    def slow(block: Block) -> BlockOutput:
        second.open({}, BLOCKS, "resume")
        return work("C")(block)  # type: ignore[operator]

    with pytest.raises(RunError, match="another run has taken over"):
        write_shard(first, BLOCKS[0], HEADER, slow)
    assert finished_rows(second) == []
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_nothing_is_committed_once_the_run_is_over(tmp_path: Path) -> None:
    folder = shard_folder(str(tmp_path / "out"))
    folder.open({}, BLOCKS, "fail")
    (tmp_path / "out" / "shards").mkdir()
    folder.succeed({})
    with pytest.raises(RunError, match="this one is over"):
        write_shard(folder, BLOCKS[0], HEADER, work("C"))  # type: ignore[arg-type]
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_a_row_of_a_run_that_was_overwritten_does_not_count(tmp_path: Path) -> None:
    first, second = shard_folder(str(tmp_path / "out")), shard_folder(str(tmp_path / "out"))
    first.open({"seed": 1}, BLOCKS, "fail")
    (tmp_path / "out" / "shards").mkdir()
    write_shard(first, BLOCKS[0], HEADER, work("C"))  # type: ignore[arg-type]
    row, shard = tmp_path / "out" / "manifest" / "block-000000.json", tmp_path / "out" / "shards"
    late, written = row.read_bytes(), {path: path.read_bytes() for path in shard.iterdir()}
    second.open({"seed": 2}, BLOCKS, "overwrite")
    shard.mkdir()
    row.write_bytes(late)
    for path, content in written.items():
        path.write_bytes(content)
    assert finished_rows(second) == []
    assert len(finished_rows(shard_folder(str(tmp_path / "out")))) == 1  # for a reader of the folder it is a row


def test_a_folder_of_a_run_that_was_killed_at_once_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".run.json.0123").write_text("{")
    with shard_folder(str(tmp_path / "out")).opened({}, BLOCKS, "fail"):
        assert (tmp_path / "out" / "run.json").exists()


def test_a_run_that_was_killed_before_its_first_row_can_be_resumed(tmp_path: Path) -> None:
    shard_folder(str(tmp_path / "out")).open({}, BLOCKS, "fail")
    (tmp_path / "out" / "manifest").rmdir()
    folder = shard_folder(str(tmp_path / "out"))
    with folder.opened({}, BLOCKS, "resume"):
        (tmp_path / "out" / "shards").mkdir()
        write_shard(folder, BLOCKS[0], HEADER, work("C"))  # type: ignore[arg-type]
    assert [row.block for row in finished_rows(folder)] == [0]


def test_a_run_that_failed_owns_nothing_any_more(tmp_path: Path) -> None:
    folder = shard_folder(str(tmp_path / "out"))
    with pytest.raises(ZeroDivisionError), folder.opened({}, BLOCKS, "fail"):
        raise ZeroDivisionError
    assert not (tmp_path / "out" / run_lock.OWNER).exists()
    with pytest.raises(RunError, match="this one is over"):
        folder.require_owner()


def test_private_folders_of_killed_runs_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    target = tmp_path / "a[1].vcf.gz"
    with other_process(PRIVATE, str(target)) as process:
        (theirs,) = tmp_path.iterdir()
        (theirs / "shards").mkdir()
        with run_lock.private_folder(target, "work") as ours:
            assert ours.is_dir() and theirs.is_dir()
        with run_lock.private_folder(tmp_path / "b.vcf.gz", "work"):
            assert theirs.is_dir()
        process.kill()
        process.wait()
        assert theirs.is_dir()
        with run_lock.private_folder(target, "work"):
            assert not theirs.exists()
    assert not list(tmp_path.iterdir())
