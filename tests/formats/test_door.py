"""The names that ``formats`` and ``variants`` hand out, and that nothing is loaded before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("package", ["cnnspark.formats", "cnnspark.variants"])
def test_each_name_of_a_door_is_that_of_its_module(package: str) -> None:
    door = import_module(package)
    assert sorted(door.__all__) == sorted(door._MODULES) and set(door.__all__) <= set(dir(door))
    for name, module in door._MODULES.items():
        assert getattr(door, name) is getattr(import_module(f"{package}.{module}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        door.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["cnnspark.formats", "cnnspark.formats.regions", "cnnspark.variants.alleles"])
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "print([name for name in ('numpy', 'pysam', 'numba', 'pyspark', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
