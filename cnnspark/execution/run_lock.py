"""Who writes into a run's folder: one run at a time, whatever is left of earlier ones.

There are two guards, because storage differs. A lock on the folder tells a second run at once that another is at work;
the kernel releases it with the process that held it, so a killed driver leaves no lock. Object stores and some network
file systems have no locks: there the run that opened the folder last owns it, by a token in a file of the folder. Every
task of an earlier run sees another token before it commits (or no token: the run is over), and fails. Nothing expires,
and no clocks are compared.
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

from cnnspark.common.storage import is_remote, remove, short_name, write_text
from cnnspark.errors import RunError, UsageError

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

OWNER = "owner"


@contextmanager
def locked(folder: Location) -> Iterator[bool]:
    """Holds the folder's lock while the body runs.

    The lock is on the folder itself, so there is no lock file that a killed process could leave behind.

    Yields:
        Whether the folder is locked: False on storage without locks.

    Raises:
        BlockingIOError: if another process holds the lock.
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
    """Holds the lock of a run's folder while it is written.

    Raises:
        UsageError: if another process holds it.
    """
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
    """Makes a folder beside ``target`` and removes it afterwards: storage that executors share with the driver.

    Folders that killed runs left for this target are removed first; not on an object store, where nothing tells which
    of them are in use.

    Args:
        target: the file that is being made.
        kind: what the folder is for; a part of its name.

    Yields:
        The folder. On an object store it exists as soon as something is written to it.
    """
    prefix = f".{short_name(target.name)}.{kind}-"
    if is_remote(target):
        there = target.with_name(prefix + uuid.uuid4().hex)
        try:
            yield there
        finally:
            remove(there)
        return
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(BlockingIOError), locked(left) as held:  # a lock that is held: its run is at work
            if held:
                shutil.rmtree(str(left), ignore_errors=True)
    # A speculative attempt may still be writing when the run is over.
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=str(target.parent), ignore_cleanup_errors=True) as made,
        locked(Path(made)),
    ):
        yield Path(made)


def take(folder: Location) -> str:
    """Makes the caller the folder's owner, instead of any other run; returns the token that its tasks show."""
    token = uuid.uuid4().hex
    write_text(folder / OWNER, token)
    return token


def require(folder: Location, token: str) -> None:
    """Checks that the run with this token still owns the folder.

    Raises:
        RunError: if the folder has another owner, or no owner because the run is over.
    """
    if _owner(folder) != token:
        raise RunError(
            f"another run has taken over {folder}, or this one is over; when that has ended, run again with "
            "--if-exists resume"
        )


def release(folder: Location, token: str | None = None) -> None:
    """Ends the ownership, only that of ``token`` if it is given; tasks that still run can commit nothing more."""
    if token is None or _owner(folder) == token:
        (folder / OWNER).unlink(missing_ok=True)


def _owner(folder: Location) -> str:
    try:
        return (folder / OWNER).read_text()
    except FileNotFoundError:
        return ""
