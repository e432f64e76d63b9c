"""Mixed precision: which type a network computes in, its copy that computes so, and the scale of the loss."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from cnnspark.models.networks.gatk import RepeatLastRow
from cnnspark.models.networks.layers import AddToRows, ClearPadding, KeyedDropout, KeyedSpatialDropout
from cnnspark.training.pretraining_heads import HEADS

# float16 loses gradients below 6e-8: the loss is scaled up, half as much after a step that overflows, twice as much
# after so many that did not (Micikevicius et al. 2018, "Mixed precision training", 3.2).
FIRST_SCALE, MOST_SCALE, SCALE_STEPS = 2.0**15, 2.0**24, 2000
# Layers behind the last hidden one stay float32.
EXACT = ("logit", "counts_logit", "picture_logit", "residual", "classes", "logits")


def compute_type(mixed_precision: bool | str) -> str:
    """What the network computes in on this machine. Weights and sums are always float32.

    ``auto`` is mixed precision if there is a GPU whose tensor cores support it: bfloat16 from compute capability 8
    (A100), which has float32's range and needs no scaled loss, float16 from 7 (V100, T4).

    Args:
        mixed_precision: the setting ``train.mixed_precision``: ``auto``, False, ``bfloat16``, ``float16``, or True,
            which stands for ``auto`` on such a GPU and for bfloat16 elsewhere.

    Returns:
        ``float32``, ``bfloat16`` or ``float16``.
    """
    if mixed_precision in ("bfloat16", "float16"):
        return str(mixed_precision)
    if mixed_precision is False:
        return "float32"
    gpus = tf.config.get_visible_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    capability = details.get("compute_capability", (0, 0))[0]
    if capability >= 7:
        return "bfloat16" if capability >= 8 else "float16"
    if mixed_precision is True:
        return "bfloat16"
    return "float32"


def in_mixed_precision(model: keras.Model, compute: str) -> keras.Model:
    """A copy of the network whose layers compute in another type; its weights, logit and heads stay float32.

    cnnspark's own layers, which turn codes and counts into channels, stay float32 as well, except those between
    convolutions.

    Args:
        model: the network.
        compute: ``bfloat16`` or ``float16``.
    """
    between = (AddToRows, ClearPadding, KeyedDropout, KeyedSpatialDropout, RepeatLastRow)

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        own = type(layer).__module__.startswith("cnnspark.") and not isinstance(layer, between)
        exact = isinstance(layer, keras.layers.InputLayer) or layer.name in (*EXACT, *HEADS)
        if not own and not exact:
            config["dtype"] = f"mixed_{compute}"
        return layer.__class__.from_config(config)

    return keras.models.clone_model(model, clone_function=clone)


class LossScale:
    """The factor by which the loss is multiplied before gradients are taken in float16; always 1 in other types.

    ``factor`` is a float32 variable. ``is_used``: whether the network computes in float16.
    """

    def __init__(self, compute: str):
        self.is_used = compute == "float16"
        self.factor = tf.Variable(FIRST_SCALE if self.is_used else 1.0)
        self._steps = tf.Variable(0)  # since the factor changed

    @property
    def variables(self) -> list[Any]:
        """What a checkpoint holds of it: the factor and the steps since it changed; nothing if it is not used."""
        return [self.factor, self._steps] if self.is_used else []

    def adapt(self, finite: Any) -> None:
        """Halves the factor after a step that overflowed, doubles it after SCALE_STEPS that did not.

        Args:
            finite: whether the gradient of the step is finite, a bool tensor ().
        """
        steps = tf.where(finite, self._steps + 1, 0)
        grown = steps >= SCALE_STEPS
        factor = tf.where(finite, tf.where(grown, self.factor * 2, self.factor), self.factor / 2)
        self.factor.assign(tf.clip_by_value(factor, 1.0, MOST_SCALE))
        self._steps.assign(tf.where(grown, 0, steps))
