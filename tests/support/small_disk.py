"""A disk of some hundred kilobytes: a tmpfs, where this process may mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs. What is mounted is seen by processes that run already, so by Spark's workers."""

    def __init__(self, path: Path):
        self.path = path

    def free_bytes(self) -> int:
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, leave_bytes: int) -> None:
        """Writes a file that leaves so much."""
        self.free()
        size = max(0, self.free_bytes() - leave_bytes)
        (self.path / "others").write_bytes(b"\0" * size)

    def free(self) -> None:
        """Takes the file away again."""
        (self.path / "others").unlink(missing_ok=True)


@contextmanager
def mounted(path: Path, size: str) -> Iterator[SmallDisk]:
    """Mounts a tmpfs at ``path``; skips the test, with the reason, where that is not allowed."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        # A worker may still have a file open there.
        subprocess.run(["umount", "--lazy", str(path)], check=True)
