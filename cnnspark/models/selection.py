"""The model that a command works with: its bundle, its card, and what to say about it. No Spark, no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from cnnspark.models import bundle_files
from cnnspark.models.bundle_files import absolute_model, chosen_model
from cnnspark.models.card import Card, model_tensors, read_card, require_finished
from cnnspark.tensors.settings import TensorSettings


@dataclass(frozen=True)
class SelectedModel:
    """A finished model and its card, which travel together.

    Attributes:
        path: The bundle, usable from any working folder: an absolute path, an address on a store, or a bundled model
            ("bundled:reads").
        card: Its card.
    """

    path: str
    card: Card

    @property
    def is_bundled(self) -> bool:
        """Whether the model comes with cnnspark."""
        return bundle_files.is_bundled(self.path)

    @property
    def notice(self) -> str:
        """A sentence for whoever uses a bundled model; empty for any other model."""
        return bundle_files.notice(self.path)

    @property
    def needs_reads(self) -> bool:
        """Whether reads are needed to score with the model."""
        return self.card.looks_at_reads

    def tensors(self, wanted: TensorSettings) -> TensorSettings:
        """The tensor settings that the model was trained with.

        Args:
            wanted: The settings of the run; the defaults leave the choice to the model.

        Raises:
            InputError: if the model expects a site feature that this version does not build.
            UsageError: if the run asks for other tensors than the model's.
        """
        return model_tensors(self.path, self.card, wanted)


def select_model(name: str | None, with_reads: bool) -> SelectedModel:
    """The model that the user named, or the bundled one that suits the inputs.

    Args:
        name: A bundle's folder or address, the name of a bundled model (unless there is a folder of that name), or
            None for a bundled model: ``reads``, or ``reference`` without reads.
        with_reads: Whether the run has reads.

    Raises:
        InputError: if it is not a bundle, or is damaged, incomplete, or of another version.
        UsageError: if it is only pre-trained.
    """
    path = absolute_model(chosen_model(name, with_reads))
    card = read_card(path)
    require_finished(card, path)
    return SelectedModel(path, card)
