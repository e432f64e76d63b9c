"""Filters variant callsets with a convolutional network, distributed on Apache Spark."""

__version__ = "0.1.0"
