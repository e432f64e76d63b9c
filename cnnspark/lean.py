"""TensorFlow and Keras without the packages that they load, where these are installed, for interfaces of their own that
nobody here uses: a quarter of the processor time of their import (docs/performance.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of Keras' wrappers and data adapters, and of TensorFlow Lite.
UNUSED = ("sklearn", "pandas", "jax")

_own = False


def own_process() -> None:
    """Says that this process is cnnspark's own, a command's or a replica's: nobody else will look for those interfaces
    in it."""
    global _own
    _own = True


@contextmanager
def without_unused_packages() -> Iterator[None]:
    """Imports within find none of UNUSED, as if they were not installed; afterwards everyone does.

    Only in Spark's tasks and in :func:`own_process`, and not those that are loaded already: a notebook keeps all of
    Keras.
    """
    from cnnspark.runtime import task_name

    hidden = [name for name in UNUSED if name not in sys.modules] if _own or task_name() else []
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: import raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
