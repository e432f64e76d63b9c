"""GATK's weights from every format, and files that are damaged or mean harm: one sentence, nothing run."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnspark.cli import main
from cnnspark.errors import InputError, UsageError
from cnnspark.models.card import read_card
from cnnspark.models.gatk_weights import files, torch_pickle
from cnnspark.models.gatk_weights.files import read_weights
from cnnspark.models.gatk_weights.layout import LAYERS, GatkLayer, weight_shapes
from tests.conftest import ROOT

# Two networks of a few hundred weights: with them a changed byte is mostly one that says where things are.
SMALL = {
    "1d": (
        GatkLayer("conv.0", (2, 4, 3)),
        GatkLayer("conv.2", (3, 2, 3)),
        GatkLayer("normalize", (7,)),
        GatkLayer("dense_1.0", (5, 7)),
        GatkLayer("dense_3", (4, 6)),
    ),
    "2d": (GatkLayer("conv.0", (2, 4, 3, 1)), GatkLayer("dense_1.0", (7,)), GatkLayer("dense_2.3", (4, 3))),
}


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Any:
    """The small networks in the place of GATK's, but for the tests that ask for ``real_networks``."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, layers in SMALL.items():
            patch.setitem(LAYERS, kind, layers)
        yield


@pytest.fixture
def real_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, layers in REAL.items():
        monkeypatch.setitem(LAYERS, kind, layers)


REAL = dict(LAYERS)


def arrays_of(kind: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape).astype(np.float32) for name, shape in weight_shapes(kind).items()}


# ---- files of every format, written by hand: their parts are what the tests bend


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


# ---- what is right


@pytest.mark.parametrize("kind", ["1d", "2d"])
@pytest.mark.parametrize("name", ["npz", "hd5", "module.pt"])
def test_all_formats_of_gatks_networks_give_the_same_arrays(
    data: Path, real_networks: None, kind: str, name: str
) -> None:
    oracle = dict(np.load(data / "oracle" / f"gatk_{kind}.npz"))
    got = read_weights(data / "oracle" / f"gatk_{kind}.{name}", kind)
    assert set(oracle) - set(got) == {n for n in oracle if n.endswith("num_batches_tracked")} and got
    for key, values in got.items():
        assert values.dtype == np.float32 and values.flags.c_contiguous
        np.testing.assert_array_equal(values, oracle[key])
    other = {"1d": "2d", "2d": "1d"}[kind]
    assert f"holds GATK's {kind} network" in said(data / "oracle" / f"gatk_{kind}.{name}", other)


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_a_state_dict_of_gatks_size_is_read(tmp_path: Path, real_networks: None, kind: str) -> None:
    arrays = arrays_of(kind)
    got = read_weights(write(tmp_path, torch_file(state_dict(arrays), arrays)), kind)
    for name, values in arrays.items():
        np.testing.assert_array_equal(got[name], values)


@pytest.mark.parametrize("kind", ["1d", "2d"])
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_gives_the_arrays_that_were_written(tmp_path: Path, name: str, kind: str) -> None:
    arrays = arrays_of(kind)
    path = write(tmp_path, FORMATS[name](arrays, kind))
    got = read_weights(path, kind)
    assert list(got) == list(arrays)
    for key, values in arrays.items():
        np.testing.assert_array_equal(got[key], values)
    other = {"1d": "2d", "2d": "1d"}[kind]
    assert f"give --kind {kind}" in said(path, other)


def test_variants_of_the_formats_are_read_as_well(tmp_path: Path) -> None:
    arrays = arrays_of("1d")
    counted = {**arrays, "normalize.num_batches_tracked": np.array(7)}
    doubles = {name: values.astype(np.float64) for name, values in arrays.items()}

    def compressed() -> bytes:
        out = io.BytesIO()
        np.savez_compressed(out, **{name: np.asfortranarray(values) for name, values in arrays.items()})
        return out.getvalue()

    def chunked(file: h5py.File) -> None:
        values = file["model_weights/layer_0/layer_0/kernel:0"][()]
        del file["model_weights/layer_0/layer_0/kernel:0"]
        group = file["model_weights/layer_0/layer_0"]
        group.create_dataset("kernel:0", data=values, chunks=True, compression="gzip", shuffle=True, fletcher32=True)

    def weights_alone() -> bytes:
        out = io.BytesIO()
        with h5py.File(io.BytesIO(keras_file(arrays, "1d"))) as whole, h5py.File(out, "w") as file:
            for name in whole["model_weights"]:
                whole.copy(f"model_weights/{name}", file)
        return out.getvalue()

    # a transposed view of a shared storage, as PyTorch may keep one
    turned = dict(arrays)
    turned["dense_1.0.weight"] = np.ascontiguousarray(arrays["dense_1.0.weight"].T)
    tree = state_dict(turned)
    at = list(arrays).index("dense_1.0.weight")
    tree.values["dense_1.0.weight"] = Stored(turned["dense_1.0.weight"], at, shape=(5, 7), strides=(1, 5))
    for what in (
        torch_file(module_of(counted), counted),
        torch_file(state_dict(doubles), doubles),
        torch_file({"epoch": 3, "state_dict": state_dict(arrays)}, arrays),
        torch_file(module_of(arrays, device=Called("torch.device", "cpu"), dtype=Named("torch.float32")), arrays),
        torch_file(module_of(arrays), arrays, compression=zipfile.ZIP_DEFLATED),
        torch_file(module_of(arrays), arrays, order="big"),
        torch_file(module_of(arrays), arrays, protocol=4),
        torch_file(tree, turned),
        npz_file(counted),
        npz_file(doubles),
        compressed(),
        keras_file(arrays, "1d", chunked),
        weights_alone(),
    ):
        got = read_weights(write(tmp_path, what), "1d")
        for name, values in arrays.items():
            np.testing.assert_array_equal(got[name], values)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_pythons_own_pickle_reads_them(protocol: int) -> None:
    plain = {"a": [1, 2.5, None, True, -70000, 2**70], "b": ("x", {"z": (), "y": [[]]}, (1, 2, 3, 4)), 3: "\u00e9"}
    plain["again"] = plain["a"]
    assert torch_pickle.read_pickle(pickle.dumps(plain, protocol)) == plain


@pytest.mark.parametrize("name", ["keras", "module"])
def test_the_command_makes_a_bundle_of_a_file(
    tmp_path: Path, real_networks: None, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arrays = arrays_of("2d")
    path, out = write(tmp_path, FORMATS[name](arrays, "2d")), tmp_path / "models" / "gatk"
    command = ["import-gatk", "--weights", str(path), "--kind", "2d", "--model-out", str(out)]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "gatk_2d"
    card = read_card(out)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert card.training["imported_from"] == f"weights.bin, SHA-256 {digest}"
    from cnnspark.models.bundle import load_bundle

    kernel = np.asarray(load_bundle(out).model.get_layer("conv_1").kernel)
    np.testing.assert_array_equal(kernel, arrays["conv.0.weight"].transpose(2, 3, 1, 0))

    assert main(command) == 2 and "--if-exists overwrite" in capsys.readouterr().err
    assert main([*command, "--if-exists", "overwrite"]) == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("kept")
    command[-1] = str(tmp_path / "notes")
    assert main([*command, "--if-exists", "overwrite"]) == 2 and (tmp_path / "notes" / "mine.txt").exists()
    assert main([*command[:4], "1d", "--model-out", str(tmp_path / "none")]) == 3
    assert "give --kind 2d" in capsys.readouterr().err and not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    command[-1] = str(tmp_path / "file" / "gatk")
    assert main(command) == 2
    said = f"cnnspark: {tmp_path}/file cannot be written (File exists); choose another --model-out\n"
    assert capsys.readouterr().err == said


# ---- what is wrong


def test_an_unknown_kind_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose 1d"):
        read_weights(tmp_path, "3d")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_wrong_arrays_are_named(tmp_path: Path, name: str) -> None:
    good = arrays_of("1d")

    def without(key: str) -> dict[str, np.ndarray]:
        return {k: v for k, v in good.items() if k != key}

    def changed(key: str, value: float) -> dict[str, np.ndarray]:
        values = good[key].copy()
        values.flat[-1] = value
        return {**good, key: values}

    cases = [
        (changed("conv.2.bias", np.nan), "conv.2.bias holds values that are not finite"),
        (changed("dense_3.weight", -np.inf), "dense_3.weight holds values that are not finite"),
        (changed("normalize.running_var", -1), "negative variances"),
    ]
    if name != "keras":
        cases += [
            (without("conv.2.bias"), "conv.2.bias is missing"),
            ({}, "conv.0.weight and 11 more are missing"),
            ({**good, "conv.9.weight": good["conv.2.bias"]}, "conv.9.weight does not belong there"),
            ({**good, "dense_3.bias": np.zeros((5,), np.float32)}, "dense_3.bias is (5,) instead of (4,)"),
        ]
    for arrays, message in cases:
        assert message in said(write(tmp_path, FORMATS[name](arrays, "1d"))) or not arrays


def test_a_keras_file_of_another_network_is_said_so(tmp_path: Path) -> None:
    arrays = arrays_of("1d")

    def one_more(file: h5py.File) -> None:
        file["model_weights/extra/kernel:0"] = np.zeros((3, 3), np.float32)

    def one_less(file: h5py.File) -> None:
        del file["model_weights/layer_1"]

    def other_bias(file: h5py.File) -> None:
        del file["model_weights/layer_0/layer_0/bias:0"]
        file["model_weights/layer_0/layer_0/bias:0"] = np.zeros(9, np.float32)

    def first(file: h5py.File) -> None:
        file.attrs["model_config"] = '{"data_format": "channels_first"}'

    def empty(file: h5py.File) -> None:
        del file["model_weights"]

    for change, message in (
        (one_more, "(kernel) does not belong there"),
        (one_less, "dense_1.0.weight and 1 more are missing"),
        (other_bias, "dense_3.bias is (9,) instead of (4,)"),
        (first, "channels first"),
        (empty, "iteration:0 holds int64"),
    ):
        assert message in said(write(tmp_path, keras_file(arrays, "1d", change)))


def test_files_that_are_no_weights_are_said_so(tmp_path: Path) -> None:
    old = b"\x80\x02" + b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03."
    for content, message in (
        (b"", "neither HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (pickle.dumps([1]), "neither HDF5"),
        (old, "before 1.6"),
        (b"PK\x03\x04 and nothing more", "is damaged"),
        (b"\x89HDF\r\n\x1a\n and nothing more", "is damaged"),
        (npz_file({}), "is damaged"),
    ):
        assert message in said(write(tmp_path, content))
    assert "is not a file" in said(tmp_path)
    assert "cannot be read" in said(tmp_path / "nowhere")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_truncated_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    whole = FORMATS[name](arrays_of("1d"), "1d")
    for share in (0.2, 0.9, 0.99) if name == "keras" else (0.1, 0.5, 0.9, 0.99):
        assert "is damaged" in said(write(tmp_path, whole[: int(len(whole) * share)]))


def test_what_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = arrays_of("1d")
    huge = tmp_path / "huge"
    with open(huge, "wb") as out:
        out.truncate(1 << 40)  # takes no room
    assert "MiB" in said(huge)

    out_bytes = io.BytesIO()
    with zipfile.ZipFile(out_bytes, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", b"N" * (200 << 20))
    bomb = out_bytes.getvalue()
    assert len(bomb) < 1 << 20 and "data.pkl has 209715200 bytes" in said(write(tmp_path, bomb))

    monkeypatch.setattr(files, "MAX_ZIP_MEMBERS", 100)
    many = torch_file(module_of(arrays), arrays, members={f"other/{i}": b"" for i in range(100)})
    assert "too many members" in said(write(tmp_path, many))

    # a storage that says it is larger than what is shown of it
    data_bomb = torch_file(state_dict(arrays), arrays, members={"data/0": b"\0" * (50 << 20)}, compression=8)
    assert "weights/data/0 has 52428800 bytes" in said(write(tmp_path, data_bomb))

    def large(file: h5py.File) -> None:
        file["model_weights/layer_9"] = file["model_weights/layer_0"]
        file["model_weights/layer_0/x"] = np.zeros(1, np.float32)
        del file["model_weights/layer_0/x"]
        file.create_dataset("model_weights/large/kernel:0", (1 << 40,), "f4", compression="gzip")

    assert "kernel:0 is too large" in said(write(tmp_path, keras_file(arrays, "1d", large)))


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", pickle.dumps(print)), "holds object"),
        (npy("{'descr': '|V8', 'fortran_order': False, 'shape': (2,), }", b"\0" * 16), "not numbers"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "(-1,) instead of"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999), }"), "instead of"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }" + " " * 9000), "is damaged"),
        (npy("(" * 3000), "is damaged"),
        (npy("__import__('os').system('touch MARKER')"), "is damaged"),
        (b"\x93NUMPY\x03\x00", "version (3, 0)"),
        (b"", "is damaged"),
    ],
)
def test_a_bad_npy_member_is_one_sentence(tmp_path: Path, member: bytes, message: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, values in arrays_of("1d").items():
            stored = io.BytesIO()
            np.save(stored, values)
            archive.writestr(f"{name}.npy", member if name == "conv.2.bias" else stored.getvalue())
    assert message in said(write(tmp_path, out.getvalue()))


def test_odd_zips_are_refused(tmp_path: Path) -> None:
    arrays = arrays_of("1d")
    good = torch_file(module_of(arrays), arrays)
    out = io.BytesIO(good)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("weights/data/0", b"twice")
    assert "stands in it twice" in said(write(tmp_path, out.getvalue()))
    odd = torch_file(module_of(arrays), arrays, compression=zipfile.ZIP_LZMA)
    assert "unusual way" in said(write(tmp_path, odd))
    encrypted = good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    assert encrypted != good and "is damaged" in said(write(tmp_path, encrypted))
    two = torch_file(module_of(arrays), arrays)
    out = io.BytesIO(two)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("other/data.pkl", pickled({}))
    assert "no data.pkl" in said(write(tmp_path, out.getvalue()))


# ---- what means harm. MARKER is a file that must not come to be.


def hostile_values() -> dict[str, Any]:
    """Programs that would make the file MARKER, or do worse, where they were run."""
    touch = "touch MARKER"
    code = "open('MARKER', 'w')"
    inner = pickle.dumps(0)[:-1] + b"cos\nsystem\n(X\x0c\x00\x00\x00touch MARKERtR."
    return {
        "os.system": Called("os.system", touch),
        "posix.system": Called("posix.system", touch),
        "subprocess": Called("subprocess.Popen", ["touch", "MARKER"]),
        "eval": Called("builtins.eval", code),
        "eval of Python 2": Called("__builtin__.eval", code),
        "exec": Called("builtins.exec", code),
        "getattr": Called("builtins.getattr", Named("os.path"), "os"),
        "import": Called("importlib.import_module", "os"),
        "runpy": Called("runpy._run_code", code, {}),
        "a package's function": Called("pip.main", ["install", "x"]),
        "numpy": Called("numpy.load", "MARKER"),
        "a test's own class": Called(f"{__name__}.make_marker"),
        "nested pickle": Called("torch.storage._load_from_bytes", inner),
        "torch.load": Called("torch.load", "MARKER"),
        "torch.hub": Called("torch.hub.load", "x", "y"),
        "torch.jit": Called("torch.jit._script.unpackage_script_module", "x"),
        "object state": Called("copyreg._reconstructor", Named("os.system"), Named("__builtin__.object"), None),
        "call of a result": Called("operator.methodcaller", "system", touch),
        "new of a function": Made("os.system", {"command": touch}),
        "setstate of a module": Called("nobody.has.this.Network", state={"__setstate__": Named("os.system")}),
    }  # fmt: skip


def make_marker() -> None:
    Path("MARKER").touch()


@pytest.mark.parametrize("name", sorted(hostile_values()))
@pytest.mark.parametrize("place", ["top", "attribute", "weight"])
def test_nothing_of_a_hostile_pickle_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    harm, arrays = hostile_values()[name], arrays_of("1d")
    tree = {
        "top": harm,
        "attribute": module_of(arrays, harm=harm),
        "weight": {**dict.fromkeys(arrays), "conv.0.weight": harm},
    }[place]
    text = said(write(tmp_path, torch_file(tree, arrays)))
    assert "nothing of it was run" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.bin"]


def test_these_programs_do_run_where_pickle_loads_them(tmp_path: Path) -> None:
    """So that the test above tests something."""
    (tmp_path / "program").write_bytes(pickled(hostile_values()["os.system"]))
    (tmp_path / "other").write_bytes(pickled(hostile_values()["eval"]).replace(b"MARKER", b"MARK_2"))
    code = "import pickle; pickle.load(open('program', 'rb')); pickle.load(open('other', 'rb'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "MARKER").exists() and (tmp_path / "MARK_2").exists()


def deep(levels: int) -> bytes:
    return b"\x80\x02)" + b"\x85" * levels


RAW = {
    "text of protocol 0": (b"cos\nsystem\n(S'touch MARKER'\ntR.", "names os.system"),
    "INST": (b"(S'touch MARKER'\nios\nsystem\n.", "the operation INST"),
    "OBJ": (b"(c__builtin__\nset\no.", "the operation OBJ"),
    "EXT1": (b"\x82\x01.", "the operation EXT1"),
    "PERSID": (b"P../../../etc/passwd\n.", "the operation PERSID"),
    "STACK_GLOBAL": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.", "names os.system"),
    "dotted name": (b"\x80\x04\x8c\x05torch\x8c\x0fhub.load.system\x93)R.", "names torch.hub.load.system"),
    "name that is no text": (b"\x80\x04K\x01K\x02\x93.", "is damaged"),
    "name with a line break": (b"\x80\x04\x8c\x02os\x8c\x06a\x1b[2J\n\x93.", "names os.a?[2J"),
    "call of a call": (b"\x80\x02c__builtin__\nset\n]\x85R(tR.", "calls what is not a function"),
    "call without a tuple": (b"\x80\x02c__builtin__\nset\nN R.", "is damaged"),
    "state of a function": (b"\x80\x02ctorch._utils\n_rebuild_tensor\n}b.", "is damaged"),
    "memo of nothing": (b"\x80\x02h\x05.", "is damaged"),
    "memo far away": (b"\x80\x02}r\xff\xff\xff\x7f0j\xff\xff\xff\x7f.", "conv.0.weight and 11 more are missing"),
    "text longer than the file": (b"\x80\x02X\xff\xff\xff\x7fabc.", "is damaged"),
    "frame longer than the file": (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "is damaged"),
    "huge number": (b"\x80\x02L" + b"9" * 100_000 + b"L\n.", "is damaged"),
    "empty": (b"", "is damaged"),
    "no end": (b"\x80\x02}", "is damaged"),
    "deep": (deep(900_000) + b".", "neither a network"),
    "deep key": (b"\x80\x02}" + deep(300_000)[2:] + b"Ns.", "is damaged"),
    "deep list": (b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".", "neither a network"),
    "pickle too long": (b"\x80\x02" + b"N0" * (600 << 10) + b"N.", "is damaged"),
}


@pytest.mark.parametrize("name", sorted(RAW))
def test_programs_that_no_pickler_writes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    program, message = RAW[name]
    assert message in said(write(tmp_path, torch_file(program, arrays_of("1d"))))
    assert not (tmp_path / "MARKER").exists()


def test_a_module_that_holds_itself_is_visited_once(tmp_path: Path) -> None:
    arrays = arrays_of("1d")
    top = module_of(arrays)
    top.state["_modules"]["again"] = top
    read = read_weights(write(tmp_path, torch_file(top, arrays)), "1d")
    assert set(read) == set(arrays)


def test_modules_that_share_others_do_not_multiply(tmp_path: Path) -> None:
    inner = Made("torch.nn.modules.container.Sequential", {"_modules": {}})
    for _ in range(25):  # 60 ** 25 paths lead to the innermost
        inner = Made("torch.nn.modules.container.Sequential", {"_modules": {str(i): inner for i in range(60)}})
    assert "are missing" in said(write(tmp_path, torch_file(inner, {})))


def test_a_zip_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    arrays = arrays_of("1d")
    count = (files.MAX_ARRAY_BYTES >> 2) + 1
    tree = state_dict(arrays)
    identity = ("storage", Named("torch.FloatStorage"), "0", "cpu", count)
    tree.values["conv.0.weight"] = Stored(arrays["conv.0.weight"], 0, identity=identity)
    zeros = {"data/0": bytes(4 * count)}
    path = write(tmp_path, torch_file(tree, arrays, members=zeros, compression=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 200_000
    assert f"its storage has {4 * count} bytes" in said(path)


def test_no_module_beside_the_weights_is_imported(tmp_path: Path) -> None:
    path = write(tmp_path, FORMATS["keras"](arrays_of("1d"), "1d"))
    (tmp_path / "h5py.py").write_text("open('MARKER', 'w').close()\n")
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; "
        "from cnnspark.models.gatk_weights.keras_hdf5 import read_layers;"
        "print(len(read_layers(open(sys.argv[1], 'rb').read())))"
    )
    command = [sys.executable, "-c", code, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(LAYERS["1d"])
    assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"identity": ("storage", Named("torch.FloatStorage"), "../../../etc/passwd", "cpu", 24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "/etc/passwd", "cpu", 24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), 0, "cpu", 24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "77", "cpu", 24)}, "is damaged at conv.0.weight"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "0", "cpu", -24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "0", "cpu", 1 << 39)}, "is damaged at conv.0.weight"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "0", "cpu", 25)}, "is damaged at conv.0.weight"),
        ({"identity": ("storage", Named("torch.LongStorage"), "1", "cpu", 24)}, "conv.0.weight"),
        ({"identity": ("module", Named("torch.FloatStorage"), "0", "cpu", 24)}, "is damaged"),
        ({"identity": ("storage", Named("nobody.Storage"), "0", "cpu", 24)}, "is of a type that is not known"),
        ({"identity": "0"}, "is damaged"),
        ({"offset": 1}, "does not lie within"),
        ({"offset": -1}, "no proper shape"),
        ({"offset": 1 << 70}, "no proper shape"),
        ({"strides": (-12, 3, 1)}, "no proper shape"),
        ({"strides": (1 << 39, 3, 1)}, "does not lie within"),
        ({"strides": (12, 3)}, "no proper shape"),
        ({"shape": (2, 4, 3, 1)}, "no proper shape"),
        ({"shape": (1 << 39, 4, 3), "strides": (0, 0, 0)}, "instead of (2, 4, 3)"),
        ({"shape": (True, 4, 3)}, "no proper shape"),
        ({"shape": "abc"}, "no proper shape"),
    ],
)
def test_arrays_do_not_leave_their_storage(tmp_path: Path, other: dict, message: str) -> None:
    arrays = arrays_of("1d")
    tree = state_dict(arrays)
    tree.values["conv.0.weight"] = Stored(arrays["conv.0.weight"], 0, **other)
    assert message in said(write(tmp_path, torch_file(tree, arrays)))


def test_links_out_of_a_keras_file_are_not_followed(tmp_path: Path) -> None:
    arrays = arrays_of("1d")
    elsewhere = tmp_path / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["bias:0"] = np.zeros(4, np.float32)
        file["group/bias:0"] = np.zeros(4, np.float32)
    (tmp_path / "raw").write_bytes(bytes(16))
    group, name = "model_weights/layer_0/layer_0", "bias:0"

    def external(file: h5py.File) -> None:
        del file[group][name]
        file[group][name] = h5py.ExternalLink(str(elsewhere), "bias:0")

    def external_group(file: h5py.File) -> None:
        file["model_weights/more"] = h5py.ExternalLink(str(elsewhere), "group")

    def external_top(file: h5py.File) -> None:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink(str(elsewhere), "/")

    def soft(file: h5py.File) -> None:
        del file[group][name]
        file[group][name] = h5py.SoftLink("/model_weights/layer_1/layer_1/bias:0")

    def virtual(file: h5py.File) -> None:
        del file[group][name]
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(elsewhere), "bias:0", (4,))
        file[group].create_virtual_dataset(name, layout)

    def raw(file: h5py.File) -> None:
        del file[group][name]
        file[group].create_dataset(name, (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])

    def filtered(file: h5py.File) -> None:
        del file[group][name]
        file[group].create_dataset(name, data=np.zeros(4, np.float32), chunks=(4,), scaleoffset=2)

    def text(file: h5py.File) -> None:
        del file[group][name]
        file[group][name] = ["a", "b"]

    def circle(file: h5py.File) -> None:
        file[group]["again"] = file[group]

    for change, message in (
        (external, "is a link to elsewhere"),
        (external_group, "is a link to elsewhere"),
        (external_top, "is a link to elsewhere"),
        (soft, "is a link to elsewhere"),
        (virtual, "stand in another file"),
        (raw, "stand in another file"),
        (filtered, "unusual way"),
        (text, "not numbers"),
        (circle, "nested without end"),
    ):
        assert message in said(write(tmp_path, keras_file(arrays, "1d", change))), change


# ---- any damage


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


@pytest.mark.parametrize("name", ["module", "state dict", "npz"])
@same_folder
@given(changes=changes, length=lengths)
def test_changed_bytes_give_weights_or_a_sentence(
    tmp_path: Path, name: str, changes: list[tuple[int, int]], length: float
) -> None:
    whole = FORMATS[name](arrays_of("1d"), "1d")
    survives(tmp_path / "damaged", damaged(whole, changes, length))


@same_folder
@given(changes=changes, length=lengths)
def test_changed_bytes_of_a_pickle_give_weights_or_a_sentence(
    tmp_path: Path, changes: list[tuple[int, int]], length: float
) -> None:
    """The zip stays whole, so that its checksums do not find the damage first."""
    arrays = arrays_of("1d")
    program = damaged(pickled(module_of(arrays)), changes, length)
    survives(tmp_path / "damaged", torch_file(program, arrays))


@same_folder
@given(program=st.binary(max_size=200))
def test_any_bytes_as_a_pickle_give_a_sentence(tmp_path: Path, program: bytes) -> None:
    survives(tmp_path / "damaged", torch_file(program, arrays_of("1d")))


def keras_damage(count: int) -> list[bytes]:
    """Files with bytes changed where they are not zero: that is where HDF5 says what lies where."""
    whole, rng = keras_file(arrays_of("1d"), "1d"), np.random.default_rng(4)
    places = np.flatnonzero(np.frombuffer(whole, np.uint8))
    return [
        damaged(whole, [(int(rng.choice(places)), int(rng.integers(256))) for _ in range(3)], 1) for _ in range(count)
    ]


def test_changed_bytes_of_a_keras_file_give_weights_or_a_sentence(tmp_path: Path) -> None:
    for data in keras_damage(12):
        survives(tmp_path / "damaged", data)


@pytest.mark.slow
def test_many_changed_bytes_of_a_keras_file_give_weights_or_a_sentence(tmp_path: Path) -> None:
    for data in keras_damage(300):
        survives(tmp_path / "damaged", data)


def test_a_reader_of_hdf5_that_never_ends_or_dies_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, keras_file(arrays_of("1d"), "1d"))
    monkeypatch.setattr("cnnspark.models.gatk_weights.keras_hdf5.MAX_SECONDS", 0.01)
    assert "has not ended" in said(path)
    monkeypatch.setattr("cnnspark.models.gatk_weights.keras_hdf5.MAX_SECONDS", 30)
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    os.chmod(dying, 0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    assert "cannot read it" in said(path)


def test_weights_are_read_without_keras(tmp_path: Path) -> None:
    code = (
        "import sys, cnnspark.models.gatk_weights.files as g;"
        "assert not {'keras', 'tensorflow', 'pyspark', 'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
