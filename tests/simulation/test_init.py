"""The package's door: the settings alone load nothing heavy, and ``simulate`` is always the function."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

CODE = """
import sys
from cnnspark.simulation import SimulationSettings
print(SimulationSettings().seed, sorted({"numba", "numpy", "pysam"} & set(sys.modules)))
import cnnspark.simulation.simulator
from cnnspark.simulation import SimulatedFiles, simulate
print(callable(simulate), simulate is cnnspark.simulation.simulator.simulate, SimulatedFiles.__name__)
"""


def test_the_door_hands_out_the_function_whatever_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["1 []", "True True SimulatedFiles"]
