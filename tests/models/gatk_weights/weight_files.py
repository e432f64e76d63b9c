"""Files of GATK's weights in every format, written by hand: the tests change their parts."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cnnspark.errors import InputError
from cnnspark.models.gatk_weights.files import read_weights
from cnnspark.models.gatk_weights.layout import LAYERS, GatkLayer, weight_shapes

# Two networks of a few hundred weights: most bytes of their files are structure, so that a changed byte hits it.
SMALL = {
    "1d": (
        GatkLayer("conv.0", (2, 4, 3)),
        GatkLayer("conv.2", (3, 2, 3)),
        GatkLayer("normalize", (7,)),
        GatkLayer("dense_1.0", (5, 7)),
        GatkLayer("dense_3", (4, 6)),
    ),
    "2d": (GatkLayer("conv.0", (2, 4, 3, 1)), GatkLayer("dense_1.0", (7,)), GatkLayer("dense_2.3", (4, 3))),
    "2d_mix": (
        GatkLayer("conv.0", (3, 4, 1, 2)),
        GatkLayer("normalize", (7,)),
        GatkLayer("dense_2.0", (4, 5 * 2 * 3 + 6), maps=(5, 2, 3)),
    ),
}

REAL = dict(LAYERS)


def arrays_of(kind: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape).astype(np.float32) for name, shape in weight_shapes(kind).items()}


def npz_file(arrays: Mapping[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **options, **arrays)
    return out.getvalue()


NORMALISATION = (
    ("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var"),
)  # fmt: skip


def keras_file(arrays: Mapping[str, np.ndarray], kind: str, change: Callable[[h5py.File], None] | None = None) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["model_config"] = '{"class_name": "Functional", "config": {"data_format": "channels_last"}}'
        weights = file.create_group("model_weights")
        weights.create_group("flatten_1")
        for i, layer in enumerate(reversed(LAYERS[kind])):  # Keras' order is not PyTorch's
            group = weights.create_group(f"layer_{i}/layer_{i}")
            for part, name in NORMALISATION if layer.normalises else (("kernel", "weight"), ("bias", "bias")):
                values = arrays[f"{layer.name}.{name}"]
                if part == "kernel":
                    values = values.transpose(*range(2, values.ndim), 1, 0)
                group[f"{part}:0"] = values
        file.create_group("optimizer_weights")["iteration:0"] = 7
        if change:
            change(file)
    return out.getvalue()


class Named:
    """Pickled as the name of a class or function, without it being there."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self) -> None:
        raise AssertionError("only pickle asks whether it can be called")


class Called:
    """Pickled as a call."""

    def __init__(self, name: str, *arguments: Any, state: Any = None):
        self.name, self.arguments, self.state = name, arguments, state

    def __reduce__(self) -> Any:
        parts = (Named(self.name), self.arguments)
        return parts if self.state is None else (*parts, self.state)


class Made:
    """Pickled as an object made by ``__new__`` whose attributes are then set."""

    def __init__(self, name: str, state: Any):
        self.name, self.state = name, state


class Stored:
    """Pickled as an array of PyTorch in a storage of its own."""

    def __init__(self, values: np.ndarray, key: int, **other: Any):
        self.values, self.key, self.other = values, str(key), other


class TorchPickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes the records above as torch.save writes modules; Python's own version, which can be taught."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def persistent_id(self, value: Any) -> Any:
        return value.identity if isinstance(value, Storage) else None

    def save_named(self, value: Named) -> None:
        module, _, name = value.name.rpartition(".")
        self.write(f"c{module}\n{name}\n".encode())

    def save_made(self, value: Made) -> None:
        self.save(Named(value.name))
        self.save(())
        self.write(pickle.NEWOBJ)
        self.memoize(value)
        self.save(value.state)
        self.write(pickle.BUILD)

    def save_stored(self, value: Stored) -> None:
        kind = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage"}[value.values.dtype.str[1:]]
        facts = {
            "identity": ("storage", Named(f"torch.{kind}"), value.key, "cpu", value.values.size),
            "offset": 0,
            "shape": value.values.shape,
            "strides": tuple(s // value.values.itemsize for s in value.values.strides),
        } | value.other
        rebuilt = Called(
            "torch._utils._rebuild_tensor_v2",
            Storage(facts["identity"]), facts["offset"], facts["shape"], facts["strides"], False,
            Called("collections.OrderedDict"),
        )  # fmt: skip
        self.save(Called("torch._utils._rebuild_parameter", rebuilt, True, Called("collections.OrderedDict")))

    dispatch[Named] = save_named
    dispatch[Made] = save_made
    dispatch[Stored] = save_stored


class Storage:
    def __init__(self, identity: Any):
        self.identity = identity


def pickled(value: Any, protocol: int = 2) -> bytes:
    out = io.BytesIO()
    TorchPickler(out, protocol).dump(value)
    return out.getvalue()


def module_of(arrays: Mapping[str, np.ndarray], **attributes: Any) -> Made:
    """A module as PyTorch pickles one: parameters and buffers of nested modules in their attributes."""

    def module(name: str, members: dict[str, Any]) -> Made:
        own = {"_parameters": {}, "_buffers": {}, "_modules": {}}
        for part, value in members.items():
            kind = "_modules" if isinstance(value, dict) else "_buffers" if "running" in part else "_parameters"
            own[kind][part] = module("torch.nn.modules.container.Sequential", value) if kind == "_modules" else value
        own["_parameters"]["none"] = None
        return Made(name, {"training": False, "_hooks": Called("collections.OrderedDict"), **own})

    tree: dict[str, Any] = {}
    for key, (name, values) in enumerate(arrays.items()):
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = Stored(values, key)
    top = module("nobody.has.this.Network", tree)
    top.state |= {"seen": Called("__builtin__.set", ["a"]), **attributes}
    return top


def torch_file(
    tree: Any, arrays: Mapping[str, np.ndarray], protocol: int = 2, members: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED, order: str = "little",
) -> bytes:  # fmt: skip
    out = io.BytesIO()
    program = tree if isinstance(tree, bytes) else pickled(tree, protocol)
    content = {"data.pkl": program, "byteorder": order.encode(), "version": b"3\n"}
    content |= {f"data/{i}": v.astype(v.dtype.newbyteorder("<" if order == "little" else ">")).tobytes()
                for i, v in enumerate(arrays.values())}  # fmt: skip
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in (content | dict(members or {})).items():
            archive.writestr(f"weights/{name}", data)
    return out.getvalue()


def state_dict(arrays: Mapping[str, np.ndarray]) -> Called:
    """An OrderedDict with the attribute ``_metadata``, as torch.save writes a state dict."""
    values = collections.OrderedDict((name, Stored(v, i)) for i, (name, v) in enumerate(arrays.items()))
    return _Ordered(values)


class _Ordered(Called):
    def __init__(self, values: Mapping[str, Any]):
        self.values = values

    def __reduce__(self) -> Any:
        attributes = {"_metadata": Called("collections.OrderedDict")}
        return (Named("collections.OrderedDict"), (), attributes, None, iter(self.values.items()))


FORMATS: dict[str, Callable[[Mapping[str, np.ndarray], str], bytes]] = {
    "keras": keras_file,
    "module": lambda arrays, kind: torch_file(module_of(arrays), arrays),
    "state dict": lambda arrays, kind: torch_file(state_dict(arrays), arrays),
    "npz": lambda arrays, kind: npz_file(arrays),
}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "weights.bin"  # the content says what it is
    path.write_bytes(data)
    return path


def said(path: Path, kind: str = "1d") -> str:
    """The sentence with which a file is refused; it names the file and a remedy."""
    with pytest.raises(InputError) as refused:
        read_weights(path, kind)
    text = str(refused.value)
    assert "\n" not in text and str(path) in text and ";" in text and len(text) < 400
    return text


def survives(path: Path, data: bytes) -> None:
    """Either the network's arrays or an InputError of one line."""
    path.write_bytes(data)
    try:
        got = read_weights(path, "1d")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert {name: values.shape for name, values in got.items()} == weight_shapes("1d")
        assert all(np.isfinite(values).all() for values in got.values())


def damaged(data: bytes, changes: list[tuple[int, int]], length: float) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed[: int(len(changed) * length)])


changes = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), max_size=4)

lengths = st.one_of(st.just(1.0), st.floats(0, 1))

same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300, derandomize=True
)
