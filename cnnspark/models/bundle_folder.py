"""How a bundle comes to be where it belongs: whole, or not at all. Pure."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnnspark.errors import InputError
from cnnspark.files import commit, explained, has_files, is_remote, location
from cnnspark.models.card import BUNDLE_FILES
from cnnspark.models.names import FIRST

if TYPE_CHECKING:
    from cnnspark.files import Location

# In the order in which they are written to a store: a bundle without its card is none.
ALL_FILES = (*(f"{FIRST}/{name}" for name in BUNDLE_FILES), *BUNDLE_FILES)


@contextmanager
def new_bundle(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """A private folder for a bundle's files, which is the bundle at ``path`` afterwards; nothing is where that fails.

    Raises InputError where something is there already and ``replace`` is not given.
    """
    place = location(path)
    if is_remote(place):
        if has_files(place) and not replace:
            raise InputError(f"{place} exists; give another name or --if-exists overwrite")
        with tempfile.TemporaryDirectory(prefix="cnnspark-") as private, explained(place):
            yield Path(private)
            _upload(Path(private), place)
        return
    target = Path(str(place))
    if target.exists() and not replace:
        raise InputError(f"{path} exists; give another name or --if-exists overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield staging
        staging.chmod(0o777 & ~_umask())
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            os.rename(target, old / "old")
            os.rename(staging, target)
            shutil.rmtree(old)
        else:
            os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _upload(folder: Path, target: Location) -> None:
    """The old card goes first and the new one comes last, so that what lies there in between is no bundle."""
    for name in reversed(ALL_FILES):
        (target / name).unlink(missing_ok=True)
    for name in ALL_FILES:
        if (folder / name).exists():
            commit(folder / name, target / name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
