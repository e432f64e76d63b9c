"""Networks and the bundles that carry them: a folder with the network's weights and its card.

From top to bottom of a bundle's life:

- :mod:`~cnnspark.models.networks` builds a network by its name from a :class:`~cnnspark.models.spec.ModelSpec`;
- :mod:`~cnnspark.models.bundle` saves, loads and runs a network; :mod:`~cnnspark.models.bundle_files` writes a bundle
  whole or not at all, and finds those that come with cnnspark;
- :mod:`~cnnspark.models.card` says everything about a model except its weights, with its calibration
  (:mod:`~cnnspark.models.calibration`), its cascade (:mod:`~cnnspark.models.cascade`) and the inputs that it was
  trained on (:mod:`~cnnspark.models.input_drift`);
- :mod:`~cnnspark.models.selection` is the model that a command works with;
- :mod:`~cnnspark.models.summary` tells what networks cost and what a bundle was made from;
- :mod:`~cnnspark.models.gatk_weights` makes bundles from the weights that GATK published.

``Card``, ``read_card``, ``SelectedModel`` and ``select_model`` need neither Keras nor TensorFlow; ``Bundle``,
``load_bundle`` and ``build_model`` load them when they are first used. :mod:`~cnnspark.models.names` does not even load
NumPy, so that the command line answers ``--help`` at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.models.bundle import Bundle, load_bundle
    from cnnspark.models.card import Card, read_card
    from cnnspark.models.networks.registry import build_model
    from cnnspark.models.selection import SelectedModel, select_model

__all__ = ["Bundle", "Card", "SelectedModel", "build_model", "load_bundle", "read_card", "select_model"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Bundle": ".bundle",
        "Card": ".card",
        "SelectedModel": ".selection",
        "build_model": ".networks.registry",
        "load_bundle": ".bundle",
        "read_card": ".card",
        "select_model": ".selection",
    },
)
