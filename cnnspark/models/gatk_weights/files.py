"""Weights of GATK's networks from the files in which they were published and in which people keep them.

Four formats, told apart by their content: a Keras 2 model in HDF5, a PyTorch module or state dict in a zip, and npz.
All give the same arrays, with names and layout of the PyTorch networks' state dict. Such files come from others, so
nothing in them is run, imported or followed to another file, and nothing larger than what is expected is read. How is
described in :mod:`cnnspark.models.gatk_weights.torch_pickle` and :mod:`cnnspark.models.gatk_weights.keras_hdf5`.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnspark.errors import InputError
from cnnspark.models.gatk_weights.keras_hdf5 import read_layers
from cnnspark.models.gatk_weights.layout import (
    KINDS,
    LAYERS,
    GatkLayer,
    difference,
    printable,
    value_problem,
    weight_shapes,
)
from cnnspark.models.gatk_weights.torch_pickle import (
    MAX_PICKLE_BYTES,
    UnsafePickleError,
    named_tensors,
    read_pickle,
    tensor_array,
)
from cnnspark.models.hdf5_process import MAX_ARRAY_BYTES

# Keras files also hold the optimizer's state and have three times the weights' size: 19 MiB for the larger network.
MAX_FILE_BYTES = 256 << 20
MAX_ZIP_MEMBERS = 10_000
# What torch.save wrote before 1.6: several pickles one after another, the first holds this number.
_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HDF5 = b"\x89HDF\r\n\x1a\n"


class Stored(NamedTuple):
    """An array of a file: its shape is known before it is read."""

    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]


# The arrays of a file, taken for a network of the given kind.
Arrays = Callable[[str], Mapping[str, Stored]]


def read_weights(path: str | os.PathLike[str], kind: str) -> dict[str, np.ndarray]:
    """The weights of a GATK network from a file of any known format.

    Args:
        path: HDF5 of Keras, a zip of PyTorch, or npz.
        kind: One of :data:`cnnspark.models.gatk_weights.layout.KINDS`.

    Returns:
        float32 arrays by PyTorch's names, in PyTorch's layouts (:func:`weight_shapes`).

    Raises:
        UsageError: if ``kind`` is unknown.
        InputError: if the file is damaged, hostile, of another network, or does not hold weights.
    """
    weight_shapes(kind)
    return weights_in(path, read_content(Path(path)), kind)


def weights_in(path: str | os.PathLike[str], data: bytes, kind: str) -> dict[str, np.ndarray]:
    """As :func:`read_weights`, from the bytes of the file; messages name ``path``."""
    shapes = weight_shapes(kind)
    arrays = _arrays(path, data)
    stored = arrays(kind)
    problem = difference(_shapes(stored), shapes)
    if problem:
        for other in KINDS:
            if not difference(_shapes(arrays(other)), weight_shapes(other)):
                raise InputError(f"{path} holds GATK's {other} network; give --kind {other}")
        raise InputError(f"{path} does not hold GATK's {kind} network: {problem}; give the weights of that network")
    return {name: _loaded(path, name, stored[name]) for name in shapes}


def read_content(path: Path) -> bytes:
    """The file's bytes: read once, so that what is checked is what is used.

    Raises:
        InputError: if it is not a file, cannot be read, or is far too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a file; give the file with the weights")
        if status.st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} has {status.st_size >> 20} MiB, GATK's weights have 2 to 24; give another file")
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the name and permissions") from None


def _arrays(path: str | os.PathLike[str], data: bytes) -> Arrays:
    """The arrays of the file, of whatever format it is."""
    if data.startswith(_HDF5):
        what, arrays = "an HDF5 file", _keras_arrays
    elif data.startswith(b"PK"):
        what, arrays = "a zip", _zip_arrays
    elif _OLD_TORCH in data[:32]:
        raise InputError(
            f"{path} was written by PyTorch before 1.6; open it there with torch.load and save it again with a newer "
            "torch.save, or as .npz"
        )
    else:
        raise InputError(
            f"{path} is neither HDF5 (.hd5) nor a zip (.pt, .npz); give the file with GATK's weights itself, not the "
            "JSON or a git-lfs pointer beside it"
        )
    try:
        return arrays(data)
    except UnsafePickleError as error:
        raise InputError(
            f"{path} {_reason(error)}, which no weights need, and nothing of it was run; get it from its publisher"
        ) from None
    except Exception as error:  # damage leads to whatever the damaged part leads to
        raise InputError(f"{path} is damaged, or {what} of another kind ({_reason(error)}); get it again") from None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0][:120]) if lines else type(error).__name__


def _shapes(stored: Mapping[str, Stored]) -> dict[str, tuple[int, ...]]:
    return {name: each.shape for name, each in stored.items()}


def _loaded(path: str | os.PathLike[str], name: str, stored: Stored) -> np.ndarray:
    try:
        values = stored.load()
    except Exception as error:
        raise InputError(f"{path} is damaged at {name} ({_reason(error)}); get it again") from None
    if problem := value_problem(name, values):
        raise InputError(f"{path}: {name} {problem}; get it again")
    return np.ascontiguousarray(values, np.float32)


def _check_size(size_bytes: int) -> None:
    """Raises ValueError if an array is too large, before it is read: zeros are compressed a thousandfold."""
    if size_bytes > MAX_ARRAY_BYTES:
        raise ValueError(f"its storage has {size_bytes} bytes")


# ---- Keras

_NORMALISATION = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _keras_arrays(data: bytes) -> Arrays:
    """The arrays of Keras' HDF5 under PyTorch's names.

    Layers are recognised by the shape of their kernel, which no two layers of a network share, because Keras numbers
    their names anew in each session.
    """
    # The configuration stands in the file as text.
    channels_first = b'"channels_first"' in data
    layers = read_layers(data)
    return lambda kind: _named(layers, LAYERS[kind], channels_first)


def _named(
    layers: list[dict[str, np.ndarray]], wanted: tuple[GatkLayer, ...], channels_first: bool
) -> dict[str, Stored]:
    """The arrays in PyTorch's layout, channels last; those that fit no layer have a name of their own."""
    arrays: dict[str, np.ndarray] = {}
    for at, layer in enumerate(layers):
        match = next((w for w in wanted if _fits(layer, w) and f"{w.name}.weight" not in arrays), None)
        for part, values in layer.items():
            if match is None:
                arrays[f"Keras layer {at} ({part})"] = values
            elif match.normalises:
                arrays[f"{match.name}.{_NORMALISATION.get(part, part)}"] = values
            elif part == "kernel":
                if channels_first and match.maps:
                    values = _channels_last(values, match.maps)
                # (...kernel, in, out) to (out, in, ...kernel)
                arrays[f"{match.name}.weight"] = np.moveaxis(values, (-1, -2), (0, 1))
            else:
                arrays[f"{match.name}.{part}"] = values
    return {name: Stored(values.shape, partial(np.asarray, values)) for name, values in arrays.items()}


def _channels_last(kernel: np.ndarray, maps: tuple[int, ...]) -> np.ndarray:
    """A dense kernel (in, out) for maps that are flattened channels last, from that for channels first.

    Keras keeps the kernels of convolutions alike for both; only this layer's inputs come in another order. Inputs
    behind the maps stay where they are.
    """
    count = int(np.prod(maps))
    first = kernel[:count].reshape(maps[-1], *maps[:-1], -1)  # (channels, rows, columns, out)
    return np.concatenate([np.moveaxis(first, 0, -2).reshape(count, -1), kernel[count:]])


def _fits(layer: Mapping[str, np.ndarray], wanted: GatkLayer) -> bool:
    first = layer.get("gamma" if wanted.normalises else "kernel")
    return first is not None and first.shape == (*wanted.shape[2:], *wanted.shape[1::-1])


# ---- zips


def _zip_arrays(data: bytes) -> Arrays:
    """The arrays of a PyTorch file or an npz."""
    # zipfile reads the whole directory before it tells the number of members.
    if data.count(b"PK\x01\x02") > MAX_ZIP_MEMBERS:
        raise ValueError("it has too many members")
    archive = zipfile.ZipFile(io.BytesIO(data))
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in members:
            raise ValueError(f"{info.filename[:60]} stands in it twice")
        members[info.filename] = info
    if members and all(name.endswith(".npy") for name in members):
        found = {name.removesuffix(".npy"): _npy_stored(archive, info) for name, info in members.items()}
    else:
        found = _torch_stored(archive, members)
    return lambda kind: found


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's bytes, its checksum tested. Raises ValueError if it has more than ``limit``."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename[:60]} is compressed in an unusual way")
    if info.file_size > limit:
        raise ValueError(f"{info.filename[:60]} has {info.file_size} bytes, expected are at most {limit}")
    with archive.open(info) as member:
        values = member.read(limit + 1)
    if len(values) != info.file_size:
        raise ValueError(f"{info.filename[:60]} has {len(values)} bytes instead of {info.file_size}")
    return values


# ---- npz (numpy.lib.format describes a member)

_NPY_HEADER_BYTES = 4096


def _npy_stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Stored:
    with archive.open(info) as member:
        head = io.BytesIO(member.read(_NPY_HEADER_BYTES))
    version = np.lib.format.read_magic(head)
    if version != (1, 0):
        raise ValueError(f"{info.filename[:60]} has version {version}")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(head)
    if dtype.hasobject or dtype.kind not in "fi":
        raise ValueError(f"{info.filename[:60]} holds {dtype}, not numbers")
    shape = tuple(int(size) for size in shape)
    start, count = head.tell(), int(np.prod(shape, dtype=object))

    def load() -> np.ndarray:
        _check_size(count * dtype.itemsize)
        values = _read_member(archive, info, start + count * dtype.itemsize)[start:]
        return np.frombuffer(values, dtype, count).reshape(shape, order="F" if fortran_order else "C")

    return Stored(shape, load)


# ---- PyTorch's zip: a folder with data.pkl, byteorder and data/0, data/1, ...


def _torch_stored(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> dict[str, Stored]:
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError("it has no data.pkl as torch.save writes it")
    root = pickles[0].removesuffix("data.pkl")
    order = b"little"
    if f"{root}byteorder" in members:  # since PyTorch 2.1
        order = _read_member(archive, members[f"{root}byteorder"], 16)
    byte_order = {b"little": "<", b"big": ">"}[order]
    tensors = named_tensors(read_pickle(_read_member(archive, members[pickles[0]], MAX_PICKLE_BYTES)))

    def stored(name: str) -> Stored:
        tensor = tensors[name]

        def load() -> np.ndarray:
            _check_size(tensor.storage_bytes)
            info = members[f"{root}data/{tensor.storage.key}"]
            return tensor_array(tensor, _read_member(archive, info, tensor.storage_bytes), byte_order)

        return Stored(tensor.shape, load)

    return {name: stored(name) for name in tensors}
