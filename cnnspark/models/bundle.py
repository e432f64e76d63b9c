"""A model bundle: a folder with the network (``model.keras``) and its card (``model.json``). No pickle anywhere.

``history.json`` repeats the rows of the training's history, for those who want to draw them.
"""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cnnspark.common.storage import file_digest
from cnnspark.errors import InputError
from cnnspark.execution.tensorflow_setup import use_one_gpu
from cnnspark.models.bundle_files import (
    BUNDLE_FILES,
    CARD_FILE,
    HISTORY_FILE,
    NETWORK_FILE,
    is_bundled,
    new_bundle,
    opened_bundle,
)
from cnnspark.models.calibration import probabilities
from cnnspark.models.card import Card, read_opened_card
from cnnspark.models.hdf5_process import check_network
from cnnspark.models.networks.registry import feed, model_inputs
from cnnspark.tensors.batches import GPU_ROWS_AT_ONCE, ROWS_AT_ONCE


def use_threads(threads: int) -> None:
    """Sets the number of TensorFlow's threads in this process; after its first operation this changes nothing."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        return


class Bundle:
    """A trained network, ready to score; it is compiled once, for any batch size and number of rows.

    Attributes:
        card: The model's card.
        model: The network.
        rows_at_once: Alleles of a batch that suits the device.
        inputs: Names of the fields that the network takes from a batch.
    """

    def __init__(self, card: Card, model: keras.Model, on_gpu: bool = False):
        """Prepares ``model``; ``on_gpu`` tells whether it runs on a GPU, which needs large batches."""
        self.card, self.model = card, model
        self.rows_at_once = GPU_ROWS_AT_ONCE if on_gpu else ROWS_AT_ONCE
        self._dtypes = model_inputs(model)
        signature = {t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs}
        self.inputs = frozenset(self._dtypes)
        self._logits = tf.function(
            lambda inputs: model(inputs, training=False), autograph=False, input_signature=[signature]
        )

    def logits(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's output before calibration.

        Args:
            batch: Padded arrays by name, (B, ...) each (:func:`cnnspark.tensors.batches.pad_rows`).

        Returns:
            float32 (B,).
        """
        if not len(batch["row_count"]):
            return np.zeros(0, np.float32)
        return self._logits(feed(batch, self._dtypes)).numpy()

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """The calibrated probability that each allele is real.

        Args:
            batch: As for :meth:`logits`.

        Returns:
            float64 (B,).
        """
        return probabilities(self.card.calibration(self.logits(batch)))


def save_bundle(path: str | Path, model: keras.Model, card: Card, *, replace: bool = False) -> Card:
    """Writes a bundle, whole or not at all.

    Args:
        path: The bundle's folder, or its address on a store.
        model: The network.
        card: Its card; the digest is filled in.
        replace: Whether a bundle that is there is replaced.

    Returns:
        The card with the digest of the network's file.

    Raises:
        InputError: if something is there and ``replace`` is not given.
    """
    with new_bundle(path, replace) as folder:
        model.save(folder / NETWORK_FILE)
        _without_dates(folder / NETWORK_FILE)
        card = dataclasses.replace(card, sha256=file_digest(str(folder / NETWORK_FILE)))
        (folder / CARD_FILE).write_text(card.text(), encoding="utf-8")
        if card.history:
            rows = json.dumps(card.history, indent=1, allow_nan=False)
            (folder / HISTORY_FILE).write_text(rows + "\n", encoding="utf-8")
    return card


def _without_dates(path: Path) -> None:
    """Rewrites a ``.keras`` file (a zip) so that the same network gives the same bytes, whenever it is saved.

    Keras writes the date and, for objects that layers share, addresses in memory: these become running numbers.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    facts = json.loads(members["metadata.json"])
    facts.pop("date_saved", None)
    members["metadata.json"] = json.dumps(facts, sort_keys=True).encode()
    numbers: dict[bytes, int] = {}
    members["config.json"] = re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda found: b"%d" % numbers.setdefault(found[0], len(numbers)),
        members["config.json"],
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # dated 1980, which means "no date" in a zip


def load_bundle(path: str | Path, threads: int = 1) -> Bundle:
    """Loads a bundle, its network in Keras' safe mode.

    Args:
        path: A folder, an address on a store, or a bundled model ("bundled:reads").
        threads: Number of TensorFlow's threads, if this is its first operation in the process.

    Raises:
        InputError: if it is not a bundle, is damaged, or holds code that safe mode refuses.
    """
    use_threads(threads)
    on_gpu = use_one_gpu(tf)
    with opened_bundle(path, BUNDLE_FILES) as folder:
        card = read_opened_card(path, folder)
        if not is_bundled(str(path)):
            check_network(folder / NETWORK_FILE, card.sha256, path)
        try:
            model = keras.saving.load_model(folder / NETWORK_FILE, compile=False, safe_mode=True)
        except Exception as error:  # a broken archive raises whatever its broken part leads to
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"{path} cannot be opened ({reason}); use a bundle written by 'cnnspark train'") from error
    if tuple(model.output_shape) != (None,):
        raise InputError(f"{path} gives {model.output_shape} instead of one logit an allele; use another model")
    return Bundle(card, model, on_gpu)
