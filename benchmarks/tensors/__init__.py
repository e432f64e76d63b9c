"""Reads to tensors: rates beside their limits, generated inputs, and what a genome costs."""
