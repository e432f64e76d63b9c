"""GATK's weights from every format, and files that hold none or are damaged: one sentence."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given

from cnnspark.errors import UsageError
from cnnspark.models.gatk_weights import files
from cnnspark.models.gatk_weights.files import read_weights
from tests.models.gatk_weights.weight_files import (
    FORMATS,
    Called,
    Named,
    Stored,
    arrays_of,
    changes,
    damaged,
    keras_file,
    lengths,
    module_of,
    npz_file,
    pickled,
    said,
    same_folder,
    state_dict,
    survives,
    torch_file,
    write,
)


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


@pytest.mark.parametrize("kind", ["1d", "2d", "2d_mix"])
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_gives_the_arrays_that_were_written(tmp_path: Path, name: str, kind: str) -> None:
    arrays = arrays_of(kind)
    path = write(tmp_path, FORMATS[name](arrays, kind))
    got = read_weights(path, kind)
    assert list(got) == list(arrays)
    for key, values in arrays.items():
        np.testing.assert_array_equal(got[key], values)
    other = {"1d": "2d_mix", "2d": "1d", "2d_mix": "2d"}[kind]
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


@pytest.mark.parametrize("name", ["module", "state dict", "npz"])
@same_folder
@given(changes=changes, length=lengths)
def test_changed_bytes_give_weights_or_a_sentence(
    tmp_path: Path, name: str, changes: list[tuple[int, int]], length: float
) -> None:
    whole = FORMATS[name](arrays_of("1d"), "1d")
    survives(tmp_path / "damaged", damaged(whole, changes, length))


def test_weights_are_read_without_keras(tmp_path: Path) -> None:
    code = (
        "import sys, cnnspark.models.gatk_weights.files as g;"
        "assert not {'keras', 'tensorflow', 'pyspark', 'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
