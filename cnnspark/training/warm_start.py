"""Training that starts from a model: what is kept of its card and weights. No Spark, no TensorFlow.

The quantiles that encode annotations and site features belong to a network as its weights do. So the names of the
inputs and their quantiles are those of the model that training starts from, not of the new training data.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnnspark.common.storage import absolute
from cnnspark.errors import UsageError
from cnnspark.models.card import read_card
from cnnspark.models.spec import ModelSpec

if TYPE_CHECKING:
    import keras

    from cnnspark.models.card import Card


# Networks that contain another one, in layers of the same names: (that one, the whole).
PARTS = (("features", "reads"),)


def starting_card(path: str, model: str, model_out: str, whole: bool = False) -> Card:
    """The card of the bundle that a training starts from.

    Args:
        path: the folder of the bundle.
        model: the network that is trained.
        model_out: the folder of the bundle that is to be written.
        whole: whether the bundle must be of that very network; otherwise it may be of a part of it.

    Raises:
        InputError: if there is no bundle.
        UsageError: if the bundle is of another network, or the one to be written.
    """
    if os.path.realpath(absolute(path)) == os.path.realpath(absolute(model_out)):
        raise UsageError(f"training cannot start from {path} and write there; choose another --model-out")
    card = read_card(path)
    if card.model != model and (whole or (card.model, model) not in PARTS):
        raise UsageError(
            f"{path} is a '{card.model}' model, '{model}' cannot start from it; leave --model out, or choose another "
            f"{'train.picture' if whole else '--init'}"
        )
    return card


class Start(NamedTuple):
    """The spec of a network that starts from a bundle, and the places of its inputs in the data.

    The places of annotations and site features are as :func:`arranged` takes them.
    """

    spec: ModelSpec
    annotation_columns: tuple[int, ...]
    feature_columns: tuple[int, ...]


def starting_spec(
    path: str,
    card: Card,
    annotations: Sequence[str],
    features: Sequence[str],
    read_limit: int,
    chosen: Mapping[str, Any],
) -> Start:
    """What a network that starts from a bundle takes of the data.

    Args:
        path: the folder of the bundle.
        card: its card.
        annotations: names of the annotations in the data.
        features: names of the site features in the data.
        read_limit: the most reads of an allele in the data.
        chosen: fields of the spec that the new training sets itself, by name.

    Raises:
        UsageError: if the data lack site features, or have another limit of reads.
    """
    lacking = [name for name in card.feature_names if name not in features]
    if lacking:
        raise UsageError(
            f"{path} takes {len(card.feature_names)} site features, the dataset has {len(features)}, without "
            f"{_list(lacking)}; build the dataset with the settings of the model's own"
        )
    if read_limit != card.spec.read_limit:
        raise UsageError(
            f"{path} takes {card.spec.read_limit} reads an allele at most, the dataset has {read_limit}; build the "
            f"dataset with --set tensors.read_limit={card.spec.read_limit}"
        )
    places = {_full_name(name): place for place, name in enumerate(annotations)}
    columns = tuple(places.get(_full_name(name), -1) for name in card.annotation_names)
    of_features = tuple(features.index(name) for name in card.feature_names)
    return Start(dataclasses.replace(card.spec, **chosen), columns, of_features)


def _full_name(annotation: str) -> str:
    """``INFO/X`` for ``X``, which is the same annotation."""
    return annotation if annotation == "QUAL" or "/" in annotation else f"INFO/{annotation}"


def arranged(values: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Puts columns into another order.

    Args:
        values: (n, A).
        columns: for each column of the result its place in ``values``; -1 for a missing one.

    Returns:
        float32 (n, len(columns)); missing columns are NaN.
    """
    nothing = np.full((len(values), 1), np.nan, np.float32)
    return np.concatenate([values, nothing], axis=1)[:, list(columns)].astype(np.float32)


def columns_text(what: str, names: Sequence[str], own: Sequence[str], columns: Sequence[int]) -> str:
    """Which inputs of the model the data lack, and which inputs in the data the model does not take.

    Args:
        what: "annotations" or "site features".
        names: those of the model.
        own: those of the data.
        columns: of :func:`starting_spec`.

    Returns:
        One line, empty if they are the same.
    """
    missing = [name for name, column in zip(names, columns, strict=True) if column < 0]
    unknown = [name for place, name in enumerate(own) if place not in columns]
    parts = [f"without {_list(missing)}, which the model knows"] if missing else []
    parts += [f"{_list(unknown)} left out, which it does not know"] if unknown else []
    return f"the dataset's {what}: {'; '.join(parts)}" if parts else ""


def _list(names: Sequence[str]) -> str:
    """At most three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def take_weights(model: keras.Model, source: keras.Model, untrained: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Gives each layer of a network the weights of another network's layer of the same name and shapes.

    Args:
        model: the network that takes.
        source: the network that gives.
        untrained: names of layers that are left as they are: the source has only their random first weights.

    Returns:
        The names of the layers with weights that were taken, and of those that stay new.
    """
    of_source: Mapping[str, Any] = {layer.name: layer for layer in source.layers}
    passed_over = set(untrained)
    taken, new = [], []
    for layer in model.layers:
        if not layer.weights:
            continue
        other = of_source.get(layer.name) if layer.name not in passed_over else None
        if other is None or [w.shape for w in other.weights] != [w.shape for w in layer.weights]:
            new.append(layer.name)
            continue
        for weight, value in zip(layer.weights, other.weights, strict=True):
            weight.assign(np.asarray(value))
        taken.append(layer.name)
    return taken, new


def taken_text(path: str, taken: Sequence[str], new: Sequence[str]) -> str:
    """How much of a network was found in the bundle at ``path``, in one line; takes what :func:`take_weights` gives."""
    if not taken:
        return f"nothing of {path} fits the network: all its layers are new"
    if not new:
        return f"training starts from all {len(taken)} layers of {path}"
    return f"training starts from {len(taken)} of {len(taken) + len(new)} layers of {path}; new: {_list(new)}"


def weights_between(
    start: Sequence[np.ndarray], end: Sequence[np.ndarray], shares: Sequence[float]
) -> list[np.ndarray]:
    """Mixes the weights that training started from into those that it ends with.

    Args:
        start: the first weights.
        end: the last ones, of the same shapes.
        shares: of the first in each of the result, from 0 to 1.

    Returns:
        Arrays of the shapes and dtypes of ``end``; arrays of whole numbers are those of ``end``.
    """
    return [
        (kept * old + (1 - kept) * new).astype(new.dtype) if np.issubdtype(new.dtype, np.floating) else new
        for old, new, kept in zip(start, end, shares, strict=True)
    ]
