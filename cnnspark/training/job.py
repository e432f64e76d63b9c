"""What all replicas of a training must agree on, from its settings and its data, which are opened for it:
:func:`prepare_job`. No Spark, no TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnspark.common.storage import absolute
from cnnspark.errors import InputError, UsageError
from cnnspark.models.card import training_ranges
from cnnspark.models.input_drift import known_values
from cnnspark.models.names import GATK_MODELS, MODELS_WITHOUT_READS
from cnnspark.models.spec import ModelSpec, moments, quantile_edges
from cnnspark.training.settings import DATA_OPENER, ReplicaJob, TrainSettings
from cnnspark.training.warm_start import arranged, columns_text, starting_card, starting_spec

if TYPE_CHECKING:
    from cnnspark.training.data import TrainingData


def open_by_name(
    opener: str, paths: Sequence[str], validation: float | Sequence[str], fields: Iterable[str] | None = None
) -> TrainingData:
    """The datasets, opened by ``opener`` (``module:function``); the rest as
    :func:`cnnspark.training.data.open_training_data` takes it."""
    module, _, function = opener.partition(":")
    opened: TrainingData = getattr(importlib.import_module(module), function)(paths, validation, fields)
    return opened


def prepare_job(
    data: str | Sequence[str],
    model_out: str,
    settings: TrainSettings,
    say: Callable[[str], None] | None = None,
    data_opener: str = DATA_OPENER,
) -> ReplicaJob:
    """What all replicas must agree on, from the training alleles: quantiles, ranges and histograms, class weights.

    With ``settings.init`` the spec, quantiles included, is that bundle's. Raises InputError where a class is missing or
    there is no such bundle, UsageError where the data do not suit the network or the bundle.
    """
    paths = tuple(absolute(path) for path in ((data,) if isinstance(data, str) else data))
    start = starting_card(settings.init, settings.model, model_out) if settings.init else None
    opened = open_by_name(data_opener, paths, settings.validation)
    encoding = opened.tensor_settings.get("encoding", "cnnspark")
    check_data(settings.model, encoding, opened.with_reads, settings.drop_reads)
    class_weights = (1.0, 1.0) if settings.pretrains else class_weights_of(opened, paths, settings.balance_classes)
    annotations, features, datasets = opened.feature_sample(settings.quantile_sample)
    if not settings.use_annotations:
        annotations = annotations[:, :0]
    if not settings.use_site_features:
        features = features[:, :0]
    known_features = tuple(opened.feature_names) if settings.use_site_features else ()
    columns: tuple[int, ...] = ()
    feature_columns: tuple[int, ...] = ()
    if settings.init and start:
        limit = int(opened.tensor_settings["read_limit"])
        own = opened.annotation_names if settings.use_annotations else ()
        spec, columns, feature_columns = starting_spec(
            settings.init, start, own, known_features, limit, settings.chosen()
        )
        annotations, features = arranged(annotations, columns), arranged(features, feature_columns)
        for what, names, own_names, places in (
            ("annotations", spec.annotation_names, own, columns),
            ("site features", spec.feature_names, known_features, feature_columns),
        ):
            if say and (text := columns_text(what, names, own_names, places)):
                say(text)
    else:
        spec = new_spec(settings, opened, annotations, features)
    facts = {
        "path": list(paths),
        "train": opened.n_train,
        "validation": opened.n_validation,
        "held_out": list(opened.held_out),
        "train_false": int(opened.label_counts[0]),
        "train_true": int(opened.label_counts[1]),
        "tensors": opened.tensor_settings,
        "sha256": opened.digest,
    }
    return ReplicaJob(
        settings=settings,
        data=paths,
        model_out=model_out,
        spec=spec,
        ranges=training_ranges(spec.annotation_names, annotations),
        class_weights=class_weights,
        data_facts=facts,
        known=known_values(
            (*spec.annotation_names, *spec.feature_names),
            np.concatenate([annotations, features], axis=1),
            datasets,
        ),
        lanes=settings.lanes_used(opened.n_row_groups),
        init_sha256=start.sha256 if start else "",
        picture_sha256=starting_card(settings.picture, settings.model, model_out, whole=True).sha256
        if settings.picture
        else "",
        annotation_columns=columns,
        feature_columns=feature_columns,
        data_opener=data_opener,
    )


def class_weights_of(opened: TrainingData, paths: Sequence[str], balanced: bool) -> tuple[float, float]:
    """What a false and a true allele weigh; balanced, both classes weigh the same.

    Raises InputError where alleles have no label, or a class is missing.
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
    """The spec of a network that starts from nothing: its quantiles are of these annotations (n, A) and site features
    (n, F) of the training alleles."""
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
    """Raises UsageError where the network cannot be trained on tensors that were built so.

    A network that looks at no reads is scored without them; tensors built with reads have columns that the reads'
    insertions open, which it would never see again.
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
