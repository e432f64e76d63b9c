"""TensorFlow and Keras loaded in half the processor time of their plain import (docs/performance.md)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Packages that Keras' drawings of images, wrappers and data adapters, and TensorFlow Lite load where these are
# installed, for interfaces of their own that nobody here uses.
UNUSED = ("matplotlib", "sklearn", "pandas", "jax")

_own = False


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
    from cnnspark.runtime import task_name

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
