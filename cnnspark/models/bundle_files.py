"""Where bundles are, and how their files are written: whole, or not at all. No Spark, no TensorFlow."""

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
# In the order in which they are written to a store: a folder without a card is not a bundle.
BUNDLE_FILES = (NETWORK_FILE, HISTORY_FILE, CARD_FILE)
ALL_FILES = (*(f"{FIRST}/{name}" for name in BUNDLE_FILES), *BUNDLE_FILES)

# Models that come with cnnspark; benchmarks.models.bundled makes them.
BUNDLED = ("features", "reads", "reference")
PREFIX = "bundled:"
_FOLDER = Path(__file__).resolve().parents[1] / "pretrained"
# `features` is stored as the first model of the cascade `reads`, so that the folder `reads` is complete in itself.
_FIRST_OF_READS = f"reads/{FIRST}"


@contextmanager
def new_bundle(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Makes a bundle: the body writes its files to a private folder, which then becomes the bundle at ``path``.

    If the body raises, nothing is written to ``path``, and what was there stays.

    Args:
        path: The bundle's folder, or its address on a store.
        replace: Whether a bundle that is there is replaced.

    Yields:
        The private folder.

    Raises:
        InputError: if something is there and ``replace`` is not given.
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
    """Removes the old card first and writes the new one last, so that nobody reads a mixture as a bundle."""
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
    """Whether the model comes with cnnspark."""
    return model.startswith(PREFIX)


def chosen_model(model: str | None, with_reads: bool) -> str:
    """The model that a user chose, or the bundled one that suits the inputs.

    Args:
        model: A folder or address, returned as it is; a name of ``BUNDLED``, which is the bundled model of that name
            unless there is such a folder; or None for a bundled model.
        with_reads: Without a ``model``: whether it is the bundled ``reads`` or ``reference``.
    """
    if model is None:
        return PREFIX + ("reads" if with_reads else "reference")
    return PREFIX + model if model in BUNDLED and not os.path.isdir(model) else model


@contextmanager
def opened_bundle(model: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """Opens a bundle on this machine.

    Args:
        model: A folder, an address on a store, or a bundled model.
        names: Files to fetch if the bundle is on a store.

    Yields:
        Its folder; for a bundle on a store a private copy of the named files, which is removed afterwards.

    Raises:
        InputError: if a bundled model is not in this installation, or the store does not answer.
    """
    if isinstance(model, str) and is_url(model):
        with fetched(location(model), names) as folder:
            yield folder
    else:
        yield bundle_folder(model)


def bundle_location(model: str | Path) -> Location:
    """The folder of a bundle, on this machine or on a store."""
    return location(model) if isinstance(model, str) and is_url(model) else bundle_folder(model)


def bundle_folder(model: str | Path) -> Path:
    """The folder of a bundle on this machine.

    Raises:
        InputError: if there is no bundled model of that name, or it is not in this installation.
    """
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
    """The model as it can be used from any working folder: an absolute path, an address or a bundled model."""
    return model if is_bundled(model) else absolute(model)


def notice(model: str) -> str:
    """A sentence for whoever uses a bundled model; empty for any other model."""
    if not is_bundled(model):
        return ""
    return (
        f"model: the bundled '{model.removeprefix(PREFIX)}', trained on simulated reads alone: check it on a truth set "
        "of yours, or train your own with 'cnnspark train'"
    )
