"""Where files lie: this machine's folders, and object stores (``s3://``).

The one module that knows of object stores. Outputs are :data:`Location`: a local ``Path``, or a ``UPath`` with the same
interface over a store (universal_pathlib, fsspec, s3fs). What is written appears whole or not at all: a local file by a
rename, an object by one upload, which stores show only when it is done. A store has no folders to make and no
temporary objects to clean up. Inputs are opened by htslib (:mod:`cnnspark.formats.htslib`).

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
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from cnnspark.errors import CnnsparkError, InputError, RunError, UsageError

if TYPE_CHECKING:
    from typing import TypeAlias

    from upath import UPath

    Location: TypeAlias = Path | UPath

# What htslib reads and nothing here writes.
_READ_ONLY = ("http", "https", "ftp", "s3+http", "s3+https")
# The Python package that fsspec needs for a store.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
# What is held of files that are read ahead, and how many requests are under way.
_AHEAD_BYTES, _AHEAD_AT_ONCE = 64 << 20, 8
# Parameters of a URL that are as good as a password.
_SECRET = re.compile(r"signature|sig|token|credential|secret|password|key|awsaccesskeyid", re.IGNORECASE)

_DIGEST_BYTES = 1 << 20


def scheme_of(path: str) -> str:
    """What stands before ``://``, in lower case; "" of a plain path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    return found[1].lower() if found else ""


def is_url(path: str) -> bool:
    """Whether the path is on no file system of this machine."""
    return scheme_of(path) not in ("", "file")


def absolute(path: str) -> str:
    """A local path made absolute, ``file://`` taken off; a URL as it is, ``s3a://`` as ``s3://``.

    Raises UsageError where a URL carries credentials: it would be written into manifests.
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
    """Where something is written, or a folder that cnnspark wrote is read: absolute, for any process.

    Raises UsageError where the URL is none that can be written, or the store's package is not installed.
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

        # Executors write what the driver lists, so that a listing must never come from memory.
        found = UPath(path, use_listings_cache=False) if scheme == "s3" else UPath(path)
        found.fs  # noqa: B018 - opens the store's package
    except ImportError:
        remedy = "pip install 'cnnspark[s3]'" if scheme == "s3" else f"pip install {package}"
        raise UsageError(f"{scheme}:// needs {package}; '{remedy}' on every machine") from None
    except ValueError as error:
        raise UsageError(f"{path} is no place to write to ({error}); give a path or s3://bucket/folder") from None
    return found


def store_identity(path: str) -> dict[str, object]:
    """Size and ETag of an object; empty where that cannot be known."""
    if scheme_of(path) != "s3":
        return {}
    try:
        facts = _store(location(path)).fs.info(_store(location(path)).path)
    except Exception:  # htslib reads by its own means, and says what is wrong with the file
        return {}
    return {"bytes": facts.get("size"), "etag": str(facts.get("ETag", "")).strip('"')}


def is_remote(path: Location) -> bool:
    """Whether a location lies on an object store."""
    return not isinstance(path, Path)


def _store(path: Location) -> UPath:
    return cast("UPath", path)


def has_files(folder: Location) -> bool:
    """Whether a folder is there and not empty."""
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
    """A folder or file for what is written to this machine's file systems alone. Raises UsageError for a URL."""
    if is_url(path):
        raise UsageError(f"{flag} {path} is a URL, this command writes local files only; give a path")
    return Path(absolute(path))


def make_parents(path: Location) -> None:
    """Makes a local file's folder; stores have none."""
    if not is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def make_folder(folder: Location, flag: str = "--out") -> None:
    """Makes a folder for what is to be written. Raises UsageError, naming the ``flag``, where it cannot be made or
    nothing can be written into it: before the work, not after."""
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
    """Checks before the work that ``folder``, which a run is yet to make, can be made and written."""
    make_folder(folder if is_remote(folder) else folder.parent, flag)


@contextmanager
def private_file(target: Location) -> Iterator[Path]:
    """A local file of this attempt's own, for :func:`commit`: two attempts of one task must not write into one file.

    Beside a local target, under a name that begins with a dot; else in a private folder under the temporary directory.
    It is gone afterwards.
    """
    if is_remote(target):
        with tempfile.TemporaryDirectory(prefix="cnnspark-", ignore_cleanup_errors=True) as folder:
            yield Path(folder) / target.name
        return
    # Containers share process numbers, so a number alone would not tell two attempts apart.
    own = f".{target.name}.{os.getpid()}-{time.monotonic_ns()}-{uuid.uuid4().hex[:8]}"
    temporary = Path(str(target.with_name(own + "".join(target.suffixes[-2:]))))
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def commit(temporary: Path, target: Location) -> None:
    """Gives a local file its place: by a rename, or by one upload to a store. Nobody sees a part of it."""
    if is_remote(target):
        _store(target).fs.put_file(str(temporary), _store(target).path)
        temporary.unlink()
    else:
        os.replace(temporary, str(target))


def write_text(target: Location, text: str) -> None:
    """Writes a small file so that a reader sees all of it or nothing."""
    if is_remote(target):
        _store(target).fs.pipe_file(_store(target).path, text.encode())
        return
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(str(temporary), str(target))
    finally:
        temporary.unlink(missing_ok=True)


def read_texts(paths: Sequence[Location]) -> list[str]:
    """The content of small files, in their order; from a store many at a time."""
    if paths and is_remote(paths[0]):
        names = [_store(path).path for path in paths]
        found = _store(paths[0]).fs.cat(names) if len(names) > 1 else {names[0]: paths[0].read_bytes()}
        return [found[name].decode() for name in names]
    return [path.read_text(encoding="utf-8") for path in paths]


def read_ahead(paths: Sequence[Location], sizes_bytes: Sequence[int]) -> Generator[BinaryIO, None, None]:
    """The files, opened, one after the other; a store's are fetched ahead, _AHEAD_BYTES of them at most.

    A store answers each request in its own good time: one after the other, a hundred thousand shards would take hours.
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
    """The size of a file in bytes, None where there is none."""
    try:
        return int(path.stat().st_size) if not path.is_dir() else None
    except FileNotFoundError:
        return None


def sizes(folder: Location, names: Sequence[str]) -> dict[str, int]:
    """The sizes of those of the files, named relative to the folder, that are there; of a store by one listing."""
    if is_remote(folder) and len(names) > 1:
        root = _store(folder).path.rstrip("/") + "/"
        found = _store(folder).fs.find(root, detail=True)
        there = {name.removeprefix(root): int(facts["size"] or 0) for name, facts in found.items()}
        return {name: there[name] for name in names if name in there}
    each = {name: size(folder / name) for name in names}
    return {name: found for name, found in each.items() if found is not None}


def remove(path: Location) -> None:
    """Removes a file, or a folder with everything in it, where it is there."""
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
    """A folder with the named files on this machine: itself, or a private copy of a store's that is gone afterwards.

    Files that are not there are left out.
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


def store_error(text: str, path: object = "the object store") -> CnnsparkError | None:
    """What a store's error, as text, means to the user; None where it is none. Nothing of the text is repeated."""
    if re.search(r"NoCredentialsError|PartialCredentialsError|Unable to locate credentials", text):
        return UsageError(
            f"there are no credentials for {path}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the driver and, "
            "as spark.executorEnv.*, for the executors, or give the machines a role"
        )
    if re.search(r"NoSuchBucket|[Tt]he specified bucket does not exist", text):
        return UsageError(f"{path} is in a bucket that does not exist; make it first, or check its name")
    refused = r"AccessDenied|Access Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken"
    if re.search(r"PermissionError|ClientError", text) and re.search(refused, text):
        return UsageError(f"the object store refuses access to {path}; check the credentials and what they may do")
    if re.search(r"EndpointConnectionError|ConnectTimeoutError|Could not connect to the endpoint", text):
        return RunError(
            f"the object store does not answer for {path}; check AWS_ENDPOINT_URL and the network, and run again with "
            "--if-exists resume"
        )
    return None


@contextmanager
def explained(path: object) -> Iterator[None]:
    """A store's errors as cnnspark's own, in one sentence."""
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
    """Writes a JSON file so that a reader sees all of it or nothing. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Location, what: str) -> Any:
    """Raises InputError where the file is missing or not JSON; ``what`` says whose it is."""
    try:
        with explained(path):
            return json.loads(path.read_text())
    except OSError:
        raise InputError(f"{path.parent} is not {what} (it has no {path.name}); check the path") from None
    except ValueError:
        raise InputError(f"{path} is damaged; make it again") from None


def file_identity(path: str) -> dict[str, Any]:
    """What a run remembers of an input to notice that it changed: name, size and time of change.

    Of an object of ``s3://`` that its ETag says, where s3fs is installed; of other URLs nothing but their name.
    """
    path = absolute(path)
    if is_url(path):
        return {"path": path, **store_identity(path)}
    status = os.stat(path)
    return {"path": path, "bytes": status.st_size, "changed": status.st_mtime_ns}


def file_digest(path: str) -> str:
    """SHA-256 of a local file of any size."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_DIGEST_BYTES):
            digest.update(part)
    return digest.hexdigest()
