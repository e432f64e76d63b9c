"""Where a stage's tasks run: in Spark's executors, or in this process alone (``--local``).

A stage hands over what its tasks work on, in groups, and a function of one group; which of the two it is, it never
asks. So blocks, commit, resume, counts and merge are the same code, and the bytes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, Union

from cnnspark.session import described

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
    own exception, from Spark one that :func:`cnnspark.failures.explain` understands.
    """
    if isinstance(session, LocalSession):
        return list(task(chain.from_iterable(groups)))

    def of_partition(part: Iterable[Sequence[T]]) -> Iterator[R]:
        return task(chain.from_iterable(part))

    with described(session, what):
        return session.sparkContext.parallelize(groups, max(1, len(groups))).mapPartitions(of_partition).collect()


def slices(items: Sequence[T], number: int) -> list[Sequence[T]]:
    """Consecutive parts of about the same length, in order; none is empty."""
    number = min(len(items), number)
    return [items[i * len(items) // number : (i + 1) * len(items) // number] for i in range(number)]
