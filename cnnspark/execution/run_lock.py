"""Who writes into a run's folder: one run at a time, whatever is left of others.

Two guards, because storage differs. A lock on the folder tells a second run at once that another is at work; the kernel
gives it up with the process that held it, so a killed driver leaves none. Object stores and some network file systems
have no locks: there the run that opened the folder last owns it, by a token that lies in the folder, and every task of
an earlier run sees another token (or none: the run is over) before it commits, and fails. Nothing expires, and no clock
is compared with another.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cnnspark.common.storage import is_remote, remove, write_text
from cnnspark.errors import RunError, UsageError

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

OWNER = "owner"


@contextmanager
def locked(folder: Location) -> Iterator[bool]:
    """Holds the folder's lock; False where the storage has none. Raises BlockingIOError where another process has it.

    The lock is on the folder itself: there is no file that a kill could leave behind.
    """
    if is_remote(folder):
        yield False
        return
    try:
        descriptor = os.open(str(folder), os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        held = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # NFS wants a file open for writing; some file systems have no locks
            held = False
        yield held
    finally:
        os.close(descriptor)


@contextmanager
def sole_run(folder: Location) -> Iterator[None]:
    """Holds the lock of a run's folder while it is written. Raises UsageError where another process holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except BlockingIOError:
            raise UsageError(
                f"another run is writing into {folder}; wait until it has ended, or choose another --out"
            ) from None
        yield


@contextmanager
def private_folder(target: Location, kind: str) -> Iterator[Location]:
    """A folder beside ``target`` that is gone afterwards: storage that executors see, too.

    Those that killed runs left for this target go first; not on an object store, where nothing tells which are at work.
    """
    prefix = f".{target.name}.{kind}-"
    if is_remote(target):
        there = target.with_name(prefix + uuid.uuid4().hex)
        try:
            yield there
        finally:
            remove(there)
        return
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(BlockingIOError), locked(left) as held:  # else its run is at work
            if held:
                shutil.rmtree(str(left), ignore_errors=True)
    # A speculative attempt may still be writing when it is all over.
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=str(target.parent), ignore_cleanup_errors=True) as made,
        locked(Path(made)),
    ):
        yield Path(made)


def take(folder: Location) -> str:
    """Makes the caller the folder's owner, in place of whoever was; returns the token that tasks show."""
    token = uuid.uuid4().hex
    write_text(folder / OWNER, token)
    return token


def require(folder: Location, token: str) -> None:
    """Raises RunError where the folder has another owner by now, or none: its run is over."""
    if _owner(folder) != token:
        raise RunError(
            f"another run has taken over {folder}, or this one is over; when that has ended, run again with "
            "--if-exists resume"
        )


def release(folder: Location, token: str | None = None) -> None:
    """Ends the ownership, of this token only if one is given: what is left of its tasks can commit nothing more."""
    if token is None or _owner(folder) == token:
        (folder / OWNER).unlink(missing_ok=True)


def _owner(folder: Location) -> str:
    try:
        return (folder / OWNER).read_text()
    except FileNotFoundError:
        return ""
