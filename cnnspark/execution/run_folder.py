"""A run's folder: what it is, which blocks are finished, and whether all of it agrees.

A block is finished when its row lies in ``manifest/``; the row is written last, after the block's file has its final
name. ``run.json`` says what the bytes depend on, so that a run is only ever resumed as the same run; ``manifest.json``
and ``_SUCCESS`` are written when all counts agree.
"""

from __future__ import annotations

import hashlib
import json
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
from cnnspark.errors import InputError, UsageError
from cnnspark.execution import run_lock
from cnnspark.execution.blocks import Block

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

ROWS, RUN, MANIFEST, SUCCESS = "manifest", "run.json", "manifest.json", "_SUCCESS"
REPORT = "blocks.tsv"  # how long each block took, and where


class RunFolder:
    """The folder ``out`` of one stage's run; ``data`` names the folders and files in it that the stage writes."""

    def __init__(self, out: str | Path, stage: str, data: Sequence[str]):
        self.stage = stage
        self.out = location(out)  # absolute: executors have other working folders
        self.data = (*data, REPORT)
        self._run = self._token = ""  # which run this is and who writes it, once it is open

    def check(self, if_exists: str) -> None:
        """Raises UsageError where the folder cannot be used: before any work, and without touching it."""
        with explained(self.out):
            if not self.out.exists():
                return
        if not self.out.is_dir():
            raise UsageError(f"{self.out} is a file; choose another --out")
        # A run that was killed before it had said what it is has left nothing else.
        if all(path.name.startswith(f".{RUN}.") for path in self.out.iterdir()):
            return
        if not (self.out / RUN).exists():
            raise UsageError(f"{self.out} holds files that are not of a cnnspark run; choose another --out")
        stage = read_json(self.out / RUN, "a run").get("stage")
        if stage != self.stage:
            raise UsageError(f"{self.out} is a run of 'cnnspark {stage}'; choose another --out")
        require_free(self.out, if_exists != "fail", choices="resume or overwrite")

    @contextmanager
    def opened(self, identity: Mapping[str, Any], blocks: Sequence[Block], if_exists: str) -> Iterator[None]:
        """:meth:`open`, with the folder locked against other runs for as long as the context lasts."""
        self.check(if_exists)
        make_folder(self.out)
        with run_lock.sole_run(self.out):
            self.open(identity, blocks, if_exists)
            try:
                yield
            finally:
                run_lock.release(self.out, self._token)

    def open(self, identity: Mapping[str, Any], blocks: Sequence[Block], if_exists: str) -> None:
        """Makes or reopens the folder.

        ``identity`` is everything that the bytes depend on. Raises UsageError as :meth:`check` does, and where a run
        with another identity is to be resumed. With ``if_exists="mend"`` such a run is begun anew, unless it is
        finished: its inputs were what it failed for.
        """
        self.check(if_exists)
        # Through JSON and back, so that tuples and lists compare equal with what was written before.
        run = {"stage": self.stage, "identity": dict(identity), "blocks": [asdict(block) for block in blocks]}
        wanted = json.loads(json.dumps(run))
        self._run = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
        if (self.out / RUN).exists():
            known = read_json(self.out / RUN, "a run")
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
                make_parents(self.out / ROWS / RUN)  # it may have been killed before it came to this
                (self.out / SUCCESS).unlink(missing_ok=True)
                self._remove_temporary()
                return
            self.remove()
        make_folder(self.out)
        write_json(self.out / RUN, wanted)
        self._token = run_lock.take(self.out)
        make_parents(self.out / ROWS / RUN)

    def require_owner(self) -> None:
        """For tasks, before they begin a block and before they commit it. Raises RunError where the run is not this
        process's any more."""
        run_lock.require(self.out, self._token)

    def _remove_temporary(self) -> None:
        """Removes the files of attempts that were killed: their names begin with a dot and one of the run's names.

        There are none on an object store."""
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
        """Removes what a run wrote, and nothing else; the success mark first, and then its tasks' right to commit."""
        (self.out / SUCCESS).unlink(missing_ok=True)
        run_lock.release(self.out)
        (self.out / MANIFEST).unlink(missing_ok=True)
        self._remove_temporary()
        # Rows before data: a row without its data would say that a block is finished.
        for name in (ROWS, *self.data):
            remove(self.out / name)
        (self.out / RUN).unlink(missing_ok=True)

    def commit(self, block: Block, row: Mapping[str, Any]) -> None:
        """Says that a block is finished."""
        write_json(self.out / ROWS / f"{block.name}.json", {**row, "run": self._run})

    def rows(self, block: Block | None = None) -> list[dict[str, Any]]:
        """The rows of the finished blocks, in their order; of one block, where it is finished, if one is given.

        A row of another run is none: one that was overwritten may still have had a task that came late.
        """
        pattern = "block-*.json" if block is None else f"{block.name}.json"
        paths: list[Location] = sorted((self.out / ROWS).glob(pattern), key=str)
        try:
            rows = [json.loads(text) for text in read_texts(paths)]
        except ValueError:
            raise InputError(f"{self.out / ROWS} is damaged; start again with --if-exists overwrite") from None
        runs = [row.pop("run", "") for row in rows]
        return [row for row, run in zip(rows, runs, strict=True) if run == self._run or not self._run]

    def committed(self) -> set[str]:
        """The names of the blocks that have a row, without a look at the rows: cheap enough to ask often."""
        return {path.name.removesuffix(".json") for path in (self.out / ROWS).glob("block-*.json")}

    def report(self, table: str) -> None:
        """Writes the table of how long each block took."""
        write_text(self.out / REPORT, table)

    def succeed(self, manifest: Mapping[str, Any]) -> None:
        """Writes the manifest and, last of all, the success mark."""
        self.require_owner()
        write_json(self.out / MANIFEST, dict(manifest))
        run_lock.release(self.out, self._token)
        self._remove_temporary()  # what speculative attempts left behind when they were ended; now they begin no more
        write_text(self.out / SUCCESS, "")
