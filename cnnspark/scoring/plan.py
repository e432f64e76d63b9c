"""How a run scores: the model, the tensors it was trained on, the model before it in a cascade, the run's settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspark.models.card import Card
from cnnspark.scoring.cascade import FirstStage, first_stage
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.tensors.settings import TensorSettings

if TYPE_CHECKING:
    from cnnspark.models.selection import SelectedModel


@dataclass(frozen=True)
class ScoringPlan:
    """Everything that scores depend on, except the callset: made once, checked once, handed on whole."""

    model: str  # the bundle's path, or bundled:NAME
    card: Card
    tensors: TensorSettings
    settings: ScoreSettings
    first: FirstStage | None = None  # the faster model of a cascade

    @staticmethod
    def of(selected: SelectedModel, tensors: TensorSettings, settings: ScoreSettings) -> ScoringPlan:
        """The plan of a run.

        Args:
            selected: the model that the user chose.
            tensors: the configuration's; those that the model was trained with are used.
            settings: the configuration's; ``cascade`` None leaves the choice to the model's card.

        Raises:
            UsageError: tensors of other settings are asked for, or a cascade of a model that has none.
            InputError: the bundle is damaged, or expects a site feature that this version does not build.
        """
        return ScoringPlan(
            model=selected.path,
            card=selected.card,
            tensors=selected.tensors(tensors),
            settings=settings,
            first=first_stage(selected.path, selected.card, settings.cascade),
        )

    @property
    def key(self) -> str:
        """The INFO key of the scores."""
        return self.card.score_key

    @property
    def missing_is_zero(self) -> bool:
        """Whether the network takes 0 for an annotation that is missing, as GATK's do."""
        return self.tensors.encoding == "gatk"

    @property
    def digest(self) -> str:
        """What the models are: the digest of the model's card and, in a cascade, the first one's and the band."""
        return f"{self.card.digest} {self.first.identity() if self.first else ''}".strip()

    def identity(self) -> dict[str, Any]:
        """What the scores' bytes depend on, as plain values: a run is resumed only if it is the same."""
        # Reading ahead changes no byte.
        settings = {k: v for k, v in dataclasses.asdict(self.settings).items() if k != "read_ahead"}
        return {
            "model": self.card.digest,
            "tensors": dataclasses.asdict(self.tensors),
            "score": settings | {"cascade": self.first and self.first.identity()},
        }
