"""From a file of weights to a bundle, by the command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from cnnspark.cli import main
from cnnspark.models.card import read_card
from tests.models.gatk_weights.weight_files import (
    FORMATS,
    arrays_of,
    write,
)


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
