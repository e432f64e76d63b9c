"""Blocks, predicted costs, merging, start-up, and what Spark adds."""
