"""Any failure as one of cnnspark's own: one sentence with a remedy, and an exit code."""

from __future__ import annotations

import os
import re

from cnnspark import errors
from cnnspark.common.storage import store_error


def explain(error: BaseException) -> errors.CnnsparkError:
    """The failure as one of cnnspark's own: as it is, or found in what Spark says of a task, or said in general."""
    if isinstance(error, errors.CnnsparkError):
        return error
    text = str(error)
    # A task's exception arrives as the text of its traceback inside a Java exception.
    found = re.findall(r"cnnspark\.errors\.(\w+): (.+)", text)
    if found:
        kind = getattr(errors, found[-1][0], errors.RunError)
        return kind(found[-1][1].strip())
    of_store = store_error(f"{type(error).__name__}: {text}")
    if of_store is not None:
        return of_store
    # Python's own words, those of pyarrow, and Java's.
    full = re.search(r"(No space left on device|Disk quota exceeded)(?:: '([^'\n]+)')?", text)
    if full:
        which = f"the disk of {os.path.dirname(full[2])}" if full[2] else "a disk"
        return errors.RunError(
            f"{which} is full ({full[1]}); free space and run again, with --if-exists resume where the command has it"
        )
    if re.search(r"exit code[: ]+137|OutOfMemory|Container killed", text):
        return errors.RunError(
            "an executor was killed, most likely for memory; raise spark.executor.memoryOverhead and run again with "
            "--if-exists resume"
        )
    if "ExecutorLostFailure" in text:
        return errors.RunError(
            "executors were lost again and again; see their logs and the cluster's, and run again with --if-exists "
            "resume"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    python = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    first = (python or lines or [type(error).__name__])[-1 if python else 0]
    return errors.RunError(f"{first[:300]} ({type(error).__name__}); run with --debug for the traceback")
