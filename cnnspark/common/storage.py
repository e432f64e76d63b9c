"""Files on this machine's folders and in object stores (``s3://``).

This is the one module that talks to object stores. Outputs are :data:`Location`: a local ``Path``, or a ``UPath`` with
the same interface over a store (universal_pathlib, fsspec, s3fs). What is written appears whole or not at all: a local
file by a rename, an object by one upload, which stores show only when it is done. A store has no folders to make and
no temporary objects to clean up. Inputs are opened by htslib (:mod:`cnnspark.formats.htslib`).

Settings and credentials come from the environment alone (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and the other
names of the AWS tools), never from a path: paths stand in manifests and messages.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from cnnspark.common.error_translation import store_error
from cnnspark.errors import CnnsparkError, InputError, UsageError

if TYPE_CHECKING:
    from typing import TypeAlias

    from upath import UPath

    Location: TypeAlias = Path | UPath

# Schemes that htslib reads and this module cannot write.
_READ_ONLY = ("http", "https", "ftp", "s3+http", "s3+https")
# The Python package that fsspec needs for a store.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
# How much is held of files that are read ahead, and how many requests run at once.
_AHEAD_BYTES, _AHEAD_AT_ONCE = 64 << 20, 8
# Parameters of a URL that grant access, like a password.
_SECRET = re.compile(r"signature|sig|token|credential|secret|password|key|awsaccesskeyid", re.IGNORECASE)
_DIGEST_BYTES = 1 << 20  # read at once


def scheme_of(path: str) -> str:
    """The part before ``://``, in lower case; "" for a plain path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    return found[1].lower() if found else ""


def is_url(path: str) -> bool:
    """Whether the path is a URL other than ``file://``."""
    return scheme_of(path) not in ("", "file")


def absolute(path: str) -> str:
    """The path as any process can use it: a local one absolute and without ``file://``, ``s3a://`` as ``s3://``.

    Raises:
        UsageError: if a URL carries credentials (manifests would show them), or ``file://`` names another machine.
    """
    scheme = scheme_of(path)
    if not scheme:
        return os.path.abspath(path)
    parts = urlsplit(path)
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"{path} names a machine; write file:/// and an absolute path")
        return os.path.abspath(unquote(parts.path))
    secret = "@" in parts.netloc or any(_SECRET.search(name) for name, _ in parse_qsl(parts.query))
    if secret or (scheme.startswith("s3") and ":" in parts.netloc):
        host = parts.netloc.rsplit("@", 1)[-1].split(":")[0]
        raise UsageError(
            f"the URL {scheme}://{host}{parts.path} carries credentials, which manifests would show; give them by "
            "environment (AWS_ACCESS_KEY_ID) or a profile"
        )
    if scheme in ("s3a", "s3n"):  # Hadoop's names
        return f"s3{path[len(scheme) :]}"
    return path


def location(path: str | Path | UPath) -> Location:
    """The place of an output, or of a folder that cnnspark wrote: absolute, usable in any process.

    Raises:
        UsageError: if a URL cannot be written to or carries credentials, or the store's package is not installed.
    """
    if not isinstance(path, str):
        return path.absolute()
    path = absolute(path)
    if not is_url(path):
        return Path(path)
    scheme = scheme_of(path)
    if scheme in _READ_ONLY:
        raise UsageError(
            f"{path} can only be read; give a path, or s3:// (with AWS_ENDPOINT_URL, if it is not Amazon's)"
        )
    package = _PACKAGES.get(scheme, f"the fsspec package of {scheme}://")
    try:
        from upath import UPath

        # The driver lists what executors write, so a listing must never come from a cache.
        found = UPath(path, use_listings_cache=False) if scheme == "s3" else UPath(path)
        found.fs  # noqa: B018 - opens the store's package
    except ImportError:
        remedy = "pip install 'cnnspark[s3]'" if scheme == "s3" else f"pip install {package}"
        raise UsageError(f"{scheme}:// needs {package}; '{remedy}' on every machine") from None
    except ValueError as error:
        raise UsageError(f"{path} cannot be written to ({error}); give a path or s3://bucket/folder") from None
    return found


def is_remote(path: Location) -> bool:
    """Whether a location is in an object store."""
    return not isinstance(path, Path)


def _store(path: Location) -> UPath:
    return cast("UPath", path)


def has_files(folder: Location) -> bool:
    """Whether a folder exists and is not empty."""
    with explained(folder):
        return folder.exists() and any(folder.iterdir())


def require_free(
    path: str | Location,
    exist_ok: bool,
    flag: str = "--out",
    choices: str = "overwrite",
    empty_ok: bool = False,
    note: str = "",
) -> None:
    """Refuses an output that exists already, before any work, unless the user said what to do with it.

    Args:
        path: the output, spelled as the message shall show it.
        exist_ok: whether the user chose something else than ``--if-exists fail``.
        flag: the option that names the output.
        choices: what else the command's ``--if-exists`` takes: ``overwrite``, or ``resume or overwrite``.
        empty_ok: whether an empty folder counts as free.
        note: what the message says of an output that exists, after a comma of its own.

    Raises:
        UsageError: if the output exists and must not.
    """
    if exist_ok:
        return
    place = location(path)
    with explained(path):
        free = not place.exists() or (empty_ok and place.is_dir() and not any(place.iterdir()))
    if not free:
        raise UsageError(f"{path} exists{note}; choose another {flag}, or --if-exists {choices}")


def local_folder(path: str, flag: str = "--out") -> Path:
    """The absolute path of an output that can only be written to this machine's file systems.

    Raises:
        UsageError: if ``path`` is a URL; ``flag`` is the option that named it.
    """
    if is_url(path):
        raise UsageError(f"{flag} {path} is a URL, this command writes local files only; give a path")
    return Path(absolute(path))


def make_parents(path: Location) -> None:
    """Makes the folder of a local file; in a store there is nothing to make."""
    if not is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def make_folder(folder: Location, flag: str = "--out") -> None:
    """Makes a folder for an output, and tries to write into it: better to fail before the work than after it.

    Raises:
        UsageError: if the folder cannot be made or written; ``flag`` is the option that named it.
    """
    with explained(folder):
        if is_remote(folder):
            probe = folder / f".cnnspark-{uuid.uuid4().hex}"
            write_text(probe, "")
            probe.unlink()
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=str(folder)):
                pass
        except OSError as error:
            raise UsageError(f"{folder} cannot be written ({error.strerror}); choose another {flag}") from None


def make_room(folder: Location, flag: str = "--out") -> None:
    """Checks before the work that a run will be able to make and write ``folder``.

    Raises:
        UsageError: if the folder around it cannot be made or written; ``flag`` is the option that named it.
    """
    make_folder(folder if is_remote(folder) else folder.parent, flag)


def short_name(name: str) -> str:
    """A file's name, or one of at most 160 bytes that stands for it: private files add to it, and 255 are allowed."""
    content = name.encode("utf-8", "surrogateescape")
    if len(content) <= 160:
        return name
    return f"{content[:120].decode('utf-8', 'ignore')}~{hashlib.sha256(content).hexdigest()[:32]}"


@contextmanager
def private_file(target: Location) -> Iterator[Path]:
    """The path of a local file that only this attempt writes, for :func:`commit`; it is removed afterwards.

    Spark may run two attempts of one task at once, which must not write into the same file. For a local target the file
    is beside it, under a name that begins with a dot; for an object it is in a private temporary folder.
    """
    if is_remote(target):
        with tempfile.TemporaryDirectory(prefix="cnnspark-", ignore_cleanup_errors=True) as folder:
            yield Path(folder) / target.name
        return
    # Containers share process numbers, so a number alone would not tell two attempts apart.
    own = f".{short_name(target.name)}.{os.getpid()}-{time.monotonic_ns()}-{uuid.uuid4().hex[:8]}"
    suffix = "".join(target.suffixes[-2:])
    temporary = Path(str(target.with_name(own + (suffix if len(suffix) < 20 else ""))))
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def commit(temporary: Path, target: Location) -> None:
    """Moves a local file to its target, by a rename or by one upload; nobody ever sees a part of it."""
    if is_remote(target):
        _store(target).fs.put_file(str(temporary), _store(target).path)
        temporary.unlink()
    else:
        os.replace(temporary, str(target))


def write_text(target: Location, text: str) -> None:
    """Writes a small file (UTF-8) so that a reader sees all of it or nothing."""
    if is_remote(target):
        _store(target).fs.pipe_file(_store(target).path, text.encode())
        return
    temporary = target.with_name(f".{short_name(target.name)}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(str(temporary), str(target))
    finally:
        temporary.unlink(missing_ok=True)


def read_texts(paths: Sequence[Location]) -> list[str]:
    """The content of small files, in the order of ``paths``; a store is asked for many at a time.

    Bytes that are not UTF-8 are replaced: the file is damaged, which its reader will see.
    """
    if paths and is_remote(paths[0]):
        names = [_store(path).path for path in paths]
        found = _store(paths[0]).fs.cat(names) if len(names) > 1 else {names[0]: paths[0].read_bytes()}
        return [found[name].decode("utf-8", "replace") for name in names]
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]


def read_ahead(paths: Sequence[Location], sizes_bytes: Sequence[int]) -> Generator[BinaryIO, None, None]:
    """Opens files one after the other; those of a store are fetched ahead.

    Each request to an object store has a high latency: fetched one by one, 100,000 shards would take hours. At most
    _AHEAD_BYTES are held, and always one file.

    Args:
        paths: the files, all local or all in one store.
        sizes_bytes: the size of each.

    Yields:
        Each file, opened for reading, in the order of ``paths``.
    """
    if not paths or not is_remote(paths[0]):
        for path in paths:
            yield path.open("rb")
        return
    waiting: deque[tuple[Future[bytes], int]] = deque()
    todo, held_bytes = deque(zip(paths, sizes_bytes, strict=True)), 0
    with ThreadPoolExecutor(_AHEAD_AT_ONCE) as pool:
        while todo or waiting:
            while todo and len(waiting) < 2 * _AHEAD_AT_ONCE:
                if waiting and held_bytes + todo[0][1] > _AHEAD_BYTES:
                    break
                path, size_bytes = todo.popleft()
                waiting.append((pool.submit(path.read_bytes), size_bytes))
                held_bytes += size_bytes
            fetched_file, size_bytes = waiting.popleft()
            yield io.BytesIO(fetched_file.result())
            held_bytes -= size_bytes


def size(path: Location) -> int | None:
    """The size of a file in bytes; None if there is no such file."""
    try:
        return int(path.stat().st_size) if not path.is_dir() else None
    except FileNotFoundError:
        return None


def sizes(folder: Location, names: Sequence[str]) -> dict[str, int]:
    """The sizes in bytes of those files of a folder that exist; a store is listed once.

    Args:
        folder: where the files are.
        names: their names, relative to the folder.

    Returns:
        Size by name, without the files that are missing.
    """
    if is_remote(folder) and len(names) > 1:
        root = _store(folder).path.rstrip("/") + "/"
        found = _store(folder).fs.find(root, detail=True)
        there = {name.removeprefix(root): int(facts["size"] or 0) for name, facts in found.items()}
        return {name: there[name] for name in names if name in there}
    each = {name: size(folder / name) for name in names}
    return {name: found for name, found in each.items() if found is not None}


def remove(path: Location) -> None:
    """Removes a file, or a folder with everything in it, if it exists."""
    if is_remote(path):
        store = _store(path)
        if store.exists():
            store.fs.rm(store.path, recursive=True)
    elif path.is_dir():
        shutil.rmtree(str(path))
    else:
        path.unlink(missing_ok=True)


@contextmanager
def fetched(folder: Location, names: Sequence[str]) -> Iterator[Path]:
    """A local folder with the named files: ``folder`` itself, or a copy of a store's files that is removed afterwards.

    Files that do not exist are left out of the copy.
    """
    if not is_remote(folder):
        yield Path(str(folder))
        return
    with tempfile.TemporaryDirectory(prefix="cnnspark-") as private:
        with explained(folder):
            for name in names:
                if (folder / name).exists():
                    _store(folder).fs.get_file(_store(folder / name).path, str(Path(private) / name))
        yield Path(private)


@contextmanager
def explained(path: object) -> Iterator[None]:
    """Turns a store's failures within into errors of cnnspark's own; other exceptions pass through unchanged.

    Raises:
        UsageError: if there are no credentials, no such bucket, or no access to ``path``.
        RunError: if the store does not answer.
    """
    try:
        yield
    except CnnsparkError:
        raise
    except Exception as error:
        found = store_error(f"{type(error).__name__}: {error}", path)
        if found is None:
            raise
        raise found from None


def write_json(path: Location, value: Any) -> None:
    """Writes a JSON file so that a reader sees all of it or nothing.

    Raises:
        ValueError: if ``value`` holds a NaN, which is not JSON.
    """
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Location, what: str, keys: Mapping[str, type] | None = None) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: the file.
        what: what its folder should be, for the message: "a run".
        keys: names that the object must have, with the types of their values.

    Raises:
        InputError: if the file is missing, not JSON, or not such an object.
    """
    try:
        with explained(path):
            values = json.loads(path.read_text())
    except OSError:
        raise InputError(f"{path.parent} is not {what} (it has no {path.name}); check the path") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged; make it again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged: it holds no object; make it again")
    for name, kind in (keys or {}).items():
        if not isinstance(values.get(name), kind):
            raise InputError(f"{path} is damaged: '{name}' is missing or not what it should be; make it again")
    return values


def file_identity(path: str) -> dict[str, Any]:
    """What a run remembers of an input, to notice that it changed.

    Returns:
        The path, and of a local file its size and its time of change, of an object in ``s3://`` its size and ETag (if
        s3fs is installed). Of other URLs only the path is known.
    """
    path = absolute(path)
    if is_url(path):
        return {"path": path, **store_identity(path)}
    status = os.stat(path)
    return {"path": path, "bytes": status.st_size, "changed": status.st_mtime_ns}


def store_identity(path: str) -> dict[str, object]:
    """Size and ETag of an object in an ``s3://`` store; empty if they cannot be found out."""
    if scheme_of(path) != "s3":
        return {}
    try:
        facts = _store(location(path)).fs.info(_store(location(path)).path)
    except Exception:  # htslib has its own access to the file, and reports what is wrong with it
        return {}
    return {"bytes": facts.get("size"), "etag": str(facts.get("ETag", "")).strip('"')}


def file_digest(path: str) -> str:
    """The SHA-256 of a local file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_DIGEST_BYTES):
            digest.update(part)
    return digest.hexdigest()
