"""What the network sees of an allele, and its dataset: schema, encoding, compiled kernels, site features, Petastorm.

- ``schema``, ``settings``: the fields of a tensor, and how tensors are built;
- ``builder``, ``encoder``: the driver and what it asks of an encoding; ``cnnspark_encoder``, ``gatk_encoder``: the two;
  ``*_kernels``: their compiled loops; ``chunks``, ``batches``;
- ``site_features``: named features of the reads at a site;
- ``block_tensors``, ``carrier_tensors``: the tensors of a block, for one sample or for the carriers of several;
- ``dataset``, ``joined_dataset``, ``dataset_card``: Parquet through Petastorm; ``row_groups`` reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.tensors.block_tensors import BlockTensors, Inputs, TensorSource
    from cnnspark.tensors.builder import build_tensors
    from cnnspark.tensors.carrier_tensors import CarrierTensors
    from cnnspark.tensors.dataset import Dataset
    from cnnspark.tensors.joined_dataset import TensorRows, open_dataset
    from cnnspark.tensors.schema import FIELDS, TensorBatch
    from cnnspark.tensors.settings import TensorSettings

__all__ = [
    "BlockTensors",
    "CarrierTensors",
    "Dataset",
    "FIELDS",
    "Inputs",
    "TensorBatch",
    "TensorRows",
    "TensorSettings",
    "TensorSource",
    "build_tensors",
    "open_dataset",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BlockTensors": ".block_tensors",
        "CarrierTensors": ".carrier_tensors",
        "Dataset": ".dataset",
        "FIELDS": ".schema",
        "Inputs": ".block_tensors",
        "TensorBatch": ".schema",
        "TensorRows": ".joined_dataset",
        "TensorSettings": ".settings",
        "TensorSource": ".block_tensors",
        "build_tensors": ".builder",
        "open_dataset": ".joined_dataset",
    },
)
