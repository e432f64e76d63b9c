"""A small dataset in one npz file with the interface of :class:`cnnspark.training.data.TrainingData`, for the tests of
training: a global batch is a permutation's slice, so it is the same for any number of replicas. The last one of an
epoch is filled up with the first alleles of the permutation."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnspark.tensors.schema import SUPPORTS_ALT, SUPPORTS_REF, WINDOW
from cnnspark.training import TrainResult, TrainSettings, driver, job

OPENER = "tests.support.synthetic_training:open_synthetic"
PER_READ = ("read_bases", "read_quals", "read_flags", "read_mapqs", "read_support")


def synthetic_batch(count: int, seed: int, rows: int = 16, annotations: int = 3, features: int = 4) -> dict[str, Any]:
    """Alleles whose ALT reads are of low mapping quality where they are false; all arrays as a batch has them."""
    rng = np.random.default_rng(seed)
    label = (np.arange(count) % 2).astype(np.float32)
    row_count = rng.integers(2, rows + 1, count).astype(np.int32)
    inside = np.arange(rows) < row_count[:, None]
    reference = rng.integers(1, 5, (count, WINDOW)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:, 64] = reference[:, 64] % 4 + 1
    support = np.where(np.arange(rows) % 2, SUPPORTS_ALT, SUPPORTS_REF)[None].repeat(count, axis=0)
    bases = np.where((support == SUPPORTS_ALT)[..., None], alternate[:, None], reference[:, None])
    low = (support == SUPPORTS_ALT) & (label[:, None] == 0)
    values = rng.normal(size=(count, annotations)) + 0.5 * label[:, None]
    values[rng.random(values.shape) < 0.1] = np.nan
    return {
        "read_bases": (bases * inside[..., None]).astype(np.uint8),
        "read_quals": (rng.integers(10, 41, bases.shape) * inside[..., None]).astype(np.uint8),
        "read_flags": (rng.choice([99, 147, 83, 163], (count, rows)) * inside).astype(np.int32),
        "read_mapqs": (np.where(low, 20, 60) * inside).astype(np.uint8),
        "read_support": (support * inside).astype(np.uint8),
        "reference": reference,
        "alternate": alternate,
        "annotations": values.astype(np.float32),
        "site_features": rng.normal(size=(count, features)).astype(np.float32),
        "row_count": row_count,
        "label": label,
        "weight": np.ones(count, np.float32),
        "variant_type": (np.arange(count) % 3).astype(np.int32),
        "example_key": rng.integers(-(2**31), 2**31, count).astype(np.int32),
    }


def write_synthetic(folder: Path, train: int, validation: int) -> str:
    """Writes training and validation alleles; returns the folder as the data's path."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", **synthetic_batch(train, seed=1))
    np.savez(folder / "validation.npz", **synthetic_batch(validation, seed=2))
    return str(folder)


class SyntheticData:
    """The files of :func:`write_synthetic` as training data."""

    annotation_names = ("QD", "FS", "MQ")
    feature_names: tuple[str, ...] = ("f1", "f2", "f3", "f4")

    def __init__(self, path: str):
        self.folder = Path(path)
        self.train = dict(np.load(self.folder / "train.npz"))
        self.validation = dict(np.load(self.folder / "validation.npz"))
        self.n_train, self.n_validation = len(self.train["label"]), len(self.validation["label"])
        self.n_row_groups = 99
        self.validation_blocks = np.arange(self.n_validation) // 50
        self.passes = 0  # over the validation alleles
        self.tensor_settings = {"read_limit": 128}
        self.with_reads = True
        self.digest = hashlib.sha256((self.folder / "train.npz").read_bytes()).hexdigest()
        self.held_out: tuple[str, ...] = ()
        self.n_unlabelled = int(sum((batch["label"] < 0).sum() for batch in (self.train, self.validation)))
        self.label_counts = (int((self.train["label"] == 0).sum()), int((self.train["label"] == 1).sum()))

    def train_batches(self, mine: range, lanes: int, batch_size: int, seed: int, epoch: int) -> Iterator[list[dict]]:
        steps = -(-self.n_train // batch_size)
        order = np.resize(np.random.default_rng([seed, epoch]).permutation(self.n_train), steps * batch_size)
        for first in range(0, len(order), batch_size):
            self._interfere(mine.stop == lanes, f"epoch {epoch}")
            yield [self._lane(order[first : first + batch_size][lane::lanes]) for lane in mine]

    def _lane(self, chosen: np.ndarray) -> dict:
        batch = {name: values[chosen] for name, values in self.train.items()}
        rows = -(-int(batch["row_count"].max()) // 8) * 8
        return {name: values[:, :rows] if name in PER_READ else values for name, values in batch.items()}

    def _interfere(self, last_replica: bool, when: str) -> None:
        """What the file ``fault`` orders for this moment ("kill epoch 1"), by the last replica and once."""
        order = self.folder / "fault"
        if not last_replica or not order.exists() or not order.read_text().endswith(f" {when}"):
            return
        kind = order.read_text().split()[0]
        order.unlink()
        if kind == "kill":
            os._exit(9)
        if kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if kind == "full":
            # Files of this process end there, as on a full disk: the history fits, weights do not.
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    def validation_batches(self, batch_size: int) -> Iterator[dict]:
        self.passes += 1
        self._interfere(True, f"pass {self.passes}")
        for first in range(0, self.n_validation, batch_size):
            yield {name: values[first : first + batch_size] for name, values in self.validation.items()}

    def feature_sample(self, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        features = self.train["site_features"][:limit]
        return self.train["annotations"][:limit], features, np.zeros(len(features), np.int32)


def open_synthetic(paths: Sequence[str], validation: Any, fields: Any = None) -> SyntheticData:
    """What :func:`train` and :func:`prepare_job` open the data by."""
    return SyntheticData(paths[0])


def train(
    spark: Any, data: str, out: str, settings: TrainSettings, say: Any = None, data_opener: str = OPENER
) -> TrainResult:
    """As the driver's, on synthetic data."""
    return driver.train(spark, data, out, settings, say, data_opener)


def prepare_job(
    data: str, out: str, settings: TrainSettings, say: Any = None, data_opener: str = OPENER
) -> job.ReplicaJob:
    """As the driver's, on synthetic data."""
    return job.prepare_job(data, out, settings, say, data_opener)


def open_one_row_group(paths: Sequence[str], validation: Any, fields: Any = None) -> SyntheticData:
    """The same as if it were in one row group."""
    data = SyntheticData(paths[0])
    data.n_row_groups = 1
    return data


class OtherCallersData(SyntheticData):
    """The same as another caller's: its annotations stand in another order, QD is missing and XX is its own."""

    annotation_names = ("XX", "INFO/MQ", "FS")

    def __init__(self, path: str):
        super().__init__(path)
        for batch in (self.train, self.validation):
            batch["annotations"] = batch["annotations"][:, [0, 2, 1]] + np.array([100, 0, 0], np.float32)


def open_of_another_caller(paths: Sequence[str], validation: Any, fields: Any = None) -> OtherCallersData:
    return OtherCallersData(paths[0])


class LaterVersionsData(SyntheticData):
    """The same as a later version built it: with two site features more, between and before the others."""

    feature_names = ("new", "f1", "f2", "f3", "newer", "f4")

    def __init__(self, path: str):
        super().__init__(path)
        for batch in (self.train, self.validation):
            batch["site_features"] = np.insert(batch["site_features"], [0, 3], 100, axis=1)


def open_of_a_later_version(paths: Sequence[str], validation: Any, fields: Any = None) -> LaterVersionsData:
    return LaterVersionsData(paths[0])


def open_without_reads(paths: Sequence[str], validation: Any, fields: Any = None) -> SyntheticData:
    """The same as tensors that were built without reads, and so without site features."""
    data = SyntheticData(paths[0])
    data.with_reads, data.feature_names = False, ()
    for batch in (data.train, data.validation):
        batch["site_features"] = batch["site_features"][:, :0]
    return data


class GatkData(SyntheticData):
    """The same as tensors of encoding gatk, which have no site features."""

    feature_names = ()

    def __init__(self, path: str, with_reads: bool):
        super().__init__(path)
        self.tensor_settings = {"read_limit": 128, "encoding": "gatk"}
        self.with_reads = with_reads
        for batch in (self.train, self.validation):
            batch["site_features"] = batch["site_features"][:, :0]


def open_gatk_1d(paths: Sequence[str], validation: Any, fields: Any = None) -> GatkData:
    return GatkData(paths[0], with_reads=False)


def open_gatk_2d(paths: Sequence[str], validation: Any, fields: Any = None) -> GatkData:
    return GatkData(paths[0], with_reads=True)
