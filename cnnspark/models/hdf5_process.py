"""HDF5 files of strangers: read in a process of its own, with limits, without links and foreign filters.

The HDF5 library may crash on a damaged file or never return (both happened among some thousand files with changed
bytes), may follow links to other files and load filters from libraries. Weights of GATK's are such files, and so is
the one in a bundle's network.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnspark.errors import InputError

if TYPE_CHECKING:
    import h5py

# The largest array of a network of GATK's has 4 MiB.
MAX_ARRAY_BYTES = 64 << 20
MAX_TOTAL_BYTES = 256 << 20
MAX_MEMORY_BYTES = 4 << 30  # of address space, most of which libraries take
MAX_SECONDS = 30
MAX_MEMBERS = 1000
MAX_DEPTH = 8
REFUSED = 3
# What Keras writes into a network's file.
_NETWORK_MEMBERS = frozenset(("config.json", "metadata.json", "model.weights.h5"))
_checked: set[str] = set()  # digests of files that can be read


def read_in_process(module: str, data: bytes) -> bytes:
    """Hands a file to the function ``main`` of a module, in a process of its own.

    Args:
        module: its ``main`` is :func:`answer` with a function of its own.
        data: the file's bytes.

    Returns:
        What ``main`` wrote to standard output.

    Raises:
        ValueError: if it refused the file, died or never ended.
    """
    code = f"import sys; sys.path[:] = sys.argv[1:]; from {module} import main; main()"
    command = [sys.executable, "-c", code, *_import_path()]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"reading it has not ended after {MAX_SECONDS} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() if done.returncode == REFUSED else []
        raise ValueError(said[-1] if said else "the HDF5 library cannot read it")
    return done.stdout


def answer(read: Callable[[bytes], bytes]) -> None:
    """The process's side: reads the file from standard input, and writes what ``read`` returns to standard output."""
    _limit_memory()
    try:
        sys.stdout.buffer.write(read(sys.stdin.buffer.read()))
    except Exception as error:  # h5py raises whatever the damage leads to
        print(str(error) or type(error).__name__, file=sys.stderr)
        sys.exit(REFUSED)


def check_network(file: Path, digest: str, bundle: str | Path) -> None:
    """Checks that Keras can be given a network's file. It may be anybody's: its digest shows damage alone.

    Args:
        file: a ``.keras`` file, a zip.
        digest: its SHA-256; the same file is looked at once in a process.
        bundle: what messages call it.

    Raises:
        InputError: if it holds something else than a network, or its weights cannot be read safely.
    """
    if digest in _checked:
        return
    try:
        with zipfile.ZipFile(file) as archive:
            if {info.filename for info in archive.infolist()} != _NETWORK_MEMBERS:
                raise ValueError("it has other members than Keras writes")
            info = archive.getinfo("model.weights.h5")
            if info.file_size > MAX_TOTAL_BYTES:
                raise ValueError("its weights are too large")
            weights = archive.read(info)
        read_in_process(__name__, weights)
    except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{bundle} cannot be opened ({error}); use a bundle written by 'cnnspark train'") from None
    _checked.add(digest)


def main() -> None:
    """Reads all arrays of an HDF5 file from standard input, and returns if they can be read."""
    answer(_read_all)


def _read_all(data: bytes) -> bytes:
    import h5py

    total = 0
    for _, dataset in datasets(h5py.File(io.BytesIO(data), "r"), 0):
        total += array_of(dataset, "fiub").nbytes
        if total > MAX_TOTAL_BYTES:
            raise ValueError("its arrays are too large")
    return b""


def _import_path() -> list[str]:
    """Where the process imports from: as this process does, except from the working folder.

    ``python -m`` would look there first, and a file beside somebody else's weights may be called ``h5py.py``. Only this
    package's own folder, a zip or a checkout, may be the working folder; it comes last.
    """
    package = os.path.realpath(Path(__file__).parents[2])
    places = [os.path.realpath(place) for place in sys.path]
    return [place for place in places if place not in (os.getcwd(), package)] + [package]


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


def members(group: h5py.Group | h5py.Dataset) -> list[str]:
    """The names of a group's members. Raises ValueError if it is not a group, or has too many."""
    import h5py

    if not isinstance(group, h5py.Group) or len(group) > MAX_MEMBERS:
        raise ValueError("its groups are not those that Keras writes")
    return list(group)


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """The member of a group, if it is in the same file. Raises ValueError for a link."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name[:60]} is a link to elsewhere")
    return group[name]


def datasets(found: h5py.Group | h5py.Dataset, depth: int) -> Iterator[tuple[str, h5py.Dataset]]:
    """The arrays below a layer's group by the last part of their name, as ``kernel:0``."""
    import h5py

    if depth > MAX_DEPTH:
        raise ValueError("its groups are nested without end")
    for name in members(found):
        one = member(found, name)
        if isinstance(one, h5py.Dataset):
            yield name, one
        else:
            yield from datasets(one, depth + 1)


def array_of(dataset: h5py.Dataset, kinds: str = "f") -> np.ndarray:
    """The numbers of a dataset that is in this file and not too large.

    Args:
        dataset: of any shape.
        kinds: NumPy's letters of the kinds that its numbers may be of.

    Raises:
        ValueError: for any other dataset.
    """
    import h5py

    name = str(dataset.name)[-60:]
    if dataset.dtype.kind not in kinds:
        raise ValueError(f"{name} holds {dataset.dtype}, not numbers")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the values of {name} stand in another file")
    properties = dataset.id.get_create_plist()
    usual = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
    if any(properties.get_filter(i)[0] not in usual for i in range(properties.get_nfilters())):
        raise ValueError(f"{name} is compressed in an unusual way")
    for shape in (dataset.shape, dataset.chunks or ()):
        if int(np.prod(shape, dtype=object)) * dataset.dtype.itemsize > MAX_ARRAY_BYTES:
            raise ValueError(f"{name} is too large")
    return dataset[()]
