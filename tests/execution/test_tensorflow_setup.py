"""Which GPU a process computes on, what is hidden from Keras' import, and what is kept out of the way between tasks.

A script makes up the addresses of the GPUs that Spark assigns. A stand-in plays TensorFlow's part: tests run without a
GPU.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnspark.execution import tensorflow_setup
from cnnspark.execution.blocks import Block
from cnnspark.execution.session import use_bundled_java
from cnnspark.execution.tasks import run_tasks
from cnnspark.execution.tensorflow_setup import (
    assigned_gpus,
    forget_zip_importers,
    model_kept_out_of_gc,
    show_assigned_gpus,
    use_one_gpu,
)
from cnnspark.formats.regions import Region
from cnnspark.models.bundle import Bundle, load_bundle
from cnnspark.scoring.predict import predicted_probabilities
from cnnspark.tensors.batches import GPU_ROWS_AT_ONCE, ROWS_AT_ONCE, scoring_batches
from cnnspark.tensors.site_features import SITE_FEATURES
from tests.conftest import ROOT
from tests.tensors.test_batches import ragged

TASKS = """
import json, os, sys
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local-cluster[1,2,1024]").config("spark.ui.enabled", "false")
for kind in ("worker", "executor"):
    builder = builder.config(f"spark.{kind}.resource.gpu.amount", "1")
    builder = builder.config(f"spark.{kind}.resource.gpu.discoveryScript", sys.argv[1])
builder = builder.config("spark.task.resource.gpu.amount", "0.5").config("spark.driver.host", "127.0.0.1")
session = builder.config("spark.executor.memory", "512m").getOrCreate()

def task(numbers):
    from cnnspark.execution.tensorflow_setup import assigned_gpus, show_assigned_gpus
    show_assigned_gpus()
    yield [*assigned_gpus()], os.environ.get("CUDA_VISIBLE_DEVICES")

print(json.dumps(session.sparkContext.parallelize(range(2), 2).mapPartitions(task).collect()))
session.stop()
"""

CODE = """
import gc, sys
from cnnspark.execution import tensorflow_setup as lean
lean.own_process()
collections = gc.get_stats()[2]["collections"]
with lean.lean_import():
    import cnnspark.models.bundle
    print(gc.get_stats()[2]["collections"] - collections, gc.isenabled())
print(gc.isenabled(), sorted(set(lean.UNUSED) & set(sys.modules)))
import matplotlib.pyplot, pandas, sklearn
print(pandas.DataFrame({"a": [1]}).shape, sklearn.__name__, matplotlib.pyplot.figure().get_axes())
"""


@pytest.mark.slow
@pytest.mark.spark
def test_two_tasks_share_the_gpu_that_spark_assigns(tmp_path: Path) -> None:
    script = tmp_path / "gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["3"]}\'\n')
    script.chmod(0o755)
    use_bundled_java()
    environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    environment |= {"SPARK_WORKER_DIR": str(tmp_path / "work"), "PYTHONPATH": str(ROOT)}
    for name in ("PYSPARK_GATEWAY_PORT", "CUDA_VISIBLE_DEVICES"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", TASKS, str(script)],
        env=environment, capture_output=True, text=True, timeout=200, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == [[["3"], "3"], [["3"], "3"]]


def test_outside_of_a_task_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert assigned_gpus() == ()
    show_assigned_gpus()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def stand_in(gpus: list[str], begun: bool = False) -> tuple[Any, list[tuple[str, Any]]]:
    """The part of TensorFlow that knows devices, and the list of calls that it gets."""
    told: list[tuple[str, Any]] = []

    def set_visible_devices(device: str, kind: str) -> None:
        if begun:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        told.append((kind, device))

    experimental = SimpleNamespace(set_memory_growth=lambda device, grows: told.append((device, grows)))
    config = SimpleNamespace(
        list_physical_devices=lambda kind: gpus, set_visible_devices=set_visible_devices, experimental=experimental
    )
    return SimpleNamespace(config=config), told


def test_one_gpu_is_taken_and_memory_as_it_is_needed() -> None:
    tensorflow, told = stand_in(["gpu 3", "gpu 5"])
    assert use_one_gpu(tensorflow)
    assert told == [("GPU", "gpu 3"), ("gpu 3", True)]
    tensorflow, told = stand_in([])
    assert not use_one_gpu(tensorflow) and told == []
    assert use_one_gpu(stand_in(["gpu 3"], begun=True)[0])


def test_on_a_gpu_batches_are_large_and_scores_the_same() -> None:
    bundle = load_bundle("bundled:reads")
    large = Bundle(bundle.card, bundle.model, on_gpu=True)
    batch = ragged([*range(20, 60)])
    for name, codes in (("read_bases", 7), ("read_support", 4), ("reference", 7), ("alternate", 7)):
        getattr(batch, name)[:] %= codes
    batch.annotations = np.zeros((len(batch), 0), np.float32)
    batch.site_features = np.random.default_rng(1).random((len(batch), len(SITE_FEATURES)), np.float32)
    assert (bundle.rows_at_once, large.rows_at_once) == (ROWS_AT_ONCE, GPU_ROWS_AT_ONCE)
    shapes = [
        [len(chosen) for chosen, _ in scoring_batches(batch, 1024, b.inputs, b.rows_at_once)] for b in (bundle, large)
    ]
    assert len(shapes[0]) > 1 and shapes[1] == [len(batch)]
    block = Block(0, Region("c", 0, 1000))
    usual, found = (predicted_probabilities(b, batch, 1024, block) for b in (bundle, large))
    np.testing.assert_allclose(found, usual, atol=1e-5)


def test_the_commands_own_process_loads_keras_without_them_and_can_load_them_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["0 False", "True []", "(1, 1) sklearn []"]


def test_a_callers_process_keeps_all_of_keras() -> None:
    before = {name: sys.modules.pop(name, None) for name in tensorflow_setup.UNUSED}
    try:
        with tensorflow_setup.lean_import():
            assert not set(tensorflow_setup.UNUSED) & set(sys.modules)
    finally:
        sys.modules.update({name: module for name, module in before.items() if module is not None})


@pytest.mark.spark
def test_collections_skip_what_a_task_loads_and_nothing_of_a_caller(spark: Any) -> None:
    def frozen(part: Any) -> Any:
        for replaces in part:
            with model_kept_out_of_gc(replaces):
                given_up = threading.local()  # of the types that a weak reference can be held of
                given_up.itself, left = given_up, weakref.ref(given_up)
                del given_up
            yield gc.get_freeze_count() > 1000, left() is None

    assert run_tasks(spark, [[False, True]], frozen, "frozen") == [(True, False), (True, True)]
    before = gc.get_freeze_count()
    with model_kept_out_of_gc(replaces=True):
        pass
    assert gc.get_freeze_count() == before


def test_a_zip_is_imported_from_after_its_importers_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "zipped.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("zipped_one", "zipped_two"):
            archive.writestr(f"{name}.py", f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(path)
    for name in ("zipped_one", "zipped_two"):
        module = __import__(name)
        assert name == module.NAME and path in sys.path_importer_cache
        forget_zip_importers()
        assert path not in sys.path_importer_cache
        monkeypatch.delitem(sys.modules, name)
