"""Where a stage's tasks run: in Spark's executors, or in this process alone (``--local``).

A stage passes groups of items and a function of one group, and does not ask where it runs. So blocks, commit, resume,
counts and merge are the same code, and the bytes are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, Union

from cnnspark.execution.session import described
from cnnspark.execution.tensorflow_setup import forget_zip_importers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

T = TypeVar("T")
R = TypeVar("R")


class LocalSession:
    """Takes the place of a SparkSession: tasks run one after the other in this process, without a JVM."""


# A union, not a protocol: callers pass Spark's own SparkSession, which has no method in common with LocalSession. Only
# the functions of this package and the checks before a stage tell them apart.
Session = Union["SparkSession", LocalSession]


def slots(session: Session) -> int:
    """How many tasks can run at once."""
    return 1 if isinstance(session, LocalSession) else session.sparkContext.defaultParallelism


def run_tasks(
    session: Session, groups: Sequence[Sequence[T]], task: Callable[[Iterable[T]], Iterator[R]], what: str
) -> list[R]:
    """Runs a function on groups of items, each group as a Spark task.

    Without Spark one task gets all groups, so that models and files are opened once. An exception of the task then
    reaches the caller as it is; Spark raises one that :func:`cnnspark.common.error_translation.explain` understands.

    Args:
        session: where the tasks run.
        groups: the items of each task.
        task: called once in each task with an iterator of its items; sent to the executors.
        what: name of the job in Spark's UI.

    Returns:
        What the tasks yield, in the order of the groups.
    """
    if isinstance(session, LocalSession):
        return list(task(chain.from_iterable(groups)))

    def of_partition(part: Iterable[Sequence[T]]) -> Iterator[R]:
        import pysam

        pysam.set_verbosity(0)  # as in the driver (cnnspark.cli.run): one sentence says what failed
        left = iter(part)
        yield from task(chain.from_iterable(left))
        # PySpark ends a worker that has not read its input to the end, and the model it has loaded is lost with it.
        deque(left, maxlen=0)
        forget_zip_importers()

    with described(session, what):
        return session.sparkContext.parallelize(groups, max(1, len(groups))).mapPartitions(of_partition).collect()


def slices(items: Sequence[T], number: int) -> list[Sequence[T]]:
    """Cuts the items into at most ``number`` consecutive parts of about the same length; no part is empty."""
    number = min(len(items), number)
    return [items[i * len(items) // number : (i + 1) * len(items) // number] for i in range(number)]
