"""The models that come with cnnspark: what is used where none is named. Pure.

A bundled model is named ``bundled:NAME`` throughout, not by its path: each machine has its own copy, as it has its own
installation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnnspark.errors import InputError
from cnnspark.files import absolute, fetched, is_url, location
from cnnspark.models.names import FIRST

if TYPE_CHECKING:
    from cnnspark.files import Location

# benchmarks.bundled makes them.
BUNDLED = ("features", "reads", "reference")
PREFIX = "bundled:"
_FOLDER = Path(__file__).resolve().parents[1] / "pretrained"
# `features` comes before `reads`, and lies where any cascade has its first model: so `reads` can be copied whole.
_FIRST_OF_READS = f"reads/{FIRST}"


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
