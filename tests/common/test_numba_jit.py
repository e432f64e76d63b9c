"""Where compiled kernels are kept if the package's folder cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cnnspark.common.numba_jit import _copy_compiled

MODULE = """
import numba, sys

@numba.njit(cache=True)
def twice(x):
    return 2 * x

print(twice(4), sum(twice.stats.cache_hits.values()))
"""


def run(module: Path, cache: str | None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    if cache:
        environment["NUMBA_CACHE_DIR"] = cache
    code = f"import sys; sys.path.insert(0, {str(module.parent)!r}); import {module.stem}"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout.strip()


def test_a_private_folder_begins_with_what_was_compiled_beside_the_modules(tmp_path: Path) -> None:
    module, cache = tmp_path / "package" / "kernels" / "twice.py", tmp_path / "cache"
    module.parent.mkdir(parents=True)
    cache.mkdir()
    module.write_text(MODULE)
    _copy_compiled(tmp_path / "package", str(cache))
    assert not list(cache.iterdir())
    assert run(module, None) == "8 0"
    _copy_compiled(tmp_path / "package", str(cache))
    assert run(module, str(cache)) == "8 1"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    _copy_compiled(tmp_path / "package", str(cache))
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
