"""Bundles that earlier versions wrote still load, and score as they did.

``data/before_the_move`` was written by the code of commit 832085f, when the layers were in ``cnnspark.models.layers``
and ``cnnspark.models.gatk``. Its small network has every layer of cnnspark once. The numbers below are those of that
commit. The files are never written anew: users have such bundles.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnspark.models.bundle import load_bundle
from cnnspark.models.bundle_files import NETWORK_FILE, bundle_folder
from cnnspark.models.card import Card
from cnnspark.models.networks import gatk, layers
from cnnspark.tensors.schema import REF_COLUMN, SUPPORTS_ALT, SUPPORTS_REF, WINDOW

KEPT = Path(__file__).parent / "data" / "before_the_move"
OWN_MODULES = {"cnnspark.models.layers", "cnnspark.models.gatk"}
BUNDLED_LOGITS = {
    "features": [0.5074683427810669, -0.8316363096237183, -6.689791202545166, 2.502023458480835],
    "reads": [1.727564811706543, -0.6613641977310181, -5.303604602813721, 2.9654202461242676],
    "reference": [-2.6295363903045654, -2.0817372798919678, -0.8039835095405579, -1.172504186630249],
}
KEPT_LOGITS = [0.31019216775894165, 0.2916443645954132, 0.9433527588844299, 1.1230071783065796]


def own_layers(network: Path) -> list[dict[str, Any]]:
    """The entries of cnnspark's layers in a ``.keras`` file, as Keras wrote them."""
    with zipfile.ZipFile(network) as archive:
        config = json.loads(archive.read("config.json"))
    found = [layer for layer in config["config"]["layers"] if layer["module"].startswith("cnnspark")]
    assert found
    return found


def fixed_batch(annotations: np.ndarray, site_features: np.ndarray) -> dict[str, np.ndarray]:
    """Four alleles with up to eight reads, by arithmetic alone: no generator of random numbers may change them."""
    allele, row, column = np.arange(4)[:, None], np.arange(8), np.arange(WINDOW)
    reference = 1 + (column * column // 3 + 5 * allele * column + allele) % 4  # (4, W)
    alternate = np.where(column == REF_COLUMN, reference % 4 + 1, reference)
    support = np.array([SUPPORTS_REF, SUPPORTS_ALT])[(row + allele) % 2]  # (4, 8)
    bases = np.where((support == SUPPORTS_ALT)[..., None], alternate[:, None], reference[:, None])  # (4, 8, W)
    quals = 20 + (column + 3 * row[:, None]) % 20
    return {
        "read_bases": bases.astype(np.uint8),
        "read_quals": np.broadcast_to(quals, bases.shape).astype(np.uint8),
        "read_flags": np.array([99, 147, 83, 163], np.int32)[(row + allele) % 4],
        "read_mapqs": (60 - 5 * ((row + allele) % 3)).astype(np.uint8),
        "read_support": support.astype(np.uint8),
        "row_count": np.array([8, 7, 5, 3], np.int32),
        "reference": reference.astype(np.uint8),
        "alternate": alternate.astype(np.uint8),
        "variant_type": np.array([0, 2, 4, 1], np.int32),
        "annotations": annotations.astype(np.float32),
        "site_features": site_features.astype(np.float32),
    }


def usual_values(card: Card, names: tuple[str, ...]) -> np.ndarray:
    """(4, names): edges of the card's histograms, from two before their middle to one behind it; NaN without edges."""
    assert card.known is not None
    edges = {histogram.name: histogram.edges for histogram in card.known.histograms}

    def value(name: str, shift: int) -> float:
        row = edges[name]
        return row[min(len(row) - 1, max(0, len(row) // 2 + shift))] if row else np.nan

    return np.array([[value(name, shift) for name in names] for shift in (-2, -1, 0, 1)]).reshape(4, len(names))


@pytest.mark.parametrize("name", sorted(BUNDLED_LOGITS))
def test_the_bundled_models_load_although_their_layers_have_moved(name: str) -> None:
    for layer in own_layers(bundle_folder(f"bundled:{name}") / NETWORK_FILE):
        assert layer["module"] in OWN_MODULES
        assert layer["registered_name"] == f"cnnspark>{layer['class_name']}"
    bundle = load_bundle(f"bundled:{name}")
    card = bundle.card
    batch = fixed_batch(usual_values(card, card.annotation_names), usual_values(card, card.feature_names))
    np.testing.assert_allclose(bundle.logits(batch), BUNDLED_LOGITS[name], rtol=1e-5, atol=1e-5)


def test_a_bundle_with_every_layer_loads_and_scores_as_it_did() -> None:
    written = own_layers(KEPT / NETWORK_FILE)
    assert {layer["module"] for layer in written} == OWN_MODULES
    bundle = load_bundle(KEPT)
    annotations = np.array([[0.5, -0.5], [2.5, np.nan], [np.nan, 0.25], [9, 0]])
    batch = fixed_batch(annotations, np.zeros((4, 0)))
    np.testing.assert_allclose(bundle.logits(batch), KEPT_LOGITS, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        bundle.predict(batch), 1 / (1 + np.exp(-(0.75 * np.array(KEPT_LOGITS) - 0.25))), atol=1e-5
    )


def test_the_kept_bundle_has_each_layer_that_existed_then() -> None:
    """A layer that is renamed or no longer registered makes bundles unreadable; a new one needs no old bundle."""
    names = {layer["registered_name"] for layer in own_layers(KEPT / NETWORK_FILE)}
    registered = {
        keras.saving.get_registered_name(value)
        for module in (layers, gatk)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, keras.layers.Layer) and value.__module__ == module.__name__
    }
    assert names <= registered and len(names) == 17
