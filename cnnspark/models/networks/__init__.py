"""The networks: the layers that they share, one module for each architecture, and the registry that builds by name.

A network takes a dict of named tensors (:mod:`cnnspark.tensors.schema`) and gives one logit an allele. Only Keras and
``keras.ops`` are used, so that a network runs on any Keras backend.

- :mod:`~cnnspark.models.networks.registry`: :func:`build_model`, a network's inputs and its cost;
- :mod:`~cnnspark.models.networks.features`, :mod:`~cnnspark.models.networks.reads`,
  :mod:`~cnnspark.models.networks.reference`: cnnspark's own networks;
- :mod:`~cnnspark.models.networks.gatk`: the two networks of GATK's CNNScoreVariants;
- :mod:`~cnnspark.models.networks.layers`: layers that several of them use.

Keras is loaded when a name of this package is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.models.networks.registry import BUILDERS, build_model, complexity, feed, layer_costs, model_inputs

__all__ = ["BUILDERS", "build_model", "complexity", "feed", "layer_costs", "model_inputs"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BUILDERS": ".registry",
        "build_model": ".registry",
        "complexity": ".registry",
        "feed": ".registry",
        "layer_costs": ".registry",
        "model_inputs": ".registry",
    },
)
