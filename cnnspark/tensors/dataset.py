"""The tensor dataset: Parquet written under Petastorm's ``materialize_dataset``, and read without its pickled metadata.

The only module that knows Petastorm. A dataset's folder::

    data/_common_metadata                   Petastorm's schema and row groups per file
    data/block=000012/tensors.parquet       one file per block, so that whole blocks can be held out
    dataset.json                            the card: named lists, counts, row groups; every pass is checked against it

Per-read arrays have a variable number of rows, so they are stored as bytes with the number of rows beside them.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cnnspark.common.stopwatch import report
from cnnspark.common.storage import (
    commit,
    explained,
    is_remote,
    location,
    make_parents,
    private_file,
    read_json,
    sizes,
    write_json,
)
from cnnspark.errors import InputError, RunError
from cnnspark.execution.blocks import Block
from cnnspark.execution.run_folder import RunFolder
from cnnspark.execution.session import described
from cnnspark.tensors.batches import example_key
from cnnspark.tensors.dataset_card import content_digest, file_sha256, summarise_columns
from cnnspark.tensors.row_groups import opened_parquet, order_of_pass, read_row_group
from cnnspark.tensors.schema import FIELD, FIELDS, AlleleKey, TensorBatch

if TYPE_CHECKING:
    from petastorm.unischema import Unischema
    from pyspark.sql import SparkSession

    from cnnspark.common.storage import Location

CARD, DATA = "dataset.json", "data"
FORMAT_VERSION = 1
# About half a megabyte of tensors at 30x. Training deals whole row groups to its streams, so they are many and even.
ROW_GROUP_ROWS = 64
# Files that a shuffled pass holds open.
_OPEN_FILES = 64
_MATERIALIZING = threading.Lock()
_BYTES_FIELDS = tuple(field for field in FIELDS if field.name not in ("annotations", "site_features"))
_KEY_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("sample", pa.string()),
    ("contig", pa.string()),
    ("start", pa.int64()),
    ("ref", pa.string()),
    ("alt", pa.string()),
    ("alt_index", pa.int32()),
    ("record_index", pa.int64()),
    ("variant_type", pa.int32()),
    ("label", pa.int32()),
    ("weight", pa.float32()),
    ("row_count", pa.int32()),
)


def arrow_schema() -> pa.Schema:
    """The columns of a dataset's files: the key, then the schema's fields."""
    columns = [pa.field(name, kind, nullable=False) for name, kind in _KEY_COLUMNS]
    columns += [pa.field(field.name, pa.binary(), nullable=False) for field in _BYTES_FIELDS]
    columns += [pa.field(name, pa.list_(pa.float32()), nullable=False) for name in ("annotations", "site_features")]
    return pa.schema(columns)


def petastorm_schema(annotations: int, features: int) -> Unischema:
    """The same columns as Petastorm's schema."""
    from petastorm.codecs import ScalarCodec
    from petastorm.unischema import Unischema, UnischemaField
    from pyspark.sql.types import BinaryType, FloatType, IntegerType, LongType, StringType

    kinds = {
        pa.string(): (np.str_, StringType()),
        pa.int64(): (np.int64, LongType()),
        pa.int32(): (np.int32, IntegerType()),
        pa.float32(): (np.float32, FloatType()),
    }
    fields = [UnischemaField(n, kinds[k][0], (), ScalarCodec(kinds[k][1]), False) for n, k in _KEY_COLUMNS]
    fields += [UnischemaField(f.name, np.bytes_, (), ScalarCodec(BinaryType()), False) for f in _BYTES_FIELDS]
    fields += [
        UnischemaField("annotations", np.float32, (annotations,), None, False),
        UnischemaField("site_features", np.float32, (features,), None, False),
    ]
    return Unischema("CnnsparkTensors", fields)


def dataset_folder(out: str) -> RunFolder:
    """The run folder of a tensor dataset."""
    return RunFolder(out, "tensors", (DATA, CARD))


def block_file(folder: RunFolder, block: int) -> Location:
    """The file of one block's tensors."""
    return folder.out / file_name(block)


def file_name(block: int) -> str:
    """The file of one block's tensors, relative to the dataset's folder."""
    return f"{DATA}/block={block:06d}/tensors.parquet"


def finished_rows(folder: RunFolder, block: Block | None = None) -> list[dict[str, Any]]:
    """The rows of finished blocks (or of one) whose file is there with the stated size."""
    rows = folder.rows(block)
    there = sizes(folder.out, [file_name(row["block"]) for row in rows if row["tensors"]])
    return [row for row in rows if not row["tensors"] or there.get(file_name(row["block"])) == row["bytes"]]


def write_block(
    folder: RunFolder, block: Block, tensors: TensorBatch, labels: np.ndarray, sample: str, counts: Mapping[str, int]
) -> dict[str, Any]:
    """Writes one block's file and commits its row.

    Args:
        folder: the dataset's.
        block: the block.
        tensors: n of them.
        labels: int (n,), one per tensor: 1 true, 0 false, -1 unknown.
        sample: its name, a column of the file.
        counts: why alleles were left out, for the row.
    """
    folder.require_owner()
    keys = tensors.keys
    columns: dict[str, Any] = {
        "sample": [sample] * len(keys),
        "contig": [key.contig for key in keys],
        "start": [key.start for key in keys],
        "ref": [key.ref for key in keys],
        "alt": [key.alt for key in keys],
        "alt_index": [key.alt_index for key in keys],
        "record_index": [key.record_index for key in keys],
        "variant_type": [int(key.variant_type) for key in keys],
        "label": labels.astype(np.int32),
        "weight": np.ones(len(keys), np.float32),
        "row_count": np.diff(tensors.row_offsets).astype(np.int32),
    }
    for field in _BYTES_FIELDS:
        values: np.ndarray = np.ascontiguousarray(
            getattr(tensors, field.name), dtype=np.dtype(field.dtype).newbyteorder("<")
        )
        rows = [tensors.rows(i) if field.per_read else slice(i, i + 1) for i in range(len(keys))]
        columns[field.name] = [values[row].tobytes() for row in rows]
    for name in ("annotations", "site_features"):
        columns[name] = list(getattr(tensors, name).astype(np.float32))
    table = pa.table(columns, schema=arrow_schema())
    row_groups: list[int] = []
    digest, size_bytes = "", 0
    target = block_file(folder, block.index)
    if len(keys):
        make_parents(target)
        # Of one size, as nearly as may be: training draws as often from each row group.
        group_rows = -(-len(keys) // -(-len(keys) // ROW_GROUP_ROWS))
        with private_file(target) as temporary:
            # Dictionaries and statistics of bytes columns cost time and space and help nobody.
            pq.write_table(
                table, temporary, row_group_size=group_rows, compression="zstd", use_dictionary=False,
                write_statistics=False,
            )  # fmt: skip
            folder.require_owner()
            digest, size_bytes = file_sha256(temporary), temporary.stat().st_size
            commit(temporary, target)
        row_groups = [min(group_rows, len(keys) - first) for first in range(0, len(keys), group_rows)]
    runtime = report()
    row = {
        "block": block.index,
        "contig": block.region.contig,
        "first_start": block.first_start,
        "last_start": block.last_start,
        "records": block.records,
        "tensors": len(keys),
        "row_groups": row_groups,
        "bytes": size_bytes,
        "sha256": digest,
        "labels": {str(label): int((labels == label).sum()) for label in (-1, 0, 1)},
        "counts": dict(sorted(counts.items())),
        "seconds": runtime.get("seconds"),
        "runtime": runtime,
    }
    folder.commit(block, row)
    return row


@contextlib.contextmanager
def materialize(spark: SparkSession, folder: RunFolder, annotations: int, features: int) -> Iterator[None]:
    """Petastorm's frame around the writing: its metadata is made from the files when the block ends."""
    from petastorm.etl.dataset_metadata import materialize_dataset

    data = folder.out / DATA
    make_parents(data / CARD)
    store = (lambda: _store_for_petastorm(data)) if is_remote(data) else None
    schema = petastorm_schema(annotations, features)
    frame = materialize_dataset(spark, _petastorm_url(data), schema, filesystem_factory=store)
    with contextlib.ExitStack() as stack:
        # All of the process is quiet meanwhile, so that several datasets at a time must take turns.
        with _MATERIALIZING, _quiet():
            stack.enter_context(frame)
        yield
        if not any(data.glob("block=*/*.parquet")):
            raise InputError("no tensor was written; check the regions, the truth and the confident BED")
        with _MATERIALIZING, _quiet():
            stack.close()


def _petastorm_url(data: Location) -> str:
    """The folder as Petastorm takes it: it cuts the scheme off and unescapes nothing."""
    return str(data) if is_remote(data) else f"file://{data}"


def _store_for_petastorm(data: Location) -> Any:
    """An object store as the kind of file system that Petastorm's calls of pyarrow need; None for local folders.

    Petastorm hands pyarrow arguments that only its older interface knows, and pyarrow takes that one for file systems
    of its older kind alone, of which it has none for stores. The folder is listed once: the older interface would ask
    for each block's folder anew.
    """
    if not is_remote(data):
        return None
    import pyarrow.filesystem

    store = data.fs  # type: ignore[union-attr]

    class Store(pyarrow.filesystem.DaskFileSystem):
        def __init__(self) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                super().__init__(store)
            self._folders: dict[str, tuple[list[str], list[str]]] = {}

        def isdir(self, path: str) -> bool:
            return self.fs.isdir(path)

        def isfile(self, path: str) -> bool:
            return self.fs.isfile(path)

        def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
            path = path.rstrip("/")
            if path not in self._folders:
                self._folders |= {name: (folders, files) for name, folders, files in _walk(self.fs.find(path), path)}
            folders, files = self._folders.get(path, ([], []))
            yield path, folders, files

    return Store()


def _walk(files: Iterable[str], top: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """What ``os.walk`` gives of the folder ``top``, from the paths of all files in it."""
    within: dict[str, tuple[set[str], list[str]]] = {top: (set(), [])}
    for path in sorted(files):
        folder, _, name = path.rpartition("/")
        within.setdefault(folder, (set(), []))[1].append(name)
        while folder != top:
            parent, _, name = folder.rpartition("/")
            within.setdefault(parent, (set(), []))[0].add(name)
            folder = parent
    for folder, (folders, names) in within.items():
        yield folder, sorted(folders), names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Petastorm warns of pyarrow's legacy API on each use, and prints when a reader closes."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def write_card(
    spark: SparkSession,
    folder: RunFolder,
    annotations: Sequence[str],
    features: Sequence[str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Adds up the blocks' rows, summarises the columns and writes the dataset's card."""
    blocks = folder.rows()
    files = [str(block_file(folder, row["block"])) for row in blocks if row["tensors"]]
    tensors = sum(row["tensors"] for row in blocks)
    with described(spark, "summarise columns"):
        columns = summarise_columns(spark, files, tensors, [*annotations, *features])
    labels: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for row in blocks:
        labels.update(row["labels"])
        counts.update(row["counts"])
    card = {
        "format": FORMAT_VERSION,
        "annotations": list(annotations),
        "site_features": list(features),
        "tensors": tensors,
        "sha256": content_digest(blocks),
        "columns": columns,
        "bytes": sum(row["bytes"] for row in blocks),
        "labels": {"true": labels["1"], "false": labels["0"], "unknown": labels["-1"]},
        "counts": dict(sorted(counts.items())),
        "blocks": [{k: v for k, v in row.items() if k not in ("seconds", "counts", "runtime")} for row in blocks],
        **facts,
    }
    write_json(folder.out / CARD, card)
    return card


class Dataset:
    """A finished dataset: its card, and passes over its blocks."""

    def __init__(self, path: str):
        """Raises InputError where the folder is not a finished dataset."""
        self.path = location(path)
        with explained(path):
            if not self.path.is_dir():
                raise InputError(f"{path} is not a folder; give the --out of 'cnnspark tensors'")
        self.card = read_json(self.path / CARD, "a finished tensor dataset")
        if self.card.get("format") != FORMAT_VERSION:
            raise InputError(f"{path} has format {self.card.get('format')}, not {FORMAT_VERSION}; build it again")
        try:
            self.annotation_names: tuple[str, ...] = tuple(self.card["annotations"])
            self.feature_names: tuple[str, ...] = tuple(self.card["site_features"])
            self.blocks: list[dict[str, Any]] = [block for block in self.card["blocks"] if block["tensors"]]
        except (KeyError, TypeError):
            raise InputError(f"{self.path / CARD} is damaged; build the dataset again") from None

    def row_groups(self, blocks: Sequence[int]) -> list[int]:
        """Rows of each row group of the blocks, in the order in which Petastorm numbers them."""
        # Petastorm sorts the files by path; the block's number in it is padded, so that is the blocks' own order.
        wanted = set(blocks)
        chosen = [block for block in self.blocks if block["block"] in wanted]
        return [rows for block in chosen for rows in block["row_groups"]]

    def read(
        self,
        blocks: Sequence[int],
        columns: Sequence[str] | None = None,
        seed: int | None = None,
        shard: int = 0,
        shards: int = 1,
    ) -> Iterator[dict[str, np.ndarray]]:
        """One pass over the blocks' row groups, each as a dict of columns.

        pyarrow reads them: Petastorm's reader unpickles ``_common_metadata``, which would run what a stranger wrote
        there. The order is that of Petastorm's reader.

        Args:
            blocks: numbers of the blocks.
            columns: those that are read; all if None.
            seed: permutes the row groups; None leaves them in the files' order.
            shard: which row groups: those whose number modulo ``shards`` is this.
            shards: how many share the pass.

        Yields:
            Arrays by column, (rows of the row group, ...).

        Raises:
            RunError: if a file has other rows than the card promises.
            InputError: if a file is missing or damaged.
        """
        wanted = set(blocks)
        per_file = {block["block"]: len(block["row_groups"]) for block in self.blocks}
        groups = [
            (block["block"], number, rows)
            for block in self.blocks
            if block["block"] in wanted
            for number, rows in enumerate(block["row_groups"])
        ]
        order = order_of_pass(len(groups), seed, shard, shards)
        with contextlib.ExitStack() as opened:
            files: dict[int, pq.ParquetFile] = {}
            for block, number, rows in (groups[i] for i in order):
                if block not in files:
                    if len(files) >= _OPEN_FILES:
                        files.pop(next(iter(files)))
                    files[block] = opened.enter_context(opened_parquet(self.path / file_name(block)))
                whole = files[block].num_row_groups == per_file[block]
                path = self.path / file_name(block)
                values = read_row_group(files[block], path, number, columns) if whole else {}
                if not values or len(next(iter(values.values()))) != rows:
                    raise RunError(
                        f"{self.path} has other rows in {file_name(block)} than its card says; build the dataset again"
                    )
                yield values

    def tensors(self, blocks: Sequence[int]) -> Iterator[tuple[TensorBatch, dict[str, np.ndarray]]]:
        """One pass in the files' order as tensors, with the key columns beside them."""
        for values in self.read(blocks):
            yield decode(values), values


def training_columns(fields: Iterable[str] | None) -> list[str] | None:
    """The columns that training reads for a network of these inputs: names of the schema's fields, others ignored.

    None stands for all.
    """
    if fields is None:
        return None
    fields = set(fields)
    wanted = {field.name for field in FIELDS} & fields
    if any(FIELD[name].per_read for name in wanted) or "row_count" in fields:
        wanted.add("row_count")
    # What the weights, the noise and the figures by type need, whatever the network looks at.
    wanted |= {"contig", "start", "ref", "alt", "variant_type", "label", "weight"}
    return [name for name in arrow_schema().names if name in wanted]


def decode(values: Mapping[str, np.ndarray], with_keys: bool = True) -> TensorBatch:
    """Tensors from a row group's columns.

    A field whose column was not read has no width, (rows or n, 0), and without ``row_count`` no allele has rows.
    ``keys`` is left empty where the key columns were not read, or are not wanted.
    """
    n = len(next(iter(values.values())))
    counts = values["row_count"].astype(np.int64) if "row_count" in values else np.zeros(n, np.int64)
    arrays: dict[str, np.ndarray] = {}
    for field in FIELDS:
        if field.name not in values:
            arrays[field.name] = np.zeros((counts.sum() if field.per_read else n, 0), field.dtype)
        elif field in _BYTES_FIELDS:
            flat: np.ndarray = np.frombuffer(
                b"".join(values[field.name]), dtype=np.dtype(field.dtype).newbyteorder("<")
            )
            shape = [size for size in field.shape if size != "R"]
            arrays[field.name] = flat.reshape(-1, *shape).astype(field.dtype, copy=False)  # (rows or n, ...)
        else:
            arrays[field.name] = np.stack(list(values[field.name])).astype(np.float32, copy=False)  # (n, A) or (n, F)
    keys = []
    if with_keys and "ref" in values:
        columns = ("contig", "start", "ref", "alt", "alt_index", "record_index", "variant_type")
        keys = [AlleleKey(*row) for row in zip(*(values[name].tolist() for name in columns), strict=True)]
    return TensorBatch(keys=keys, row_offsets=np.concatenate([[0], np.cumsum(counts)]), **arrays)


def example_keys(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """int32 (n,): :func:`cnnspark.tensors.batches.example_key` of each row."""
    columns = zip(values["contig"], values["start"], values["ref"], values["alt"], strict=True)
    return np.array([example_key(c, int(s), r, a) for c, s, r, a in columns], dtype=np.int32)
