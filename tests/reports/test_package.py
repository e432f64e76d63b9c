"""The door of the package: its names, and what loading it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cnnspark import reports
from tests.conftest import ROOT


def test_the_names_of_the_door_are_there() -> None:
    assert set(reports.__all__) <= set(dir(reports))
    for name in reports.__all__:
        assert getattr(reports, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = reports.nothing


def test_the_package_itself_loads_nothing_heavy() -> None:
    heavy = {"matplotlib", "jinja2", "numpy", "tensorflow", "pyspark"}
    code = f"import sys, cnnspark.reports; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
