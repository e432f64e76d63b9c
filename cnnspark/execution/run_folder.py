"""A run's folder: which run it is, which blocks are finished, and whether everything agrees.

A block is finished when its row is in ``manifest/``; the row is written last, after the block's file has its final
name. ``run.json`` says what the bytes depend on, so that a run is only ever resumed as the same run; ``manifest.json``
and ``_SUCCESS`` are written when all counts agree.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspark.common.storage import (
    explained,
    is_remote,
    location,
    make_folder,
    make_parents,
    read_json,
    read_texts,
    remove,
    require_free,
    write_json,
    write_text,
)
from cnnspark.errors import UsageError
from cnnspark.execution import run_lock
from cnnspark.execution.blocks import Block

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

ROWS, RUN, MANIFEST, SUCCESS = "manifest", "run.json", "manifest.json", "_SUCCESS"
ROW_CHECK = "row_crc32"  # of all other values of a row
REPORT = "blocks.tsv"  # how long each block took, and where


class RunFolder:
    """The folder of one stage's run."""

    def __init__(self, out: str | Path, stage: str, data: Sequence[str]):
        """Names the folder; nothing is read or written yet.

        Args:
            out: path or URL of the folder.
            stage: name of the stage, as its command is called.
            data: names of the folders and files in it that the stage writes.
        """
        self.stage = stage
        self.out = location(out)  # absolute: executors have other working folders
        self.data = (*data, REPORT)
        self._run = self._token = ""  # which run this is and who writes it, once it is open

    def check(self, if_exists: str) -> None:
        """Checks, before any work, that the folder can be used; leaves it as it is.

        Args:
            if_exists: ``fail``, ``resume``, ``overwrite`` or ``mend``, as for :meth:`open`.

        Raises:
            UsageError: if the folder is a file, holds files of something else or of another stage, or is a run and
                ``if_exists`` is ``fail``.
        """
        with explained(self.out):
            if not self.out.exists():
                return
        if not self.out.is_dir():
            raise UsageError(f"{self.out} is a file; choose another --out")
        # All that a run leaves if it is killed before it writes run.json.
        if all(path.name.startswith(f".{RUN}.") for path in self.out.iterdir()):
            return
        if not (self.out / RUN).exists():
            raise UsageError(f"{self.out} holds files that are not of a cnnspark run; choose another --out")
        stage = read_json(self.out / RUN, "a run", {"stage": str})["stage"]
        if stage != self.stage:
            raise UsageError(f"{self.out} is a run of 'cnnspark {stage}'; choose another --out")
        require_free(self.out, if_exists != "fail", choices="resume or overwrite")

    @contextmanager
    def opened(self, identity: Mapping[str, Any], blocks: Sequence[Block], if_exists: str) -> Iterator[None]:
        """Opens the folder as :meth:`open` does, and locks it against other runs until the context ends.

        Raises:
            UsageError: as :meth:`open` does, and if another run is writing into the folder.
        """
        self.check(if_exists)
        make_folder(self.out)
        with run_lock.sole_run(self.out):
            self.open(identity, blocks, if_exists)
            try:
                yield
            finally:
                run_lock.release(self.out, self._token)

    def open(self, identity: Mapping[str, Any], blocks: Sequence[Block], if_exists: str) -> None:
        """Makes or reopens the folder, and makes this process its owner.

        Args:
            identity: everything that the bytes depend on.
            blocks: the run's blocks.
            if_exists: ``resume`` continues a run of the same identity and blocks; ``overwrite`` begins anew; ``mend``
                continues it or, if identity or blocks differ and the run is not finished, begins anew: the run failed
                because of inputs that have been changed since.

        Raises:
            UsageError: as :meth:`check` does, and if the run cannot be resumed because it differs.
        """
        self.check(if_exists)
        # Through JSON and back, so that tuples and lists compare equal with what was written before.
        run = {"stage": self.stage, "identity": dict(identity), "blocks": [asdict(block) for block in blocks]}
        wanted = json.loads(json.dumps(run))
        self._run = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
        if (self.out / RUN).exists():
            known = read_json(self.out / RUN, "a run", {"identity": dict, "blocks": list})
            changed = sorted(k for k in wanted["identity"] if wanted["identity"][k] != known["identity"].get(k))
            another = bool(changed) or known["blocks"] != wanted["blocks"]
            anew = if_exists == "overwrite" or (if_exists == "mend" and another and not (self.out / SUCCESS).exists())
            if not anew:
                if another:
                    raise UsageError(
                        f"{self.out} is a run with other inputs or settings ({', '.join(changed) or 'blocks'}); "
                        "use --if-exists overwrite or another --out"
                    )
                self._token = run_lock.take(self.out)
                make_parents(self.out / ROWS / RUN)  # the run may have been killed before it made this folder
                (self.out / SUCCESS).unlink(missing_ok=True)
                self._remove_temporary()
                return
            self.remove()
        make_folder(self.out)
        write_json(self.out / RUN, wanted)
        self._token = run_lock.take(self.out)
        make_parents(self.out / ROWS / RUN)

    def require_owner(self) -> None:
        """Checks that the run still owns its folder; tasks call it before they begin a block and before they commit.

        Raises:
            RunError: if another run has taken over the folder, or this one is over.
        """
        run_lock.require(self.out, self._token)

    def _remove_temporary(self) -> None:
        """Removes the files of attempts that were killed: their names begin with a dot and one of the run's names.

        An object store has no such files.
        """
        if is_remote(self.out):
            return
        for name in (*self.data, RUN, MANIFEST, run_lock.OWNER):
            for path in self.out.glob(f".{name}.*"):
                path.unlink(missing_ok=True)
        for name in (*self.data, ROWS):
            if (self.out / name).is_dir():
                for path in (self.out / name).rglob(".*"):
                    path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes what a run wrote, and nothing else: first the success mark, then its tasks' right to commit."""
        (self.out / SUCCESS).unlink(missing_ok=True)
        run_lock.release(self.out)
        (self.out / MANIFEST).unlink(missing_ok=True)
        self._remove_temporary()
        # Rows before data: a row without its data would say that a block is finished.
        for name in (ROWS, *self.data):
            remove(self.out / name)
        (self.out / RUN).unlink(missing_ok=True)

    def commit(self, block: Block, row: Mapping[str, Any]) -> None:
        """Marks a block as finished by writing its row."""
        values = json.loads(json.dumps({**row, "run": self._run}))  # as it will be read
        write_json(self.out / ROWS / f"{block.name}.json", {**values, ROW_CHECK: _row_check(values)})

    def rows(self, block: Block | None = None) -> list[dict[str, Any]]:
        """Reads the rows of the finished blocks.

        Rows of another run are left out: a late task of a run that was overwritten may have written one. So are
        damaged ones: their blocks are not finished.

        Args:
            block: a single block to look for; without it all blocks.

        Returns:
            The rows, in the order of the blocks.
        """
        pattern = "block-*.json" if block is None else f"{block.name}.json"
        paths: list[Location] = sorted((self.out / ROWS).glob(pattern), key=str)
        rows = [row for text in read_texts(paths) if (row := _intact_row(text)) is not None]
        runs = [row.pop("run", "") for row in rows]
        return [row for row, run in zip(rows, runs, strict=True) if run == self._run or not self._run]

    def committed(self) -> set[str]:
        """The names of the blocks that have a row; does not read the rows, so it is cheap enough to ask often."""
        return {path.name.removesuffix(".json") for path in (self.out / ROWS).glob("block-*.json")}

    def report(self, table: str) -> None:
        """Writes the table of how long each block took."""
        write_text(self.out / REPORT, table)

    def succeed(self, manifest: Mapping[str, Any]) -> None:
        """Writes the manifest and, last of all, the success mark.

        Raises:
            RunError: if the run does not own its folder any more.
        """
        self.require_owner()
        write_json(self.out / MANIFEST, dict(manifest))
        run_lock.release(self.out, self._token)
        self._remove_temporary()  # of speculative attempts that were ended; no new ones begin now
        write_text(self.out / SUCCESS, "")


def _row_check(values: Mapping[str, Any]) -> int:
    """The CRC-32 of a row, written in one way."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _intact_row(text: str) -> dict[str, Any] | None:
    """The row in a JSON text; None if it is damaged, or of an earlier version, which had no check."""
    try:
        row = json.loads(text)
        return row if row.pop(ROW_CHECK) == _row_check(row) else None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None
