"""Keras HDF5 files of other networks, with links and filters, and with any damage: one sentence, nothing followed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnnspark.models.gatk_weights.files import read_weights
from cnnspark.models.gatk_weights.layout import LAYERS
from tests.conftest import ROOT
from tests.models.gatk_weights.weight_files import (
    FORMATS,
    arrays_of,
    damaged,
    keras_file,
    said,
    survives,
    write,
)


def test_a_keras_file_of_another_network_is_said_so(tmp_path: Path) -> None:
    arrays = arrays_of("1d")

    def one_more(file: h5py.File) -> None:
        file["model_weights/extra/kernel:0"] = np.zeros((3, 3), np.float32)

    def one_less(file: h5py.File) -> None:
        del file["model_weights/layer_1"]

    def other_bias(file: h5py.File) -> None:
        del file["model_weights/layer_0/layer_0/bias:0"]
        file["model_weights/layer_0/layer_0/bias:0"] = np.zeros(9, np.float32)

    def empty(file: h5py.File) -> None:
        del file["model_weights"]

    for change, message in (
        (one_more, "(kernel) does not belong there"),
        (one_less, "dense_1.0.weight and 1 more are missing"),
        (other_bias, "dense_3.bias is (9,) instead of (4,)"),
        (empty, "iteration:0 holds int64"),
    ):
        assert message in said(write(tmp_path, keras_file(arrays, "1d", change)))


def test_a_dense_kernel_behind_maps_with_channels_first_is_put_in_the_order_of_channels_last(tmp_path: Path) -> None:
    """Oracle: the maps, flattened in either order, times the kernel of that order."""
    arrays, rng = arrays_of("2d_mix"), np.random.default_rng(3)
    maps, more = rng.random((5, 2, 3)), rng.random(6)  # (rows, columns, channels)

    def first(file: h5py.File) -> None:
        file.attrs["model_config"] = '{"data_format": "channels_first"}'

    found = read_weights(write(tmp_path, keras_file(arrays, "2d_mix", first)), "2d_mix")
    given = np.concatenate([maps.transpose(2, 0, 1).ravel(), more])
    expected = arrays["dense_2.0.weight"] @ given
    np.testing.assert_allclose(found["dense_2.0.weight"] @ np.concatenate([maps.ravel(), more]), expected)
    for name in arrays.keys() - {"dense_2.0.weight"}:
        np.testing.assert_array_equal(found[name], arrays[name])


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_kernels_of_theano_are_turned_round(tmp_path: Path, kind: str) -> None:
    arrays = arrays_of(kind)

    def of_theano(file: h5py.File) -> None:
        file.attrs["backend"] = b"theano"
        kernels: list[h5py.Dataset] = []
        file.visititems(lambda _, item: kernels.append(item) if getattr(item, "ndim", 0) > 2 else None)
        assert kernels
        for kernel in kernels:
            kernel[...] = np.flip(kernel[()], axis=tuple(range(kernel.ndim - 2)))

    def of_another(file: h5py.File) -> None:
        file.attrs["backend"] = "cntk"

    found = read_weights(write(tmp_path, keras_file(arrays, kind, of_theano)), kind)
    expected = read_weights(write(tmp_path, keras_file(arrays, kind)), kind)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert "Keras on 'cntk'" in said(write(tmp_path, keras_file(arrays, kind, of_another)))


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


def keras_damage(count: int) -> list[bytes]:
    """Files with changed bytes, at places that are not zero: there HDF5 keeps its structure."""
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
    monkeypatch.setattr("cnnspark.models.hdf5_process.MAX_SECONDS", 0.01)
    assert "has not ended" in said(path)
    monkeypatch.setattr("cnnspark.models.hdf5_process.MAX_SECONDS", 30)
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    os.chmod(dying, 0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    assert "cannot read it" in said(path)
