"""What the network sees of an allele, and its dataset: schema, encoding, compiled kernels, site features, Petastorm.

- ``schema``, ``settings``: the fields of a tensor, and how tensors are built;
- ``builder``, ``encoder``: the driver and what it asks of an encoding; ``cnnspark_encoder``, ``gatk_encoder``: the two;
  ``*_kernels``: their compiled loops; ``chunks``, ``batches``;
- ``site_features``: named features of the reads at a site;
- ``block_tensors``, ``carrier_tensors``: the tensors of a block, for one sample or for the carriers of several;
- ``dataset``, ``joined_dataset``, ``dataset_card``: Parquet through Petastorm.
"""
