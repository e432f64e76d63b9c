"""Opens inputs as htslib does, local or remote (``s3://``, ``http://``, ...), without what it leaves behind.

Left to itself, htslib downloads the index of a remote file into the working folder, and mistakes an index of the same
name that is there already for the file's own. So indexes are fetched to a private folder and handed to htslib.
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
    """The suffixes of the index of these reads, in htslib's order.

    They depend on the file's own suffix: ``reads.bai`` beside ``reads.cram`` is the index of another file.
    """
    kind = os.path.splitext(urlsplit(path).path)[1].lower()
    return {".cram": (".crai",), ".bam": (".csi", ".bai")}.get(kind, (".csi", ".bai", ".crai"))


@cache
def prepare_htslib() -> None:
    """Loads the system's libcurl and libcrypto, which htslib uses for URLs, so that they call their own functions.

    TensorFlow exports its own curl and crypto libraries under the same names to the whole process. Libraries that
    htslib loads after it would call TensorFlow's functions and crash.
    """
    for names in (("libcurl.so.4",), ("libcrypto.so.4", "libcrypto.so.3", "libcrypto.so.1.1")):
        for name in names:
            try:
                ctypes.CDLL(name, mode=os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0))
            except OSError:
                continue
            break


def for_htslib(path: str) -> str:
    """The path as htslib opens it; ``s3://`` goes to AWS_ENDPOINT_URL if that is set, as all other requests do."""
    if is_url(path):
        prepare_htslib()
    if scheme_of(path) != "s3":
        return path
    # htslib takes a name that looks escaped as it is (folders of odd samples have such names), so all are escaped.
    key = quote(path[len("s3://") :])
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return f"s3://{key}"
    parts = urlsplit(endpoint)
    os.environ.setdefault("HTS_S3_HOST", parts.netloc)
    # A store that is not Amazon's seldom has a host name for each bucket.
    os.environ.setdefault("HTS_S3_ADDRESS_STYLE", "path")
    return f"s3+{parts.scheme}://{key}"


def open_input(path: str) -> BinaryIO:
    """Opens an input, a path or a URL, for reading its bytes.

    Raises:
        OSError: if it cannot be opened, as ``open`` does.
    """
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
    """The size of an input, a path or a URL, in bytes.

    Raises:
        OSError: if it cannot be opened, as ``open`` does.
    """
    with open_input(path) as source:
        return source.seek(0, os.SEEK_END)


@contextmanager
def open_lines(path: str) -> Iterator[TextIO]:
    """Opens a text input, a path or a URL, to read its lines as UTF-8, without the byte-order mark that Excel writes.

    Raises:
        OSError: if it cannot be opened, as ``open`` does.
        UnicodeDecodeError: while it is read, or on opening a URL, if it is not text.
    """
    if not is_url(path):
        with open(path, encoding="utf-8-sig") as lines:
            yield lines
        return
    with open_input(path) as source:
        yield io.StringIO(source.read().decode("utf-8-sig"))


def require_remote(path: str, what: str) -> None:
    """Checks that a remote input can be opened.

    Raises:
        InputError: if it cannot; ``what`` says what the input is.
    """
    try:
        open_input(path).close()
    except OSError:
        raise InputError(
            f"{what} {path} cannot be opened: there is no such file, it is empty, or there is no access "
            "to it; check the address and the credentials (docs/operations.md, 'Where the files must be')"
        ) from None


def is_seen(path: str) -> bool:
    """Whether a local path exists on this machine, or a remote file can be opened; a remote folder always counts."""
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
    """The local paths, and one remote file of each store or server: if one can be opened, all can."""
    remote: dict[tuple[str, str], str] = {}
    for path in paths:
        if is_url(path):
            remote.setdefault((scheme_of(path), urlsplit(path).netloc), path)
    return [*(path for path in paths if not is_url(path)), *remote.values()]


@contextmanager
def fetched_index(path: str, suffixes: Sequence[str], required: bool = True) -> Iterator[str | None]:
    """Fetches the index of a remote file for as long as the context lasts.

    Args:
        path: the indexed file, a path or a URL.
        suffixes: of the index, the likeliest first.
        required: whether a remote file must have an index.

    Yields:
        The path of a private local copy of the index; None for a local file, and if no index is there or needed.

    Raises:
        InputError: if a remote file has no index and must have one.
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
                "'samtools faidx' and put it beside the file"
            )
        yield None


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A local path to an input: of a remote one a private copy, for as long as the context lasts.

    Raises:
        OSError: if a remote input cannot be opened.
    """
    if not is_url(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cnnspark-") as folder, open_input(path) as source:
        private = Path(folder) / os.path.basename(urlsplit(path).path)
        with open(private, "wb") as copy:
            shutil.copyfileobj(source, copy, _COPY_BYTES)
        yield str(private)
