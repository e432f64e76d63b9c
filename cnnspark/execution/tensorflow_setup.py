"""Prepares a process for TensorFlow: the GPU that Spark assigned, and an import in half the processor time.

Several tasks can share one device: with ``spark.task.resource.gpu.amount=0.25`` four of them decode and encode, each in
its own process, and the device alternates between their batches. TensorFlow is an argument, so this module does not
import it. What the lighter import saves stands in docs/performance.md.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"

# Packages that Keras' drawings of images, wrappers and data adapters, and TensorFlow Lite load where these are
# installed, for interfaces of their own that nobody here uses.
UNUSED = ("matplotlib", "sklearn", "pandas", "jax")
_own = False


def assigned_gpus() -> tuple[str, ...]:
    """Addresses of the GPUs that Spark's scheduler assigned to this task; empty where it deals out none."""
    if "pyspark" not in sys.modules:
        return ()
    from pyspark import TaskContext

    context = TaskContext.get()
    found = context.resources().get("gpu") if context else None
    return tuple(found.addresses) if found else ()


def show_assigned_gpus() -> None:
    """Hides all other GPUs from TensorFlow; to be called before it is loaded, which settles them for the process."""
    if gpus := assigned_gpus():
        os.environ[VISIBLE] = ",".join(gpus)


def use_one_gpu(tensorflow: Any) -> bool:
    """One device for this process, taking memory as it needs it: by itself TensorFlow takes all there is, of every
    GPU, and the second task on it would fail. Returns whether there is one; without a GPU nothing happens.

    Where the device is in use already, nothing is changed.
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
    """Says that this process is cnnspark's own, a command's or a replica's: nobody else will look for those interfaces
    in it."""
    global _own
    _own = True


@contextmanager
def lean_import() -> Iterator[None]:
    """Imports within find none of UNUSED, as if they were not installed; afterwards everyone does. Nor is garbage
    looked for: hardly any of half a million new objects is.

    Packages are hidden in Spark's tasks and in :func:`own_process` alone, and not those that are loaded already: a
    notebook keeps all of Keras.
    """
    from cnnspark.common.stopwatch import task_name

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
