"""A model bundle from the weights that GATK published: the network, its arrays, and a card that says where from."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnspark._version import __version__
from cnnspark.common.storage import location, make_room, require_free
from cnnspark.errors import UsageError
from cnnspark.models.bundle import save_bundle
from cnnspark.models.bundle_files import CARD_FILE
from cnnspark.models.card import Card
from cnnspark.models.gatk_weights.files import read_content, weights_in
from cnnspark.models.gatk_weights.layout import LAYERS, weight_shapes
from cnnspark.models.networks.gatk import GATK_ROWS, assign_weights, check_arrays
from cnnspark.models.networks.registry import build_model
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.annotations import GATK_ANNOTATIONS

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


def imported_card(kind: str, arrays: Mapping[str, np.ndarray], source: str = "") -> Card:
    """The card of imported weights.

    It has no thresholds, metrics or ranges: the moments of the annotations are all that is known of the training data.

    Args:
        kind: One of :data:`cnnspark.models.names.GATK_MODELS`.
        arrays: By name, as in :data:`cnnspark.models.networks.gatk.GATK_SHAPES`.
        source: Says where the weights come from.

    Returns:
        A card for tensors of ``encoding: gatk``.
    """
    prefix = next(layer.name for layer in LAYERS[kind.removeprefix("gatk_")] if layer.normalises)
    means, variances = (tuple(map(float, arrays[f"{prefix}.running_{name}"])) for name in ("mean", "var"))
    packages = ("keras", "tensorflow", "numpy")
    return Card(
        model=kind,
        spec=ModelSpec(
            annotation_names=GATK_ANNOTATIONS,
            read_limit=GATK_ROWS,
            annotation_means=means,
            annotation_variances=variances,
        ),
        training={"imported_from": source},
        data={"tensors": asdict(TensorSettings(encoding="gatk", read_limit=GATK_ROWS))},
        versions={"cnnspark": __version__} | {name: importlib.metadata.version(name) for name in packages},
    )


def gatk_bundle(
    kind: str, arrays: Mapping[str, np.ndarray], model_out: str | Path, source: str = "", replace: bool = False
) -> Card:
    """Writes a bundle with these weights; returns its card.

    Args:
        kind: One of :data:`cnnspark.models.names.GATK_MODELS`.
        arrays: By name, in PyTorch's layout, as in :data:`cnnspark.models.networks.gatk.GATK_SHAPES`.
        model_out: The bundle's folder, or its address on a store.
        source: Says where the weights come from.
        replace: Whether a bundle that is there is replaced.

    Raises:
        InputError: if the arrays are not the weights of ``kind``, or ``model_out`` exists and ``replace`` is not given.
    """
    check_arrays(kind, arrays)
    card = imported_card(kind, arrays, source)
    model = build_model(kind, card.spec)
    assign_weights(model, arrays)
    return save_bundle(model_out, model, card, replace=replace)


def import_weights(path: str, kind: str, model_out: str, overwrite: bool = False) -> Card:
    """Makes a model bundle, ready for scoring, from a file with GATK's weights. Neither Spark nor PyTorch is needed.

    Args:
        path: HDF5 of Keras, a zip of PyTorch, or npz.
        kind: One of :data:`cnnspark.models.gatk_weights.layout.KINDS`.
        model_out: The bundle's folder, or its address on a store.
        overwrite: Whether a bundle that is there is replaced.

    Returns:
        The bundle's card.

    Raises:
        InputError: if the file is damaged, hostile, or does not hold the weights of this network.
        UsageError: if ``kind`` is unknown, or ``model_out`` exists and ``overwrite`` is not given, is not a bundle, or
            cannot be written.
    """
    weight_shapes(kind)
    target = location(model_out)
    _check_target(target, overwrite)
    data = read_content(Path(path))
    arrays = weights_in(path, data, kind)
    make_room(target, "--model-out")
    source = f"{Path(path).name}, SHA-256 {hashlib.sha256(data).hexdigest()}"
    return gatk_bundle(f"gatk_{kind}", arrays, model_out, source, replace=overwrite)


def _check_target(target: Location, overwrite: bool) -> None:
    require_free(target, overwrite, "--model-out")
    if not target.exists():
        return
    if target.is_file() or (any(target.iterdir()) and not (target / CARD_FILE).exists()):
        raise UsageError(f"{target} is not a model bundle; choose another --model-out")
