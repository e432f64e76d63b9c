"""What each package of models hands on, and what is loaded for it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("cnnspark.models", "cnnspark.models.networks", "cnnspark.models.gatk_weights")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_door_is_there(package: str) -> None:
    door = importlib.import_module(package)
    assert sorted(door.__all__) == door.__all__
    for name in door.__all__:
        assert getattr(door, name) is not None and name in dir(door)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = door.nothing


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import cnnspark.models.names", {"numpy", "keras", "tensorflow", "pyspark"}),
        ("import cnnspark.models.networks, cnnspark.models.gatk_weights", {"numpy", "keras", "tensorflow", "pyspark"}),
        ("from cnnspark.models import Card, read_card, select_model", {"keras", "tensorflow", "pyspark", "petastorm"}),
        ("from cnnspark.models.gatk_weights import read_weights", {"keras", "tensorflow", "pyspark", "torch", "h5py"}),
    ],
)
def test_a_door_loads_no_more_than_is_asked_for(code: str, heavy: set[str]) -> None:
    code = f"{code}; import sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
