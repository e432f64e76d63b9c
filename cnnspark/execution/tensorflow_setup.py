"""Prepares a process for TensorFlow: the GPU that Spark assigned, a quick import, and no pauses between tasks.

Several tasks can share one device: with ``spark.task.resource.gpu.amount=0.25`` four of them decode and encode, each in
its own process, and the device alternates between their batches. TensorFlow is an argument, so this module does not
import it.

Three functions here change the interpreter around them. Each is kept for its measured gain (docs/performance.md):

- :func:`lean_import`: loading TensorFlow and a model takes 4.3 s of processor time instead of 7.4 s, in every worker.
- :func:`model_kept_out_of_gc`: 0.35 s less for every task of a worker that has loaded a model.
- :func:`forget_zip_importers`: 0.25 to 0.35 s less for every task of a Python worker, up to Python 3.12.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from zipimport import zipimporter

VISIBLE = "CUDA_VISIBLE_DEVICES"

# Packages that Keras' drawings of images, wrappers and data adapters, and TensorFlow Lite load if they are installed,
# for interfaces that cnnspark does not use.
UNUSED = ("matplotlib", "sklearn", "pandas", "jax")
_own = False


def assigned_gpus() -> tuple[str, ...]:
    """Addresses of the GPUs that Spark's scheduler assigned to this task; empty if Spark assigns no GPUs."""
    if "pyspark" not in sys.modules:
        return ()
    from pyspark import TaskContext

    context = TaskContext.get()
    found = context.resources().get("gpu") if context else None
    return tuple(found.addresses) if found else ()


def show_assigned_gpus() -> None:
    """Hides all other GPUs from TensorFlow. Call it before TensorFlow is loaded, which looks for GPUs only once."""
    if gpus := assigned_gpus():
        os.environ[VISIBLE] = ",".join(gpus)


def use_one_gpu(tensorflow: Any) -> bool:
    """Gives this process one GPU, and memory of it as the process needs it.

    By itself TensorFlow takes all memory of every GPU, and the second task on one would fail. A device that is in use
    already stays as it is.

    Args:
        tensorflow: the module.

    Returns:
        Whether there is a GPU.
    """
    gpus = tensorflow.config.list_physical_devices("GPU")
    if not gpus:
        return False
    try:
        tensorflow.config.set_visible_devices(gpus[0], "GPU")
        tensorflow.config.experimental.set_memory_growth(gpus[0], True)
    except RuntimeError:  # TensorFlow has begun: a process's second model
        pass
    return True


def own_process() -> None:
    """Marks this process as cnnspark's own, a command's or a replica's: nobody else needs the UNUSED packages in it."""
    global _own
    _own = True


@contextmanager
def lean_import() -> Iterator[None]:
    """Hides the UNUSED packages from the imports in its body, and pauses garbage collection.

    Of 7.4 s of processor time for TensorFlow and a model the packages are 2.2 s and collections 0.9 s: almost none of
    half a million new objects is garbage.

    Packages are hidden only in Spark's tasks and in a process that called :func:`own_process`, and only those that are
    not loaded yet: a notebook keeps all of Keras.
    """
    from cnnspark.common.stopwatch import task_name  # here, as --help loads this module as well

    hidden = [name for name in UNUSED if name not in sys.modules] if _own or task_name() else []
    collected = gc.isenabled()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: import raises ModuleNotFoundError
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
        for name in hidden:
            del sys.modules[name]


@contextmanager
def model_kept_out_of_gc(replaces: bool) -> Iterator[None]:
    """Freezes what its body loads, so that the collection after each task skips it; saves 0.35 s a task.

    PySpark collects garbage after each task. A model and the packages that are loaded with it are half a million
    objects. They stay frozen until a model is given up for another, as only then can they be garbage. Outside of
    Spark's tasks nothing is frozen: a caller's process has objects of its own.

    Args:
        replaces: whether a model has been given up. Looking for its objects takes 0.5 s; what loading alone leaves is
            one object in thirty, and stays.
    """
    from cnnspark.common.stopwatch import task_name

    in_task = bool(task_name())
    if in_task and replaces:
        gc.unfreeze()
    yield
    if in_task:
        if replaces:
            gc.collect()
        gc.freeze()


def forget_zip_importers() -> None:
    """Removes the importers of zips from the interpreter's cache; saves a Python worker 0.25 to 0.35 s a task.

    Before each task PySpark calls ``importlib.invalidate_caches``. Up to Python 3.12 every importer of a zip then reads
    the directory of the zip again (CPython's issue 103200), and Spark's own zip has a dozen importers. A later import
    makes a new importer, from the directory that has been read.
    """
    for path, importer in [*sys.path_importer_cache.items()]:
        if isinstance(importer, zipimporter):
            del sys.path_importer_cache[path]
