"""How a bundle comes to be where it belongs: whole, or not at all. Pure."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnnspark.common.storage import absolute, commit, explained, fetched, has_files, is_remote, is_url, location
from cnnspark.errors import InputError
from cnnspark.models.names import FIRST

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

CARD_FILE = "model.json"
NETWORK_FILE = "model.keras"
HISTORY_FILE = "history.json"
# In the order in which they are written to a store: a bundle without its card is none.
BUNDLE_FILES = (NETWORK_FILE, HISTORY_FILE, CARD_FILE)
ALL_FILES = (*(f"{FIRST}/{name}" for name in BUNDLE_FILES), *BUNDLE_FILES)

# benchmarks.models.bundled makes them.
BUNDLED = ("features", "reads", "reference")
PREFIX = "bundled:"
_FOLDER = Path(__file__).resolve().parents[1] / "pretrained"
# `features` comes before `reads`, and lies where any cascade has its first model: so `reads` can be copied whole.
_FIRST_OF_READS = f"reads/{FIRST}"


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


def is_bundled(model: str) -> bool:
    """Whether the model is one that comes with cnnspark."""
    return model.startswith(PREFIX)


def chosen_model(model: str | None, with_reads: bool) -> str:
    """The model that is meant: a folder as it is, a name of ``BUNDLED`` the bundled one of that name (unless there is
    such a folder), and none the bundled ``reads``, without reads ``reference``."""
    if model is None:
        return PREFIX + ("reads" if with_reads else "reference")
    return PREFIX + model if model in BUNDLED and not os.path.isdir(model) else model


@contextmanager
def opened_bundle(model: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """A bundle's folder on this machine; of a store's bundle a private copy of the named files, gone afterwards."""
    if isinstance(model, str) and is_url(model):
        with fetched(location(model), names) as folder:
            yield folder
    else:
        yield bundle_folder(model)


def bundle_location(model: str | Path) -> Location:
    """Where a bundle lies, be it on a store."""
    return location(model) if isinstance(model, str) and is_url(model) else bundle_folder(model)


def bundle_folder(model: str | Path) -> Path:
    """Where a bundle lies on this machine. Raises InputError where a bundled model is not in this installation."""
    if not isinstance(model, str) or not is_bundled(model):
        return Path(absolute(str(model)))
    name = model.removeprefix(PREFIX)
    if name not in (*BUNDLED, _FIRST_OF_READS):
        raise InputError(f"there is no bundled model '{name}'; choose one of {', '.join(BUNDLED)}")
    folder = _FOLDER / (_FIRST_OF_READS if name == "features" else name)
    if not folder.is_dir():
        raise InputError(
            f"this installation of cnnspark has no bundled models (it is imported from {_FOLDER.parent}); install it "
            "with pip on every machine, or give --model a folder that all of them see"
        )
    return folder


def absolute_model(model: str) -> str:
    """The model for use from any folder."""
    return model if is_bundled(model) else absolute(model)


def notice(model: str) -> str:
    """What is to be said of a bundled model whenever it is used; empty of any other."""
    if not is_bundled(model):
        return ""
    return (
        f"model: the bundled '{model.removeprefix(PREFIX)}', trained on simulated reads alone: check it on a truth set "
        "of yours, or train your own with 'cnnspark train'"
    )
