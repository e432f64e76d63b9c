"""``reads`` trained by parts (``train.by_parts``): site features, picture, then both together. No Spark, no TensorFlow.

The picture (the convolutions over the reads) learns almost nothing beside site features that are trained already. So it
is trained by itself, and taken in afterwards (docs/models.md, "The picture of reads"). Each part is a training of its
own, with its own checkpoints.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnspark.common.storage import location
from cnnspark.training.settings import TrainSettings

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

# The network of the first part.
FIRST_PART = "features"
# Shares of the learning rate and of the epochs for the last training, of parts that are trained already.
LAST_RATE, LAST_EPOCHS = 0.1, 0.5


@dataclass(frozen=True)
class Part:
    """One of the trainings: its title in messages, the folder of its bundle and its settings."""

    title: str
    model_out: str
    settings: TrainSettings


def parts_folder(model_out: str) -> Location:
    """The folder, beside the model's, that has the bundles of the parts until the last one is trained."""
    target = location(model_out)
    return target.with_name(f"{target.name}.parts")


def parts_of(settings: TrainSettings, model_out: str, starts_whole: bool) -> list[Part]:
    """The trainings in their order.

    Args:
        settings: of the training by parts.
        model_out: the folder of its bundle, which the last training writes.
        starts_whole: whether ``settings.init`` is a ``features`` model trained on labels: then the first part is done.
    """
    folder = parts_folder(model_out)

    def part(title: str, name: str, **changes: object) -> Part:
        # "resume" keeps what an interrupted run has trained; the driver has removed what is not wanted.
        own = dataclasses.replace(settings, **{"by_parts": False, "if_exists": "resume", "keep_start": 0.0, **changes})  # type: ignore[arg-type]
        if own.log_dir:
            own = dataclasses.replace(own, log_dir=f"{own.log_dir}/{name}")
        return Part(title, str(folder / name), own)

    parts, features = [], settings.init
    if not starts_whole:
        parts.append(part("site features", "features", model=FIRST_PART, drop_reads=0.0))
        features = parts[0].model_out
    alone = {"use_site_features": False, "use_annotations": False, "drop_annotations": 0.0, "init": None}
    parts.append(part("picture", "picture", **alone))
    picture = parts[-1].model_out
    epochs = max(1, round(settings.epochs * LAST_EPOCHS))
    rate = settings.learning_rate * LAST_RATE
    changes = {"epochs": epochs, "learning_rate": rate, "keep_start": settings.keep_start}
    last = part("all together", "all", init=features, picture=picture, **changes)
    return [*parts, dataclasses.replace(last, model_out=model_out)]
