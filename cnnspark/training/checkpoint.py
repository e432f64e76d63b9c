"""The state of a training at the end of an epoch, and its checkpoint: an npz without pickles."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.common.storage import commit, make_parents, private_file
from cnnspark.errors import InputError, UsageError
from cnnspark.training.settings import STATE_FILE

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


@dataclass
class TrainingState:
    """Weights and optimizer variables after ``epoch`` epochs, and the best weights so far.

    ``best_value`` is the highest value that an epoch had (:meth:`cnnspark.training.validation.Validation.value`);
    ``best`` are the weights of the epoch that :meth:`keep_best` chose. Epochs count from 1.
    """

    weights: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray]
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -np.inf
    highest_epoch: int = 0  # of best_value; with a tolerance the best weights may be of a later epoch
    history: list[dict[str, Any]] = field(default_factory=list)

    def is_over(self, patience: int) -> bool:
        """Whether training ends early: the last ``patience`` epochs (0: never) were no better than an earlier one."""
        return 0 < patience <= self.epoch - self.highest_epoch

    def keep_best(self, weights: list[np.ndarray], value: float, tolerance: float) -> None:
        """Keeps the weights of this epoch as the best if its value is good enough.

        Args:
            weights: of this epoch.
            value: of this epoch; higher is better.
            tolerance: how far below the highest value so far it may be; with 0 it must be higher.
        """
        if value > self.best_value - tolerance:
            self.best, self.best_epoch = weights, self.epoch
        if value > self.best_value:
            self.best_value, self.highest_epoch = value, self.epoch

    def save(self, folder: Location, fingerprint: str) -> None:
        """Writes the checkpoint, so that a reader sees the old one or the new one, never a part.

        Args:
            folder: of the training's checkpoints.
            fingerprint: what it must have to be resumed.
        """
        target = folder / STATE_FILE
        make_parents(target)
        facts = {
            "fingerprint": fingerprint,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "highest_epoch": self.highest_epoch,
            "history": self.history,
        }
        arrays: dict[str, np.ndarray] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
        for name in ("weights", "optimizer", "best"):
            arrays |= {f"{name}_{i:04d}": values for i, values in enumerate(getattr(self, name))}
        with private_file(target) as temporary:
            with open(temporary, "wb") as out:
                np.savez(out, **arrays)
                out.flush()
                os.fsync(out.fileno())
            commit(temporary, target)

    @staticmethod
    def load(folder: Location, fingerprint: str, like: TrainingState) -> TrainingState | None:
        """Reads the checkpoint of a folder.

        Args:
            folder: of the training's checkpoints.
            fingerprint: what the checkpoint must have been written with.
            like: a state with arrays of the shapes that are expected.

        Returns:
            The state, or None if the folder has no checkpoint.

        Raises:
            UsageError: if it belongs to other settings or data, or has other shapes.
            InputError: if it is damaged.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                facts = json.loads(stored["facts"].tobytes())
                weights, optimizer, best = (
                    [stored[name] for name in sorted(stored.files) if name.startswith(f"{kind}_")]
                    for kind in ("weights", "optimizer", "best")
                )
            written_by = facts.pop("fingerprint")
            state = TrainingState(weights, optimizer, best, **facts)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged ({error}); train again with --if-exists overwrite") from None
        if written_by != fingerprint or state._shapes() != like._shapes():
            raise UsageError(
                f"{folder} is the checkpoint of a training with other settings or data, or on another kind of GPU; "
                "use --if-exists overwrite or another --model-out"
            )
        return state

    def _shapes(self) -> list[list[tuple[int, ...]]]:
        return [[values.shape for values in arrays] for arrays in (self.weights, self.optimizer, self.best)]
