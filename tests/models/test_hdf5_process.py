"""A bundle's network whose weights link to other files, or never end, is refused before Keras opens it."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnnspark.errors import InputError
from cnnspark.models.hdf5_process import check_network
from tests.conftest import ROOT

BUNDLE = ROOT / "cnnspark" / "pretrained" / "reference"


def changed(tmp_path: Path, change: Callable[[h5py.File], object] | None = None, member: str = "") -> Path:
    """The bundled network with its weights changed, or one more member."""
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(BUNDLE / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if change and info.filename == "model.weights.h5":
                file = io.BytesIO(content)
                with h5py.File(file, "r+") as weights:
                    change(weights)
                content = file.getvalue()
            new.writestr(info.filename, content)
        if member:
            new.writestr(member, b"x")
    return path


def test_a_network_that_keras_wrote_can_be_opened(tmp_path: Path) -> None:
    check_network(changed(tmp_path), "whole", "m")
    shutil.rmtree(tmp_path)
    check_network(tmp_path / "gone", "whole", "m")  # the same digest is not looked at again


def test_what_a_stranger_may_write_is_refused(tmp_path: Path) -> None:
    def link(file: h5py.File) -> None:
        file["layers/more"] = h5py.ExternalLink("/etc/passwd", "/")

    def elsewhere(file: h5py.File) -> None:
        file.create_dataset("layers/more", (4,), "f4", external=[("/etc/passwd", 0, 16)])

    def text(file: h5py.File) -> None:
        file["layers/more"] = ["a"]

    def large(file: h5py.File) -> None:
        file.create_dataset("layers/more", (1 << 30,), "f4", chunks=(1 << 20,))

    def circle(file: h5py.File) -> None:
        file["layers/more"] = file["layers"]

    for change, message in (
        (link, "is a link to elsewhere"),
        (elsewhere, "stand in another file"),
        (text, "not numbers"),
        (large, "is too large"),
        (circle, "nested without end"),
    ):
        with pytest.raises(InputError, match=f"^m cannot be opened .*{message}.*; use a bundle written by"):
            check_network(changed(tmp_path, change), message, "m")
    with pytest.raises(InputError, match="other members than Keras writes"):
        check_network(changed(tmp_path, member="code.py"), "member", "m")
    damaged = changed(tmp_path)
    content = np.frombuffer(damaged.read_bytes(), np.uint8).copy()
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content.tobytes())
    with pytest.raises(InputError, match="m cannot be opened"):
        check_network(damaged, "damaged", "m")
