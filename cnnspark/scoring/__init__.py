"""A model on a callset: predictions, their INFO and FORMAT, callsets of several samples, two models in a row.

- ``plan``: everything that scores depend on, but the callset; ``settings``: the user's part of it;
- ``predict``: probabilities of a block's alleles; ``cascade``, ``cascade_band``: two models in a row;
- ``score``: the work of a task, for one sample (``single_sample``) or several (``multisample``);
- ``output``: header and records; ``score_table``: a scored callset as a data frame.
"""
