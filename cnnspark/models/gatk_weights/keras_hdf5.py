"""The arrays of a Keras HDF5 file, layer by layer; its configuration builds nothing.

The HDF5 library may crash on a damaged file or never return (both happened among some thousand files with changed
bytes), may follow links to other files and load filters from libraries. So :func:`read_layers` starts a process of its
own to read the file, with limits on memory and time. That process refuses links and foreign filters, and hands over
arrays alone.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import h5py

# The network's largest array has 4 MiB.
MAX_ARRAY_BYTES = 64 << 20
MAX_TOTAL_BYTES = 256 << 20
MAX_MEMORY_BYTES = 4 << 30  # of address space, most of which libraries take
MAX_SECONDS = 30
MAX_MEMBERS = 1000
MAX_DEPTH = 5
REFUSED = 3
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from cnnspark.models.gatk_weights.keras_hdf5 import main; main()"


def read_layers(data: bytes) -> list[dict[str, np.ndarray]]:
    """The arrays of each layer of a whole-model or weights-only file.

    Args:
        data: The file's bytes.

    Returns:
        For each layer its arrays, float32 or float64, by their names in Keras ("kernel", "gamma", ...).

    Raises:
        ValueError: if the file is damaged or something else.
    """
    command = [sys.executable, "-c", _CHILD, *_import_path()]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"reading it has not ended after {MAX_SECONDS} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() if done.returncode == REFUSED else []
        raise ValueError(said[-1] if said else "the HDF5 library cannot read it")
    layers: dict[str, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        for name in arrays.files:
            layer, _, part = name.partition("/")
            layers.setdefault(layer, {})[part] = arrays[name]
    return list(layers.values())


def _import_path() -> list[str]:
    """Where the process imports from: as this process does, except from the working folder.

    ``python -m`` would look there first, and a file beside somebody else's weights may be called ``h5py.py``. Only this
    package's own folder, a zip or a checkout, may be the working folder; it comes last.
    """
    package = os.path.realpath(Path(__file__).parents[2])
    places = [os.path.realpath(place) for place in sys.path]
    return [place for place in places if place not in (os.getcwd(), package)] + [package]


def main() -> None:
    """Reads an HDF5 file from standard input and writes its layers' arrays to standard output, as npz."""
    _limit_memory()
    try:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, values in _arrays(sys.stdin.buffer.read()):
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
        sys.stdout.buffer.write(out.getvalue())
    except Exception as error:  # h5py raises whatever the damage leads to
        print(str(error) or type(error).__name__, file=sys.stderr)
        sys.exit(REFUSED)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


def _arrays(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Each array under ``number of its layer/last part of its name``."""
    import h5py

    file = h5py.File(io.BytesIO(data), "r")
    weights = _member(file, "model_weights") if "model_weights" in file else file
    reversed_kernels = _backend(weights, file) == "theano"
    total = 0
    for number, layer in enumerate(_names(weights)):
        for name, dataset in _datasets(_member(weights, layer), 0):
            values = _values(dataset)
            total += values.nbytes
            if total > MAX_TOTAL_BYTES:
                raise ValueError("its arrays are too large")
            if reversed_kernels and values.ndim > 2:
                # Theano convolved, the others correlate: Keras turns the kernels round when it loads such a file.
                values = np.flip(values, axis=tuple(range(values.ndim - 2)))
            yield f"{number}/{name.split(':')[0]}", values


def _backend(*groups: h5py.Group | h5py.Dataset) -> str:
    """The backend that trained the network, by the first group that says it; "" if none does.

    Raises:
        ValueError: it is neither TensorFlow nor Theano: how others lay out their kernels is not known.
    """
    for group in groups:
        said = group.attrs.get("backend")
        if said is not None:
            name = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            if name not in ("tensorflow", "theano"):
                raise ValueError(f"it was written with Keras on '{name[:60]}', not on TensorFlow or Theano")
            return name
    return ""


def _names(group: h5py.Group | h5py.Dataset) -> list[str]:
    import h5py

    if not isinstance(group, h5py.Group) or len(group) > MAX_MEMBERS:
        raise ValueError("its groups are not those that Keras writes")
    return list(group)


def _member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """The member of a group, if it is in the same file. Raises ValueError for a link."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name[:60]} is a link to elsewhere")
    return group[name]


def _datasets(found: h5py.Group | h5py.Dataset, depth: int) -> Iterator[tuple[str, h5py.Dataset]]:
    """The arrays below a layer's group by the last part of their name, as ``kernel:0``."""
    import h5py

    if depth > MAX_DEPTH:
        raise ValueError("its groups are nested without end")
    for name in _names(found):
        member = _member(found, name)
        if isinstance(member, h5py.Dataset):
            yield name, member
        else:
            yield from _datasets(member, depth + 1)


def _values(dataset: h5py.Dataset) -> np.ndarray:
    """The numbers of a dataset that is in this file and not too large. Raises ValueError for any other."""
    import h5py

    name = str(dataset.name)[-60:]
    if dataset.dtype.kind != "f":
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
