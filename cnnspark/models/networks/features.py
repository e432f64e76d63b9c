"""``features``: annotations and site features only, after the Campagne lab's idea.

Fast (about 20,000 alleles a second and core in training), and the baseline that every other network has to beat. No
reads are needed to run it once the site features are there.
"""

from __future__ import annotations

from typing import Any

import keras

from cnnspark.errors import UsageError
from cnnspark.models.networks.layers import KeyedDropout, QuantileEncoding
from cnnspark.models.spec import ModelSpec

# Salts of these dropouts begin here: those of the networks that these layers are part of are smaller.
FIRST_HIDDEN_SALT = 16


def encoded_features(spec: ModelSpec, noise_key: Any) -> tuple[dict[str, Any], Any]:
    """Inputs and encoding of the annotations and site features that a network takes.

    Args:
        spec: Names the inputs and the edges of their quantiles.
        noise_key: The network's input of that name, (B,) int32.

    Returns:
        The inputs by name, each (B, F) float32, and their joined codes (B, units) after input dropout; None instead of
        the codes if the spec names neither annotations nor site features.
    """
    inputs, codes = {}, []
    for name, edges in (("annotations", spec.annotation_edges), ("site_features", spec.feature_edges)):
        if edges:
            inputs[name] = keras.Input((len(edges),), dtype="float32", name=name)
            codes.append(QuantileEncoding(edges, name=f"{name}_codes")(inputs[name]))
    if not codes:
        return inputs, None
    joined = keras.layers.Concatenate(name="feature_codes")(codes) if len(codes) > 1 else codes[0]
    return inputs, KeyedDropout(spec.dropout, salt=1, name="input_dropout")(joined, noise_key)


def feature_layers(spec: ModelSpec, encoded: Any, noise_key: Any) -> Any:
    """The hidden layers behind the encoded annotations and site features.

    Args:
        spec: Gives the numbers of units and the dropout.
        encoded: Of :func:`encoded_features`, (B, units).
        noise_key: The network's input of that name, (B,) int32.

    Returns:
        The last hidden layer, (B, units).
    """
    x = encoded
    for i, units in enumerate(spec.hidden_units, 1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense_{i}")(x)
        if spec.hidden_dropout:
            x = KeyedDropout(spec.hidden_dropout, salt=FIRST_HIDDEN_SALT + i, name=f"dense_{i}_dropout")(x, noise_key)
    return x


def build_features(spec: ModelSpec) -> keras.Model:
    """Quantile codes, the numbers themselves and missing flags, input dropout, hidden layers, logit.

    Returns:
        The untrained network: inputs by their names in the schema, output the logit (B,) of "this allele is real".

    Raises:
        UsageError: if the spec names neither annotations nor site features.
    """
    noise_key = keras.Input((), dtype="int32", name="noise_key")
    inputs, x = encoded_features(spec, noise_key)
    if x is None:
        raise UsageError("the model 'features' needs annotations or site features; name some or train 'reads'")
    logit = keras.layers.Dense(1, name="logit")(feature_layers(spec, x, noise_key))
    logit = keras.layers.Reshape((), name="logits")(logit)
    return keras.Model({**inputs, "noise_key": noise_key}, logit, name="features")
