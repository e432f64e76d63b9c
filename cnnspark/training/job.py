"""What the driver tells the replicas of a training. No Spark, no TensorFlow.

:func:`prepare_job` opens the data and makes a :class:`ReplicaJob` of them and of the settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnnspark.common.storage import absolute
from cnnspark.errors import InputError, UsageError
from cnnspark.models.card import Card, Range, training_ranges
from cnnspark.models.input_drift import KnownValues, known_values
from cnnspark.models.names import GATK_MODELS, MODELS_WITHOUT_READS
from cnnspark.models.spec import ModelSpec, moments, quantile_edges
from cnnspark.training.settings import TrainSettings
from cnnspark.training.warm_start import Start, arranged, columns_text, starting_card, starting_spec

if TYPE_CHECKING:
    from cnnspark.training.data import TrainingData

# The function that opens the datasets of a training.
DATA_OPENER = "cnnspark.training.data:open_training_data"
# Earlier versions counted the opener among the settings. Their fingerprints stay the same, so that trainings which they
# began can be resumed.
OLDER_IDENTITY = {"data_opener": "cnnspark.training_data:open_training_data"}


@dataclass(frozen=True)
class ReplicaJob:
    """All that a replica's process is told, as JSON on its standard input."""

    settings: TrainSettings
    data: tuple[str, ...]  # datasets that are trained on together
    model_out: str
    spec: ModelSpec
    ranges: tuple[Range, ...]
    class_weights: tuple[float, float]  # of false and true alleles
    data_facts: dict[str, Any]
    known: KnownValues
    lanes: int  # that this batch, these data and, if there are more of them, these replicas allow
    resume: bool = False
    init_sha256: str = ""  # of the network that training starts from
    picture_sha256: str = ""  # of the network whose picture is taken
    whole: str = ""  # the fingerprint of the training that this one is a part of
    # As :func:`cnnspark.training.warm_start.arranged` takes them; empty: as they stand in the data.
    annotation_columns: tuple[int, ...] = ()
    feature_columns: tuple[int, ...] = ()
    data_opener: str = DATA_OPENER  # as :func:`open_by_name` takes it

    @property
    def fingerprint(self) -> str:
        """A digest of everything that the weights depend on, as hexadecimal text."""
        data = {name: value for name, value in self.data_facts.items() if name != "path"}  # a dataset may move
        identity = self.settings.identity() | OLDER_IDENTITY | {"lanes": self.lanes}
        facts = [identity, self.spec.to_json(), self.class_weights, data]
        facts += [digest for digest in (self.init_sha256, self.picture_sha256) if digest]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The job as one line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> ReplicaJob:
        """The job that :meth:`to_json` wrote."""
        values = json.loads(text)
        settings = values["settings"]
        if isinstance(settings["validation"], list):
            settings["validation"] = tuple(settings["validation"])
        settings["hidden_units"] = tuple(settings["hidden_units"])
        values["settings"] = TrainSettings(**settings)
        values["data"] = tuple(values["data"])
        values["spec"] = ModelSpec.from_json(values["spec"])
        values["ranges"] = tuple(Range(**r) for r in values["ranges"])
        values["known"] = KnownValues.from_json(values["known"])
        for name in ("class_weights", "annotation_columns", "feature_columns"):
            values[name] = tuple(values[name])
        return ReplicaJob(**values)


def open_by_name(
    opener: str, paths: Sequence[str], validation: float | Sequence[str], fields: Iterable[str] | None = None
) -> TrainingData:
    """Opens datasets by a function that is named as text, so that a job can carry it to a replica's process.

    Args:
        opener: ``module:function``; the function takes the other arguments as
            :func:`cnnspark.training.data.open_training_data` does.
        paths: folders of datasets.
        validation: what is held out.
        fields: the fields of a tensor that are read; all by default.
    """
    module, _, function = opener.partition(":")
    opened: TrainingData = getattr(importlib.import_module(module), function)(paths, validation, fields)
    return opened


class _Sample(NamedTuple):
    """What the network takes of some training alleles.

    Annotations float32 (n, A), site features float32 (n, F), int32 (n,) the number of the dataset of each, and the
    names of both in the data.
    """

    annotations: np.ndarray
    features: np.ndarray
    datasets: np.ndarray
    annotation_names: tuple[str, ...]
    feature_names: tuple[str, ...]


def prepare_job(
    data: str | Sequence[str],
    model_out: str,
    settings: TrainSettings,
    say: Callable[[str], None] | None = None,
    data_opener: str = DATA_OPENER,
) -> ReplicaJob:
    """What all replicas must agree on, from the training alleles: quantiles, ranges and histograms, class weights.

    With ``settings.init`` the spec, quantiles included, is that of the bundle.

    Args:
        data: folders of datasets.
        model_out: the folder of the bundle that is to be written.
        settings: how to train.
        say: is given a line for each kind of input that the model to start from and the data do not share.
        data_opener: what opens the data, as :func:`open_by_name` takes it.

    Raises:
        InputError: if alleles have no label, a class is missing, or there is no bundle to start from.
        UsageError: if the data do not suit the network or the bundle.
    """
    paths = tuple(absolute(path) for path in ((data,) if isinstance(data, str) else data))
    start = starting_card(settings.init, settings.model, model_out) if settings.init else None
    opened = open_by_name(data_opener, paths, settings.validation)
    encoding = opened.tensor_settings.get("encoding", "cnnspark")
    check_data(settings.model, encoding, opened.with_reads, settings.drop_reads)
    class_weights = (1.0, 1.0) if settings.pretrains else class_weights_of(opened, paths, settings.balance_classes)
    sample = _sample_of(opened, settings)
    columns: tuple[int, ...] = ()
    feature_columns: tuple[int, ...] = ()
    if start:
        spec, columns, feature_columns = _start_from(start, opened, sample, settings, say)
        annotations, features = arranged(sample.annotations, columns), arranged(sample.features, feature_columns)
    else:
        annotations, features = sample.annotations, sample.features
        spec = new_spec(settings, opened, annotations, features)
    picture = starting_card(settings.picture, settings.model, model_out, whole=True) if settings.picture else None
    return ReplicaJob(
        settings=settings,
        data=paths,
        model_out=model_out,
        spec=spec,
        ranges=training_ranges(spec.annotation_names, annotations),
        class_weights=class_weights,
        data_facts=_facts_of(opened, paths),
        known=known_values(
            (*spec.annotation_names, *spec.feature_names),
            np.concatenate([annotations, features], axis=1),
            sample.datasets,
        ),
        lanes=settings.lanes_used(opened.n_row_groups),
        init_sha256=start.sha256 if start else "",
        picture_sha256=picture.sha256 if picture else "",
        annotation_columns=columns,
        feature_columns=feature_columns,
        data_opener=data_opener,
    )


def _sample_of(opened: TrainingData, settings: TrainSettings) -> _Sample:
    annotations, features, datasets = opened.feature_sample(settings.quantile_sample)
    names, feature_names = tuple(opened.annotation_names), tuple(opened.feature_names)
    if not settings.use_annotations:
        annotations, names = annotations[:, :0], ()
    if not settings.use_site_features:
        features, feature_names = features[:, :0], ()
    return _Sample(annotations, features, datasets, names, feature_names)


def _start_from(
    start: Card, opened: TrainingData, sample: _Sample, settings: TrainSettings, say: Callable[[str], None] | None
) -> Start:
    """The spec of the bundle ``settings.init``, with card ``start``; says what it and the data do not share."""
    found = starting_spec(
        str(settings.init),
        start,
        sample.annotation_names,
        sample.feature_names,
        int(opened.tensor_settings["read_limit"]),
        settings.chosen(),
    )
    for what, names, own_names, columns in (
        ("annotations", found.spec.annotation_names, sample.annotation_names, found.annotation_columns),
        ("site features", found.spec.feature_names, sample.feature_names, found.feature_columns),
    ):
        if say and (text := columns_text(what, names, own_names, columns)):
            say(text)
    return found


def _facts_of(opened: TrainingData, paths: Sequence[str]) -> dict[str, Any]:
    """What the card says of the data."""
    return {
        "path": list(paths),
        "train": opened.n_train,
        "validation": opened.n_validation,
        "held_out": list(opened.held_out),
        "train_false": int(opened.label_counts[0]),
        "train_true": int(opened.label_counts[1]),
        "tensors": opened.tensor_settings,
        "sha256": opened.digest,
    }


def class_weights_of(opened: TrainingData, paths: Sequence[str], balanced: bool) -> tuple[float, float]:
    """The weights of a false and of a true allele in the loss.

    Args:
        opened: the data.
        paths: their folders, for messages.
        balanced: whether both classes shall weigh the same in sum.

    Raises:
        InputError: if alleles have no label, or a class is missing.
    """
    if opened.n_unlabelled:
        raise InputError(
            f"{', '.join(paths)} has tensors without a label; build it with --truth and --bed or --labels, or use it "
            "for 'cnnspark pretrain'"
        )
    false_count, true_count = (int(count) for count in opened.label_counts)
    for count, name in ((false_count, "false"), (true_count, "true")):
        if not count:
            raise InputError(f"{', '.join(paths)} has no {name} allele to train on; use more or other data")
    both = false_count + true_count
    return (both / (2 * false_count), both / (2 * true_count)) if balanced else (1.0, 1.0)


def new_spec(settings: TrainSettings, opened: TrainingData, annotations: np.ndarray, features: np.ndarray) -> ModelSpec:
    """The spec of a network that starts from nothing.

    Args:
        settings: how to train.
        opened: the data.
        annotations: float32 (n, A) of training alleles, whose quantiles (or moments, for GATK's networks) are taken.
        features: float32 (n, F) site features of the same alleles.
    """
    spec = ModelSpec(
        tuple(opened.annotation_names) if settings.use_annotations else (),
        tuple(opened.feature_names) if settings.use_site_features else (),
        quantile_edges(annotations, settings.bins),
        quantile_edges(features, settings.bins),
        int(opened.tensor_settings["read_limit"]),
        hidden_units=settings.hidden_units,
        **settings.chosen(),
    )
    if settings.model not in GATK_MODELS:
        return spec
    means, variances = moments(annotations)
    return dataclasses.replace(spec, annotation_edges=(), annotation_means=means, annotation_variances=variances)


def check_data(model: str, encoding: str, with_reads: bool, drop_reads: float = 0.0) -> None:
    """Checks that a network can be trained on tensors that were built in this way.

    A network that looks at no reads is scored without them. Tensors built with reads have columns that the reads'
    insertions open, which it would never see again.

    Args:
        model: the network's name.
        encoding: ``tensors.encoding`` of the dataset.
        with_reads: whether the tensors were built with reads.
        drop_reads: the setting ``train.drop_reads``.

    Raises:
        UsageError: if it cannot.
    """
    wanted = "gatk" if model in GATK_MODELS else "cnnspark"
    if encoding != wanted and model != "features":
        raise UsageError(
            f"'{model}' takes tensors of encoding {wanted}, these are of {encoding}; "
            f"build them with --set tensors.encoding={wanted}"
        )
    if model in MODELS_WITHOUT_READS and with_reads:
        raise UsageError(f"'{model}' looks at no reads; build its dataset without --reads")
    if drop_reads and model in (*MODELS_WITHOUT_READS, "features"):
        raise UsageError(f"'{model}' looks at no reads, there are none to drop; leave train.drop_reads at 0")
    if model not in (*MODELS_WITHOUT_READS, "features") and not with_reads:
        raise UsageError(f"'{model}' looks at reads, these tensors have none; build the dataset with --reads")
