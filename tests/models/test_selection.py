"""The chosen model as one value: which bundle a name means, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.models import bundle_files
from cnnspark.models.bundle_files import bundle_folder
from cnnspark.models.card import model_tensors, read_card
from cnnspark.models.selection import SelectedModel, select_model
from cnnspark.tensors.settings import TensorSettings


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    """A bundle that does not come with cnnspark: a copy of the bundled ``reference``."""
    return Path(shutil.copytree(bundle_folder("bundled:reference"), tmp_path / "mine"))


@pytest.mark.parametrize(
    ("name", "with_reads", "path", "needs_reads"),
    [
        (None, True, "bundled:reads", True),
        (None, False, "bundled:reference", False),
        ("reads", False, "bundled:reads", True),
        ("reference", True, "bundled:reference", False),
        ("features", False, "bundled:features", True),
        ("bundled:features", True, "bundled:features", True),
    ],
)
def test_a_bundled_model_is_selected_by_name_or_by_the_inputs(
    name: str | None, with_reads: bool, path: str, needs_reads: bool
) -> None:
    model = select_model(name, with_reads)
    assert model == SelectedModel(path, read_card(path))
    assert model.is_bundled and model.needs_reads is needs_reads
    assert "trained on simulated reads alone" in model.notice
    assert model.card.score_key == ("CNN_2D" if needs_reads else "CNN_1D")


def test_a_model_of_the_users_is_absolute_and_has_no_notice(
    own_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = select_model("mine", with_reads=True)
    assert model.path == str(own_model) and model.card == read_card("bundled:reference")
    assert not model.is_bundled and model.notice == "" and not model.needs_reads
    # A folder comes before a bundled model of the same name.
    shutil.copytree(own_model, tmp_path / "reads")
    assert select_model("reads", with_reads=True).path == str(tmp_path / "reads")


def test_the_tensors_are_those_that_the_model_was_trained_with() -> None:
    model = select_model("reads", with_reads=True)
    wanted = TensorSettings(on_ref_mismatch="skip")
    assert model.tensors(wanted) == model_tensors(model.path, model.card, wanted)
    assert model.tensors(wanted).on_ref_mismatch == "skip"
    with pytest.raises(UsageError, match="bundled:reads was trained on tensors of other settings"):
        model.tensors(TensorSettings(read_limit=7))


def test_a_pretrained_model_is_refused(own_model: Path) -> None:
    card = json.loads((own_model / "model.json").read_text())
    del card["card_sha256"]
    card["training"]["objective"] = "pretrain"
    (own_model / "model.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match=f"{own_model} is pre-trained only; finish it with 'cnnspark train --init"):
        select_model(str(own_model), with_reads=True)


def test_what_is_not_a_model_is_one_sentence(own_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is not a model bundle"):
        select_model(str(tmp_path / "nowhere"), with_reads=True)
    with open(own_model / "model.keras", "ab") as network:
        network.write(b"x")
    with pytest.raises(InputError, match="is not the network its card describes"):
        select_model(str(own_model), with_reads=True)
    monkeypatch.setattr(bundle_files, "_FOLDER", tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no bundled models"):
        select_model(None, with_reads=True)


def test_a_model_is_selected_without_spark_and_tensorflow() -> None:
    code = (
        "import sys; from cnnspark.models import select_model; print(select_model(None, True).path);"
        "print({'keras', 'tensorflow', 'pyspark', 'petastorm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["bundled:reads", "set()"]
