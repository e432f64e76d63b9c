"""The door of the package: its names, and what loading it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cnnspark import evaluation
from cnnspark.evaluation import metrics
from tests.conftest import ROOT


def test_the_names_of_the_door_are_those_of_their_module() -> None:
    assert set(evaluation.__all__) <= set(dir(evaluation))
    for name in evaluation.__all__:
        assert getattr(evaluation, name) is getattr(metrics, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = evaluation.nothing


@pytest.mark.parametrize(
    "import_", ["import cnnspark.evaluation.metrics", "from cnnspark.evaluation import AlleleScores"]
)
def test_metrics_load_without_numba_pandas_scipy_and_scikit_learn(import_: str) -> None:
    # Every replica of a training measures, and would wait for them longer than for its network.
    heavy = {"numba", "pandas", "scipy", "sklearn"}
    code = f"import sys; {import_}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
