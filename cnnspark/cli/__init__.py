"""The command line: ``main`` runs a command and returns its exit code."""

from cnnspark.cli.main import main

__all__ = ["main"]
