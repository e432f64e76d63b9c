"""Training that starts from a model: what the new one keeps of its card, and how data suit it. Pure.

The quantiles that encode annotations and site features are part of a network's weights, as it were, so the named lists
and their edges are those of the model that training starts from, not of the new training data.
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


# Networks that hold another one whole, in layers of the same names: (that one, the whole).
PARTS = (("features", "reads"),)


def starting_card(path: str, model: str, model_out: str, whole: bool = False) -> Card:
    """The card of the bundle at ``path`` that a training of ``model`` starts from; ``whole``: of that very network.

    Raises InputError where it is no bundle, UsageError where it is one of another network or the bundle to be written.
    """
    if os.path.realpath(absolute(path)) == os.path.realpath(absolute(model_out)):
        raise UsageError(f"{path} is where training starts from and where it would write; choose another --model-out")
    card = read_card(path)
    if card.model != model and (whole or (card.model, model) not in PARTS):
        raise UsageError(
            f"{path} is a '{card.model}' model, '{model}' cannot start from it; leave --model out, or choose another "
            f"{'train.picture' if whole else '--init'}"
        )
    return card


class Start(NamedTuple):
    """The spec of a network that starts from a bundle, and where its annotations and its site features stand in the
    data, as :func:`arranged` takes it."""

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
        annotations, features, read_limit: those of the data.
        chosen: what of the spec the new training says, whatever the bundle's is; by the spec's names.

    Raises UsageError where the data lack site features, or hold tensors of another number of reads.
    """
    lacking = [name for name in card.feature_names if name not in features]
    if lacking:
        raise UsageError(
            f"{path} knows {len(card.feature_names)} site features, the dataset has {len(features)}, without "
            f"{_list(lacking)}; build the dataset as the model's own was built"
        )
    if read_limit != card.spec.read_limit:
        raise UsageError(
            f"{path} was made for {card.spec.read_limit} reads an allele, the dataset for {read_limit}; build it with "
            f"--set tensors.read_limit={card.spec.read_limit}"
        )
    places = {_full_name(name): place for place, name in enumerate(annotations)}
    columns = tuple(places.get(_full_name(name), -1) for name in card.annotation_names)
    of_features = tuple(features.index(name) for name in card.feature_names)
    return Start(dataclasses.replace(card.spec, **chosen), columns, of_features)


def _full_name(annotation: str) -> str:
    """``INFO/X`` for ``X``, which is the same annotation."""
    return annotation if annotation == "QUAL" or "/" in annotation else f"INFO/{annotation}"


def arranged(values: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """The columns of ``values`` (n, A) in another order, float32 (n, columns); -1 stands for one that is missing."""
    nothing = np.full((len(values), 1), np.nan, np.float32)
    return np.concatenate([values, nothing], axis=1)[:, list(columns)].astype(np.float32)


def columns_text(what: str, names: Sequence[str], own: Sequence[str], columns: Sequence[int]) -> str:
    """Which annotations or site features the data lack, or have in vain, in one line; empty where they are the model's.

    Args:
        what: what they are.
        names: those of the model.
        own: those of the data.
        columns: of :func:`starting_spec`.
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
    """Gives each layer of ``model`` the weights of the layer of ``source`` that has its name and shapes.

    Layers named in ``untrained`` are left as they are: their weights in the source are the first ones, by chance.
    Returns the names of the layers with weights that were taken, and of those that stay new.
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
    """What of a network was found in the bundle, in one line."""
    if not taken:
        return f"nothing of {path} fits the network: all its layers are new"
    if not new:
        return f"training starts from all {len(taken)} layers of {path}"
    return f"training starts from {len(taken)} of {len(taken) + len(new)} layers of {path}; new: {_list(new)}"
