"""Light modules of ``formats`` and ``variants`` load nothing heavy; which names the packages hand on: test_project."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("module", ["cnnspark.formats", "cnnspark.formats.regions", "cnnspark.variants.alleles"])
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "print([name for name in ('numpy', 'pysam', 'numba', 'pyspark', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
