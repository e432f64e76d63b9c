"""What a training run is made of at the end of an epoch, and its checkpoint: an npz without pickles."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnspark.errors import InputError, UsageError
from cnnspark.training_settings import STATE_FILE


@dataclass
class TrainingState:
    """Weights and optimizer variables after ``epoch`` epochs, and the best weights so far.

    ``best_value`` is the highest of what epochs are compared by; ``best`` is of the epoch that :meth:`keep_best` chose.
    """

    weights: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray]
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -np.inf
    history: list[dict[str, Any]] = field(default_factory=list)

    def keep_best(self, weights: list[np.ndarray], value: float, tolerance: float) -> None:
        """Takes the weights of this epoch for the best where its value is no more than ``tolerance`` below the highest
        so far; with a tolerance of 0, only where it is higher."""
        if value > self.best_value - tolerance:
            self.best, self.best_epoch = weights, self.epoch
        self.best_value = max(self.best_value, value)

    def save(self, folder: Path, fingerprint: str) -> None:
        """Writes the checkpoint so that a reader sees the old one or the new one, never a part."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "fingerprint": fingerprint,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "history": self.history,
        }
        arrays: dict[str, np.ndarray] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
        for name in ("weights", "optimizer", "best"):
            arrays |= {f"{name}_{i:04d}": values for i, values in enumerate(getattr(self, name))}
        temporary = folder / f".{STATE_FILE}.{os.getpid()}"
        with open(temporary, "wb") as out:
            np.savez(out, **arrays)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, folder / STATE_FILE)

    @staticmethod
    def load(folder: Path, fingerprint: str) -> TrainingState | None:
        """The checkpoint in ``folder``, None where there is none.

        Raises UsageError where it belongs to other settings or data, InputError where it is damaged.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                facts = json.loads(stored["facts"].tobytes())
                weights, optimizer, best = (
                    [stored[name] for name in sorted(stored.files) if name.startswith(f"{kind}_")]
                    for kind in ("weights", "optimizer", "best")
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged ({error}); train again with --if-exists overwrite") from None
        if facts.pop("fingerprint") != fingerprint:
            raise UsageError(
                f"{folder} is the checkpoint of a training with other settings or data; "
                "use --if-exists overwrite or another --out"
            )
        return TrainingState(weights, optimizer, best, **facts)
