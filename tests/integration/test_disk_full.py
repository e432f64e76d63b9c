"""A disk that fills up while a stage writes: one sentence, exit code 4, nothing half-written that counts, resumable."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import Config, load_config
from cnnspark.stages.requests import ScoreRequest
from tests.conftest import Sample
from tests.support.small_disk import SmallDisk

pytestmark = pytest.mark.spark

SETTING = "blocks.records=20"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """What a command that must fail for want of space says."""
    capfd.readouterr()
    assert main([*arguments, "--set", SETTING, "-q"]) == 4
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("cnnspark:")]
    assert len(said) == 1
    assert "full (No space left on device); free space and run again" in said[0]
    return said[0]


def size_of(folder: Path) -> int:
    """What a tmpfs takes for a folder, in pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def half_written(out: Path) -> list[Path]:
    """Files under temporary names. A task beside the one that failed may be at work when the driver has given up, and
    also removes its own when it fails."""
    deadline = time.monotonic() + 60
    while (found := list(out.rglob(".*"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, [SETTING])


@pytest.fixture(scope="module")
def scored(spark: Any, sample: Sample, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), config))
    return out


def score_command(sample: Sample, out: Path) -> list[str]:
    paths = sample.unlabelled
    return ["score", "--vcf", str(paths.vcf), "--reads", str(paths.reads), "--reference", str(paths.reference),
            "--model", sample.model, "--out", str(out)]  # fmt: skip


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_score_run_goes_on_where_the_disk_was_full(
    spark: Any, sample: Sample, scored: Path, small_disk: SmallDisk, capfd: pytest.CaptureFixture[str], share: float
) -> None:
    out = small_disk.path / "out"
    small_disk.fill(int(size_of(scored) * share))
    refused(capfd, score_command(sample, out))
    assert not (out / "_SUCCESS").exists() and not (out / "merged.vcf.gz").exists()
    assert not half_written(out)
    whole = files_of(scored)
    for name, content in files_of(out).items():
        if name.startswith("shards/"):
            assert content == whole[name]
    # Finished is what has a row; the disk may have been full for a shard's row alone.
    finished = {path.stem for path in out.glob("manifest/*.json")}
    shards = [path for path in out.glob("shards/*") if path.name.partition(".")[0] in finished]
    kept = {path: path.stat().st_mtime_ns for path in shards}
    small_disk.free()
    assert main([*score_command(sample, out), "--set", SETTING, "-q", "--if-exists", "resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("merged.vcf.gz", "merged.vcf.gz.tbi"):
        assert (out / name).read_bytes() == whole[name]
    assert files_of(out).keys() == whole.keys()


def test_a_merge_goes_on_where_the_disk_was_full(
    spark: Any, sample: Sample, scored: Path, small_disk: SmallDisk, capfd: pytest.CaptureFixture[str]
) -> None:
    out = small_disk.path / "out"
    shutil.copytree(scored, out)
    for name in ("merged.vcf.gz", "merged.vcf.gz.tbi", "manifest.json", "_SUCCESS", "guard.json"):
        (out / name).unlink()
    # Room for the guard's table, but not for all records.
    small_disk.fill(-(-(scored / "guard.json").stat().st_size // 4096) * 4096 + 3 * 4096)
    shards = {path: path.stat().st_mtime_ns for path in out.glob("shards/*")}
    refused(capfd, [*score_command(sample, out), "--if-exists", "resume"])
    assert not (out / "_SUCCESS").exists() and not (out / "merged.vcf.gz").exists()
    assert not half_written(out)
    small_disk.free()
    assert main([*score_command(sample, out), "--set", SETTING, "-q", "--if-exists", "resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("shards/*")} == shards
    assert (out / "merged.vcf.gz").read_bytes() == (scored / "merged.vcf.gz").read_bytes()


@pytest.mark.parametrize("share", [0.3, 1.2])
def test_a_filter_can_be_run_again_where_the_disk_was_full(
    spark: Any, sample: Sample, scored: Path, small_disk: SmallDisk, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], share: float,
) -> None:  # fmt: skip
    """Its shards and their merged file are about as large as each other: the first or the second has no room."""
    command = ["filter", "--in", str(scored), "--threshold", "0", "--set", SETTING, "-q", "--out"]
    assert main([*command, str(tmp_path / "whole.vcf.gz")]) == 0
    small_disk.fill(int(size_of(scored / "shards") * share))
    out = small_disk.path / "f.vcf.gz"
    refused(capfd, [*command, str(out)])
    assert [path.name for path in small_disk.path.iterdir()] == ["others"]
    small_disk.free()
    assert main([*command, str(out)]) == 0
    assert out.read_bytes() == (tmp_path / "whole.vcf.gz").read_bytes()


def test_a_dataset_goes_on_where_the_disk_was_full(
    spark: Any, sample: Sample, config: Config, small_disk: SmallDisk, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    paths = sample.paths
    command = ["tensors", "--vcf", str(paths.vcf), "--reads", str(paths.reads), "--reference", str(paths.reference),
               "--truth", str(paths.truth), "--bed", str(paths.bed), "--out"]  # fmt: skip
    whole, out = Path(sample.dataset), small_disk.path / "tensors"
    small_disk.fill(size_of(whole) // 2)
    refused(capfd, [*command, str(out)])
    assert not (out / "_SUCCESS").exists() and not (out / "dataset.json").exists()
    assert not list((out / "data").rglob(".tensors*"))
    small_disk.free()
    assert main([*command, str(out), "--set", SETTING, "-q", "--if-exists", "resume"]) == 0
    theirs, ours = files_of(whole), files_of(out)
    assert {n: c for n, c in ours.items() if n.endswith(".parquet")} == {
        n: c for n, c in theirs.items() if n.endswith(".parquet")
    }
    assert ours.keys() == theirs.keys()
