"""A BGZF file is written whole, or the error says why it is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pysam
import pytest

from cnnspark.formats.bgzf import BgzfWriter, write_failure
from tests.support.small_disk import SmallDisk

NOISE = os.urandom(1 << 16)


def test_what_is_written_is_what_pysam_reads(tmp_path: Path) -> None:
    with BgzfWriter(tmp_path / "a.gz") as out:
        out.write(b"head")
        out.flush()
        start = out.tell() >> 16
        out.write(b"rest")
    with pysam.BGZFile(str(tmp_path / "a.gz"), "rb", None) as read:
        assert read.read(100) == b"headrest"
        read.seek(start << 16)
        assert read.read(100) == b"rest"


@pytest.mark.parametrize("blocks", [1, 2, 30])
def test_a_full_disk_is_named_and_the_space_is_freed(
    small_disk: SmallDisk, blocks: int, capfd: pytest.CaptureFixture[str]
) -> None:
    small_disk.fill(leave_bytes=1 << 15)
    path = small_disk.path / "a.gz"
    before = small_disk.free_bytes()
    with pytest.raises(OSError, match="No space left on device") as caught, BgzfWriter(path) as out:
        for _ in range(blocks):
            out.write(NOISE)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    del caught
    path.unlink()
    # htslib never closes a file that it cannot flush.
    assert small_disk.free_bytes() == before
    assert "Traceback" not in capfd.readouterr().err


def test_a_failure_without_a_cause_is_not_called_a_full_disk(tmp_path: Path) -> None:
    failure = write_failure(tmp_path / "a.gz", OSError("Error closing"))
    assert failure.errno is None and "a.gz cannot be written (Error closing)" in str(failure)
    known = OSError(errno.EIO, "Input/output error")
    assert write_failure(tmp_path / "a.gz", known) is known
