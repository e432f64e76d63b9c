"""The configuration: frozen dataclasses, filled from defaults < YAML < ``--set key=value`` < flags.

Every setting that changes the bytes of an output is here, so that the resolved configuration in a run's folder says
all of it. Spark's own settings belong to Spark's properties.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from cnnspark.common.dataclass_settings import build, check_share, set_value
from cnnspark.common.storage import absolute, scheme_of
from cnnspark.errors import UsageError
from cnnspark.execution.blocks import BlockSettings
from cnnspark.models.bundle_files import BUNDLED
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.simulation.settings import SimulationSettings
from cnnspark.tensors.settings import TensorSettings
from cnnspark.training.settings import TrainSettings
from cnnspark.variants.candidates import CandidateSettings
from cnnspark.variants.carriers import Member

# What a run filters by if nothing is chosen.
USUAL_PRECISION = 0.95
PATHS = ("vcf", "reads", "reference", "truth", "bed", "labels")


@dataclass(frozen=True)
class InputPaths:
    """What a run reads. Paths in a YAML file are relative to that file."""

    vcf: str | None = None  # none: candidates are called from the reads
    reads: str | None = None
    reference: str | None = None
    truth: str | None = None
    bed: str | None = None
    labels: str | None = None
    sample: str | None = None
    regions: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()  # of a multi-sample callset: the samples with reads of their own, instead of reads

    @property
    def has_reads(self) -> bool:
        """Whether there are reads, of one sample or of members."""
        return self.reads is not None or any(member.reads for member in self.members)

    @property
    def files(self) -> list[str]:
        """All paths that are given."""
        given = [*(getattr(self, name) for name in PATHS), *(member.reads for member in self.members)]
        return [path for path in given if path]

    def absolute(self) -> InputPaths:
        """The same files by absolute paths: an executor's working folder is not the driver's."""
        given = {name: getattr(self, name) for name in PATHS}
        changed: dict[str, Any] = {name: absolute(path) for name, path in given.items() if path is not None}
        changed["members"] = tuple(
            dataclasses.replace(member, reads=absolute(member.reads)) if member.reads else member
            for member in self.members
        )
        return dataclasses.replace(self, **changed)


@dataclass(frozen=True)
class FilterChoice:
    """Which threshold ``run`` filters by: a number, else a sensitivity, else a precision of the model's card."""

    # None: USUAL_PRECISION or, where the model's validation never reached it, the next lower one that it did.
    precision: float | None = None
    sensitivity: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_share("filter.precision", self.precision)
        check_share("filter.sensitivity", self.sensitivity)


@dataclass(frozen=True)
class Config:
    """All settings of all stages."""

    inputs: InputPaths = field(default_factory=InputPaths)
    model: str | None = None  # a finished model: ``run`` then trains none
    annotations: tuple[str, ...] = ()  # none: the well-known ones that the callset declares
    blocks: BlockSettings = field(default_factory=BlockSettings)
    tensors: TensorSettings = field(default_factory=TensorSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    filter: FilterChoice = field(default_factory=FilterChoice)
    simulate: SimulationSettings = field(default_factory=SimulationSettings)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values, as it is printed and stored."""
        return dataclasses.asdict(self)


def differences(config: Config) -> list[str]:
    """The settings that differ from the defaults, as ``key.subkey=value``: what a run prints of its configuration."""

    def walk(chosen: Any, default: Any, path: str) -> list[str]:
        if is_dataclass(chosen):
            names = [f.name for f in fields(chosen)]
            inner = (walk(getattr(chosen, n), getattr(default, n), f"{path}.{n}".lstrip(".")) for n in names)
            return [text for texts in inner for text in texts]
        return [] if chosen == default else [f"{path}={chosen}"]

    return walk(config, Config(), "")


def load_config(path: str | None = None, settings: Iterable[str] = ()) -> Config:
    """The configuration from a YAML file and single settings.

    Args:
        path: the YAML file; paths in it are relative to its folder.
        settings: ``key.subkey=value``, with values in YAML's notation; they win over the file.

    Raises:
        UsageError: a key that is unknown, or a value of the wrong kind; the key is named.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}); give a YAML file") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            where = getattr(error, "problem_mark", None)
            raise UsageError(f"{path} is not YAML{f' (line {where.line + 1})' if where else ''}; correct it") from None
        if not isinstance(loaded, dict):
            raise UsageError(f"{path} is not a mapping of keys to values; see conf/local.yaml")
        values = _beside(loaded, Path(path).parent)
    for text in settings:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"--set {text} has no value; write key=value")
        try:
            set_value(values, key.strip().split("."), yaml.safe_load(value))
        except yaml.YAMLError:
            raise UsageError(f"--set {text}: the value is not YAML; quote it") from None
    return build(Config, values)


def _beside(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Relative paths of a YAML file made relative to its folder."""
    if not isinstance(values.get("inputs") or {}, dict):
        return values  # said by the checks of all settings
    inputs = dict(values.get("inputs") or {})
    for name in PATHS:
        if isinstance(inputs.get(name), str) and not scheme_of(inputs[name]):
            inputs[name] = str(folder / inputs[name])
    if isinstance(inputs.get("members"), list):
        inputs["members"] = [_member_beside(member, folder) for member in inputs["members"]]
    values = dict(values)
    if inputs:
        values["inputs"] = inputs
    if isinstance(values.get("model"), str) and values["model"] not in BUNDLED and not scheme_of(values["model"]):
        values["model"] = str(folder / values["model"])
    if isinstance(values.get("train"), dict):
        train = dict(values["train"])
        for name in ("init", "picture"):
            if isinstance(train.get(name), str) and train[name] not in BUNDLED and not scheme_of(train[name]):
                train[name] = str(folder / train[name])
        values["train"] = train
    return values


def _member_beside(member: Any, folder: Path) -> Any:
    reads = member.get("reads") if isinstance(member, dict) else None
    return {**member, "reads": str(folder / reads)} if isinstance(reads, str) and not scheme_of(reads) else member
