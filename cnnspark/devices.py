"""The GPU that a process computes on: the one that Spark assigned to its task, taking memory as it needs it.

So several tasks can feed one device: with ``spark.task.resource.gpu.amount=0.25`` four of them decode and encode, each
in a process of its own, and the device takes their batches by turns. Pure: TensorFlow is handed in.
"""

from __future__ import annotations

import os
import sys
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"


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
