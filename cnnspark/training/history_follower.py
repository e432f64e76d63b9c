"""What the driver shows of a training while it runs: the lines that rank 0 adds to the history file."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cnnspark.common.storage import is_remote, size

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


class HistoryFollower:
    """Shows new lines of a history file, from a thread, while the driver waits for Spark's stage.

    Use it as a context manager; at its end the last lines are shown.
    """

    def __init__(self, path: Location, epochs: int, say: Callable[[str], None]):
        """Starts behind what the file holds already.

        Args:
            path: ``history.jsonl`` of the training; it need not exist yet.
            epochs: how many the training has.
            say: is given each line as text.
        """
        self._path, self._epochs, self._say = path, epochs, say
        self._offset = size(path) or 0  # in bytes
        # Each look at an object in a store is a request.
        self._pause_seconds = 5.0 if is_remote(path) else 1.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._follow,), daemon=True)

    def __enter__(self) -> HistoryFollower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.show_new_lines()

    def _follow(self) -> None:
        while not self._stop.wait(self._pause_seconds):
            self.show_new_lines()

    def show_new_lines(self) -> None:
        """Shows the lines that were finished since the last look."""
        if (size(self._path) or 0) <= self._offset:
            return
        with self._path.open("rb") as history:
            history.seek(self._offset)
            text = history.read()
        whole = text[: text.rfind(b"\n") + 1]  # a line may be half written
        self._offset += len(whole)
        for line in whole.splitlines():
            self._say(progress_line(json.loads(line), self._epochs))


def progress_line(row: Mapping[str, Any], epochs: int) -> str:
    """One line of the history as text.

    Args:
        row: what :class:`cnnspark.training.history.History` wrote.
        epochs: how many the training has.
    """
    if "said" in row:
        return str(row["said"])
    parts = [f"epoch {row['epoch']}/{epochs}", f"step {row['step']}/{row['steps']}", f"loss {row['loss']:.4f}"]
    names = {"val_loss": "validation loss", "val_auprc": "validation AUPRC"}
    parts += [f"{shown} {row[name]:.4f}" for name, shown in names.items() if name in row]
    parts.append(f"{row['examples_per_second']:,.0f} alleles/s")
    left = int(row["seconds_left"])
    parts.append(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")
    return "  ".join(parts)
