"""Weights of GATK's CNNScoreVariants, read from the files in which people keep them, and made into a bundle.

Such files come from others, so they are read by hand: nothing in them is run, imported or followed to another file.

- :mod:`~cnnspark.models.gatk_weights.files`: :func:`read_weights` tells the formats apart by their content;
- :mod:`~cnnspark.models.gatk_weights.torch_pickle`: the arrays of a PyTorch file, without PyTorch and without pickle;
- :mod:`~cnnspark.models.gatk_weights.keras_hdf5`: the arrays of a Keras HDF5 file, read in a process of its own;
- :mod:`~cnnspark.models.gatk_weights.layout`: names and shapes of the arrays;
- :mod:`~cnnspark.models.gatk_weights.importer`: :func:`import_weights`, from a file to a bundle.

Keras and TensorFlow are loaded when ``gatk_bundle`` or ``import_weights`` is first used, and for nothing else here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.models.gatk_weights.files import read_weights
    from cnnspark.models.gatk_weights.importer import gatk_bundle, import_weights
    from cnnspark.models.gatk_weights.layout import weight_shapes

__all__ = ["gatk_bundle", "import_weights", "read_weights", "weight_shapes"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "gatk_bundle": ".importer",
        "import_weights": ".importer",
        "read_weights": ".files",
        "weight_shapes": ".layout",
    },
)
