"""Inputs on other machines: what htslib opens (``s3://``, ``http://``, ...), without what it leaves behind.

htslib downloads the index of a remote file into the working folder, and takes one of the same name that lies there for
another file's. Here indexes are fetched to a private place and handed to it.
"""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, TextIO, cast
from urllib.parse import quote, urlsplit

from cnnspark.common.storage import is_url, scheme_of
from cnnspark.errors import InputError

VCF_INDEXES, FASTA_INDEXES, FASTA_BLOCK_INDEXES = (".tbi", ".csi"), (".fai",), (".gzi",)
_COPY_BYTES = 1 << 20


def read_indexes(path: str) -> tuple[str, ...]:
    """Endings of the index of reads, in htslib's order. ``reads.bai`` beside ``reads.cram`` is that of another file."""
    kind = os.path.splitext(urlsplit(path).path)[1].lower()
    return {".cram": (".crai",), ".bam": (".csi", ".bai")}.get(kind, (".csi", ".bai", ".crai"))


@cache
def prepare_htslib() -> None:
    """Loads the system's libcurl and libcrypto, which htslib takes for URLs, so that they call their own functions.

    TensorFlow exports a curl and a crypto library of its own under the same names to the whole process: those that
    htslib loads after it would call TensorFlow's, and crash.
    """
    for names in (("libcurl.so.4",), ("libcrypto.so.4", "libcrypto.so.3", "libcrypto.so.1.1")):
        for name in names:
            try:
                ctypes.CDLL(name, mode=os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0))
            except OSError:
                continue
            break


def for_htslib(path: str) -> str:
    """The path as htslib opens it. ``s3://`` goes to AWS_ENDPOINT_URL where that is set, as everything else does."""
    if is_url(path):
        prepare_htslib()
    if scheme_of(path) != "s3":
        return path
    # A name that looks escaped, as those of odd samples' folders do, is taken as it is: so all names are escaped.
    key = quote(path[len("s3://") :])
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return f"s3://{key}"
    parts = urlsplit(endpoint)
    os.environ.setdefault("HTS_S3_HOST", parts.netloc)
    # A store of one's own seldom has a host name for each bucket.
    os.environ.setdefault("HTS_S3_ADDRESS_STYLE", "path")
    return f"s3+{parts.scheme}://{key}"


def open_input(path: str) -> BinaryIO:
    """An input's bytes, as they are. Raises OSError as ``open`` does."""
    if not is_url(path):
        return open(path, "rb")
    import pysam

    verbosity = pysam.set_verbosity(0)
    try:
        return cast(BinaryIO, pysam.HFile(for_htslib(path), "rb"))
    except OSError as error:
        raise type(error)(error.errno, "there is no such file, or no access to it") from None
    finally:
        pysam.set_verbosity(verbosity)


def input_bytes(path: str) -> int:
    """The size of an input. Raises OSError as ``open`` does."""
    with open_input(path) as source:
        return source.seek(0, os.SEEK_END)


@contextmanager
def open_lines(path: str) -> Iterator[TextIO]:
    """An input's lines, UTF-8. Raises OSError and UnicodeDecodeError."""
    if not is_url(path):
        with open(path, encoding="utf-8") as lines:
            yield lines
        return
    with open_input(path) as source:
        yield io.StringIO(source.read().decode("utf-8"))


def require_remote(path: str, what: str) -> None:
    """Raises InputError where a remote input cannot be opened."""
    try:
        open_input(path).close()
    except OSError:
        raise InputError(
            f"{what} {path} cannot be opened: there is no such file, it is empty, or there is no access "
            "to it; check the address and the credentials (docs/operations.md, 'Where the files must be')"
        ) from None


def is_seen(path: str) -> bool:
    """Whether this machine sees a local path, or can open a remote file. A remote folder is taken as seen."""
    if not is_url(path):
        return os.path.exists(path)
    if not os.path.splitext(urlsplit(path).path)[1]:
        return True
    try:
        open_input(path).close()
    except OSError:
        return False
    return True


def one_of_each_store(paths: Sequence[str]) -> list[str]:
    """The local paths, and of the remote files one for each store or server: what one of them needs all do."""
    remote: dict[tuple[str, str], str] = {}
    for path in paths:
        if is_url(path):
            remote.setdefault((scheme_of(path), urlsplit(path).netloc), path)
    return [*(path for path in paths if not is_url(path)), *remote.values()]


@contextmanager
def fetched_index(path: str, suffixes: Sequence[str], required: bool = True) -> Iterator[str | None]:
    """The index of a remote file as a private local file while the remote one is opened; None of a local file.

    htslib alone would leave the index in the working folder, and take one of the same name that it finds there for
    another file's. Raises InputError where the remote file has no index.
    """
    if not is_url(path):
        yield None
        return
    file, mark, query = path.partition("?")
    # Picard writes reads.bai beside reads.bam.
    stems = (file, os.path.splitext(file)[0])
    names = [f"{stem}{suffix}{mark}{query}" for suffix in suffixes for stem in stems]
    with tempfile.TemporaryDirectory(prefix="cnnspark-index-", ignore_cleanup_errors=True) as folder:
        for name in names:
            try:
                with open_input(name) as source:
                    content = source.read()
            except OSError:
                continue
            private = Path(folder) / os.path.basename(urlsplit(name).path)
            private.write_bytes(content)
            yield str(private)
            return
        if required:
            raise InputError(
                f"{path} has no index ({' or '.join(suffixes)}); make one with 'tabix', 'samtools index' or "
                "'samtools faidx' and put it beside"
            )
        yield None


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A remote input as a private local file while the work lasts; a local one as it is."""
    if not is_url(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cnnspark-") as folder, open_input(path) as source:
        private = Path(folder) / os.path.basename(urlsplit(path).path)
        with open(private, "wb") as copy:
            shutil.copyfileobj(source, copy, _COPY_BYTES)
        yield str(private)
