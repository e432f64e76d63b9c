"""A model's card, ``model.json``: what the network was made for, how good it is, and its thresholds.

No Spark, no TensorFlow, no Keras: a card is read in milliseconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnnspark.common.storage import file_digest
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.reads import ReadFilter
from cnnspark.models.bundle_files import BUNDLE_FILES, CARD_FILE, NETWORK_FILE, opened_bundle
from cnnspark.models.calibration import Platt
from cnnspark.models.cascade import Cascade
from cnnspark.models.input_drift import KnownValues
from cnnspark.models.names import MODELS, MODELS_WITHOUT_READS
from cnnspark.models.spec import ModelSpec
from cnnspark.tensors.schema import FIELDS, REF_COLUMN, WINDOW
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import feature_columns

FORMAT = "cnnspark-model"
FORMAT_VERSION = 1
# The key of the digest of all other values; cards of early versions have none.
CARD_DIGEST = "card_sha256"
THRESHOLD_GROUPS = ("ALL", "SNP", "INDEL")
# Shares of the true alleles that a threshold of the card keeps; GATK's tranches also begin at .99 and .999.
SENSITIVITIES = (0.90, 0.95, 0.99, 0.995, 0.999)


@dataclass(frozen=True)
class Range:
    """The range of an annotation's training values; all numbers but the share are None if it was always missing."""

    name: str
    minimum: float | None
    percentile_1: float | None
    median: float | None
    percentile_99: float | None
    maximum: float | None
    missing_share: float


def training_ranges(names: Sequence[str], values: np.ndarray) -> tuple[Range, ...]:
    """The range of each named column of ``values`` (n, names), NaN where missing."""
    ranges = []
    for name, column in zip(names, np.asarray(values, np.float64).T, strict=True):
        seen = column[np.isfinite(column)]
        missing_share = float(np.mean(np.isnan(column))) if len(column) else 1.0
        if len(seen):
            low, p1, middle, p99, high = (float(q) for q in np.quantile(seen, [0, 0.01, 0.5, 0.99, 1]))
            ranges.append(Range(name, low, p1, middle, p99, high, missing_share))
        else:
            ranges.append(Range(name, None, None, None, None, None, missing_share))
    return tuple(ranges)


def tensor_schema(read_limit: int) -> dict[str, Any]:
    """The layout of the tensors that a model takes, as plain JSON values; a card of another layout is refused."""
    fields = [{"name": f.name, "dtype": np.dtype(f.dtype).name, "shape": list(f.shape)} for f in FIELDS]
    return {"window": WINDOW, "ref_column": REF_COLUMN, "read_limit": read_limit, "fields": fields}


@dataclass(frozen=True)
class Card:
    """Everything about a model except its weights.

    Attributes:
        model: Name of the network (:data:`cnnspark.models.names.MODELS`).
        spec: What the network is built from.
        ranges: The annotations' ranges in the training data.
        thresholds: Scores (:func:`cnnspark.variants.score_fields.log_odds`), by group of types ("ALL", "SNP", "INDEL")
            and precision as text ("0.90"); None if that precision was not reached on the validation blocks.
        metrics: Figures of the validation alleles, by name.
        history: One row for each epoch of the training.
        training: How the network was trained: objective, epochs, seed and the like.
        data: The datasets it was trained on, among them their ``tensors`` settings.
        versions: Versions of the packages that wrote the bundle, by name.
        sha256: Digest of the network's file.
        sensitivity_thresholds: As ``thresholds``, by the share of the true alleles that they keep. Empty in cards of
            early versions.
        calibration: From logits to log odds; cards of early versions have none, and their logits are log odds.
        cascade: The band of a model that has a first one before it.
        known: Histograms of the training inputs that a callset is compared with; None in cards of early versions.
    """

    model: str
    spec: ModelSpec
    ranges: tuple[Range, ...] = ()
    thresholds: dict[str, dict[str, float | None]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    sensitivity_thresholds: dict[str, dict[str, float | None]] = field(default_factory=dict)
    calibration: Platt = Platt()
    cascade: Cascade | None = None
    known: KnownValues | None = None  # last, as it is long

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the card, and so of the network, whose digest it holds: the same for the same scores."""
        return _values_digest(self.to_json())

    @property
    def pretrained(self) -> bool:
        """Whether the model is only pre-trained: its layer for the logit is still untrained."""
        return self.training.get("objective") == "pretrain"

    @property
    def annotation_names(self) -> tuple[str, ...]:
        """Annotations that a tensor must carry, in this order."""
        return self.spec.annotation_names

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Site features that a tensor must carry, in this order."""
        return self.spec.feature_names

    @property
    def looks_at_reads(self) -> bool:
        """Whether reads are needed to score with the model: for its read tensors, or for its site features."""
        return self.model not in MODELS_WITHOUT_READS and (self.model != "features" or bool(self.feature_names))

    @property
    def scores_whole_records(self) -> bool:
        """Whether a record's score is the same for all its samples: GATK's 1D network looks at nothing of a sample."""
        own = any(name.startswith("FORMAT/") for name in self.annotation_names)
        gatk = self.data.get("tensors", {}).get("encoding") == "gatk"
        return gatk and not self.looks_at_reads and not own

    @property
    def score_key(self) -> str:
        """The INFO key of the model's scores: ``CNN_2D`` if it looks at reads, else ``CNN_1D``."""
        return "CNN_2D" if self.looks_at_reads else "CNN_1D"

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values, format and tensor schema first, without its own digest."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "schema": tensor_schema(self.spec.read_limit)}
        values = {**head, **asdict(self), "spec": self.spec.to_json()}
        if self.cascade is None:
            del values["cascade"]  # a card of one model alone is what it was before there were cascades
        return values

    def text(self, compact: bool = False) -> str:
        """The content of ``model.json``: the card and its digest."""
        layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
        return json.dumps({**self.to_json(), CARD_DIGEST: self.digest}, allow_nan=False, **layout) + "\n"

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Card:
        """The card that :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: if ``values`` are not a card.
            InputError: if the network is one that this version no longer has.
        """
        kept = {k: v for k, v in values.items() if k not in ("format", "format_version", "schema", CARD_DIGEST)}
        kept.setdefault("sensitivity_thresholds", {})
        for name in ("thresholds", "sensitivity_thresholds", "metrics", "training", "data", "versions"):
            if not isinstance(kept[name], dict):
                raise TypeError(f"'{name}' is not an object")
        if kept["model"] not in MODELS:
            raise ValueError(f"there is no model {kept['model']!r:.40}")
        for name in ("thresholds", "sensitivity_thresholds"):
            _check_thresholds(kept[name])
        kept["spec"] = ModelSpec.from_json(kept["spec"])
        kept["ranges"] = tuple(Range(**r) for r in kept["ranges"])
        kept["calibration"] = Platt(**kept.get("calibration", {}))
        if kept.get("cascade") is not None:
            kept["cascade"] = Cascade.from_json(kept["cascade"])
        if kept.get("known") is not None:
            kept["known"] = KnownValues.from_json(kept["known"])
        return Card(**kept)


def _values_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of a card's values as :data:`CARD_DIGEST` holds it: of all others, written in one way."""
    rest = {name: value for name, value in values.items() if name != CARD_DIGEST}
    as_read = json.loads(json.dumps(rest))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_thresholds(by_group: Mapping[str, Any]) -> None:
    """Raises ValueError or TypeError if thresholds, which are written to VCF headers, are something else."""
    for group, by_share in by_group.items():
        if group not in THRESHOLD_GROUPS:
            raise ValueError(f"there are no thresholds for {group!r:.40}")
        for share, threshold in by_share.items():
            if not re.fullmatch(r"0\.\d+", share):
                raise ValueError(f"{share!r:.40} is not a share")
            if threshold is not None and not math.isfinite(threshold):
                raise ValueError(f"the threshold of {group} for {share} is not a number")


def require_finished(card: Card, path: str | Path) -> None:
    """Refuses a model that has no scores to give yet.

    Raises:
        UsageError: if the model at ``path`` is only pre-trained.
    """
    if card.pretrained:
        raise UsageError(f"{path} is pre-trained only; finish it with 'cnnspark train --init {path}'")


def read_card(path: str | Path) -> Card:
    """The card of the bundle at ``path``, with the network's file checked for presence and digest.

    Args:
        path: A folder, an address on a store, or a bundled model ("bundled:reads").

    Raises:
        InputError: if it is not a bundle, or is damaged, incomplete, or of another version; the message says what to
            do.
    """
    with opened_bundle(path, BUNDLE_FILES) as folder:
        return read_opened_card(path, folder)


def read_opened_card(path: str | Path, folder: Path) -> Card:
    """As :func:`read_card`, of a bundle whose files are in ``folder`` on this machine; messages name ``path``."""
    if not folder.is_dir():
        raise InputError(f"{path} is not a model bundle; give the folder that 'cnnspark train' wrote")
    for name in (CARD_FILE, NETWORK_FILE):
        if not (folder / name).is_file():
            raise InputError(f"{path} is not a model bundle, {name} is missing; copy the whole folder")
    try:
        values = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{folder / CARD_FILE} is not JSON; copy the bundle again") from None
    except OSError as error:
        raise InputError(f"{folder / CARD_FILE} cannot be read ({error.strerror}); check its permissions") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{folder / CARD_FILE} is not the card of a cnnspark model; give another folder")
    if values.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {values.get('format_version')}, this cnnspark reads {FORMAT_VERSION}; "
            "install the version that trained it or train it again"
        )
    try:
        card = Card.from_json(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / CARD_FILE} is incomplete ({error}); copy the bundle again") from None
    if values.get("schema") != tensor_schema(card.spec.read_limit):
        raise InputError(f"{path} was made for tensors of another layout; train it again with this version")
    if card.sha256 != file_digest(str(folder / NETWORK_FILE)):
        raise InputError(f"{folder / NETWORK_FILE} is not the network its card describes; copy the bundle again")
    if CARD_DIGEST in values and values[CARD_DIGEST] != _values_digest(values):
        raise InputError(f"{folder / CARD_FILE} has changed since it was written; copy the bundle again")
    return card


def model_tensors(path: str, card: Card, wanted: TensorSettings) -> TensorSettings:
    """The tensor settings that the model was trained with: scores of other tensors would mean nothing.

    What to do with a REF that is not the reference's is the run's own choice.

    Args:
        path: The model, for messages.
        card: Its card.
        wanted: The settings of the run; the defaults leave the choice to the model.

    Raises:
        InputError: if the model expects a site feature that this version does not build.
        UsageError: if the run asks for other tensors than the model's.
    """
    feature_columns(card.feature_names, path)
    trained = card.data.get("tensors")
    if trained is None:
        return wanted
    of_model = TensorSettings(
        **{**trained, "read_filter": ReadFilter(**trained["read_filter"]), "on_ref_mismatch": wanted.on_ref_mismatch}
    )
    chosen = dataclasses.replace(TensorSettings(), on_ref_mismatch=wanted.on_ref_mismatch)
    if wanted not in (chosen, of_model):
        raise UsageError(f"{path} was trained on tensors of other settings; leave 'tensors' out of the configuration")
    return of_model
