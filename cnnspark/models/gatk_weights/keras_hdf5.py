"""The arrays of a Keras HDF5 file, layer by layer; its configuration builds nothing.

A process of its own reads the file (:mod:`cnnspark.models.hdf5_process`), and hands over arrays alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cnnspark.models.hdf5_process import MAX_TOTAL_BYTES, answer, array_of, datasets, member, members, read_in_process

if TYPE_CHECKING:
    import h5py


def read_layers(data: bytes) -> list[dict[str, np.ndarray]]:
    """The arrays of each layer of a whole-model or weights-only file.

    Args:
        data: The file's bytes.

    Returns:
        For each layer its arrays, float32 or float64, by their names in Keras ("kernel", "gamma", ...).

    Raises:
        ValueError: if the file is damaged or something else.
    """
    text = read_in_process(__name__, data)
    layers: dict[str, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(text), allow_pickle=False) as arrays:
        for name in arrays.files:
            layer, _, part = name.partition("/")
            layers.setdefault(layer, {})[part] = arrays[name]
    return list(layers.values())


def main() -> None:
    """Reads an HDF5 file from standard input and writes its layers' arrays to standard output, as npz."""
    answer(_packed)


def _packed(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, values in _arrays(data):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
    return out.getvalue()


def _arrays(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Each array under ``number of its layer/last part of its name``."""
    import h5py

    file = h5py.File(io.BytesIO(data), "r")
    weights = member(file, "model_weights") if "model_weights" in file else file
    reversed_kernels = _backend(weights, file) == "theano"
    total = 0
    for number, layer in enumerate(members(weights)):
        for name, dataset in datasets(member(weights, layer), 0):
            values = array_of(dataset)
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
