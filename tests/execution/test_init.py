"""The package's door: every name that it lists, and nothing heavy before one is used."""

from __future__ import annotations

import subprocess
import sys

import cnnspark.execution
from tests.conftest import ROOT

CODE = """
import sys
import cnnspark.execution
print(sorted({"numpy", "pysam", "pyspark", "tensorflow"} & set(sys.modules)))
from cnnspark.execution import LocalSession, run_tasks
print(run_tasks(LocalSession(), [[1, 2]], iter, "count"), "pyspark" in sys.modules)
"""


def test_the_door_loads_what_it_hands_out_when_it_is_asked() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["[]", "[1, 2] False"]


def test_every_listed_name_is_there() -> None:
    for name in cnnspark.execution.__all__:
        assert getattr(cnnspark.execution, name) is not None
    assert set(cnnspark.execution.__all__) <= set(dir(cnnspark.execution))
