"""The model that a user chose."""

from __future__ import annotations

from dataclasses import dataclass

from cnnspark.models.bundle_files import absolute_model, chosen_model, is_bundled, notice
from cnnspark.models.card import Card, looks_at_reads, read_card, require_finished


@dataclass(frozen=True)
class SelectedModel:
    """A finished model: its path and its card."""

    path: str
    card: Card

    @property
    def notice(self) -> str:
        return notice(self.path)

    @property
    def needs_reads(self) -> bool:
        return looks_at_reads(self.card)

    @property
    def is_bundled(self) -> bool:
        return is_bundled(self.path)


def select_model(name: str | None, with_reads: bool) -> SelectedModel:
    """The model of this name."""
    path = absolute_model(chosen_model(name, with_reads))
    card = read_card(path)
    require_finished(card, path)
    return SelectedModel(path, card)
