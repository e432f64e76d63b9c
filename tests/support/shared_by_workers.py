"""What takes long to make is made by one of the processes in which tests run, and used by all of them."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """The result of ``make`` in a folder of this name, by whichever process comes first; the others wait for it.

    Args:
        factory: pytest's, whose base folder processes of one run share.
        name: names the folder.
        make: writes into the folder that it is given; its result can be pickled, and nobody changes the files.
    """
    base = factory.getbasetemp()
    if base.name.startswith("popen-"):  # pytest-xdist: each process has a folder in that of the run
        base = base.parent
    folder, result = base / name, base / f"{name}.pickle"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            folder.mkdir()
            made = make(folder)
            result.write_bytes(pickle.dumps(made))
        return pickle.loads(result.read_bytes())
