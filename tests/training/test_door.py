"""What ``cnnspark.training`` hands on."""

from __future__ import annotations

import subprocess
import sys

import cnnspark.training
import cnnspark.training.driver
from tests.conftest import ROOT


def test_the_names_of_the_package_are_those_of_the_driver() -> None:
    from cnnspark.training import TrainResult, TrainSettings, train

    assert train is cnnspark.training.driver.train and TrainResult is cnnspark.training.driver.TrainResult
    assert TrainSettings().model == "reads"
    assert {"TrainResult", "TrainSettings", "train"} <= set(dir(cnnspark.training))
    assert not hasattr(cnnspark.training, "nothing")


def test_the_configuration_loads_no_driver() -> None:
    code = (
        "import sys, cnnspark.config; print({'cnnspark.training.driver', 'pyarrow', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
