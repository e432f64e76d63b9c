"""Where a stage's tasks run: in Spark's executors, or in this process alone (``--local``).

A stage hands over what its tasks work on, in groups, and a function of one group; which of the two it is, it never
asks. So blocks, commit, resume, counts and merge are the same code, and the bytes the same.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, Union
from zipimport import zipimporter

from cnnspark.common.stopwatch import task_name
from cnnspark.execution.session import described

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

T = TypeVar("T")
R = TypeVar("R")


class LocalSession:
    """Stands where a SparkSession does. Tasks run one after the other in this process, and no JVM is started."""


Session = Union["SparkSession", LocalSession]


def slots(session: Session) -> int:
    """How many tasks run at once."""
    return 1 if isinstance(session, LocalSession) else session.sparkContext.defaultParallelism


def run_tasks(
    session: Session, groups: Sequence[Sequence[T]], task: Callable[[Iterable[T]], Iterator[R]], what: str
) -> list[R]:
    """What ``task`` yields, group after group; each group is a Spark task, called ``what`` in Spark's UI.

    In this process all groups are one task's, so that models and files are opened once. There a failure is the task's
    own exception, from Spark one that :func:`cnnspark.common.error_translation.explain` understands.
    """
    if isinstance(session, LocalSession):
        return list(task(chain.from_iterable(groups)))

    def of_partition(part: Iterable[Sequence[T]]) -> Iterator[R]:
        left = iter(part)
        yield from task(chain.from_iterable(left))
        # PySpark ends a worker that has not read its input to the end, and with it the model that it keeps.
        deque(left, maxlen=0)
        forget_zip_importers()

    with described(session, what):
        return session.sparkContext.parallelize(groups, max(1, len(groups))).mapPartitions(of_partition).collect()


@contextmanager
def model_kept_out_of_gc() -> Iterator[None]:
    """Spares a Python worker's next task a third of a second: a model and the packages that are loaded with it are half
    a million objects, among which PySpark looks for garbage after each task.

    What is spared stays so until this is entered again, when an earlier model may be garbage. Only in Spark's tasks: a
    caller's process has objects of its own.
    """
    in_task = bool(task_name())
    if in_task:
        gc.unfreeze()
    yield
    if in_task:
        gc.collect()
        gc.freeze()


def forget_zip_importers() -> None:
    """Spares a Python worker's next task a quarter of a second.

    Before each task PySpark calls ``importlib.invalidate_caches``, and up to Python 3.12 every importer of a zip then
    reads the zip's directory again (CPython's issue 103200); of Spark's own zip there are a dozen. One that is not in
    the cache is made when it is needed, from the directory that has been read.
    """
    for path, importer in [*sys.path_importer_cache.items()]:
        if isinstance(importer, zipimporter):
            del sys.path_importer_cache[path]


def slices(items: Sequence[T], number: int) -> list[Sequence[T]]:
    """Consecutive parts of about the same length, in order; none is empty."""
    number = min(len(items), number)
    return [items[i * len(items) // number : (i + 1) * len(items) // number] for i in range(number)]
