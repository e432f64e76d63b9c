"""The networks, their layers against slow and obvious versions, and the bundle."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle import Bundle, load_bundle, save_bundle
from cnnspark.models.calibration import Platt
from cnnspark.models.card import Card, read_card, training_ranges
from cnnspark.models.input_drift import known_values
from cnnspark.models.networks import layers as ours
from cnnspark.models.networks.registry import BUILDERS, build_model, complexity, feed, model_inputs
from cnnspark.models.spec import BINS, NEVER_SEEN, ModelSpec, quantile_edges
from cnnspark.models.summary import usual_spec
from cnnspark.tensors.schema import MATE_ROW, WINDOW
from cnnspark.variants.score_fields import log_odds
from tests.support.synthetic_training import synthetic_batch


def spec_of(batch: dict) -> ModelSpec:
    return ModelSpec(
        tuple(f"a{i}" for i in range(batch["annotations"].shape[1])),
        tuple(f"f{i}" for i in range(batch["site_features"].shape[1])),
        quantile_edges(batch["annotations"]),
        quantile_edges(batch["site_features"]),
    )


@pytest.fixture(scope="module")
def batch() -> dict:
    return synthetic_batch(12, seed=5)


@pytest.fixture(scope="module")
def reads_model(batch: dict) -> keras.Model:
    keras.utils.set_random_seed(3)
    model = build_model("reads", spec_of(batch))
    # Biases and scales as after training: at their first values of 0 and 1 a missing mask would not show.
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        if len(weight.shape) == 1:
            weight.assign(np.asarray(weight) + rng.uniform(0.1, 0.3, weight.shape))
    # At first it is 0: what reads say would not show.
    for head in ("counts_logit", "picture_logit"):
        kernel = model.get_layer(head).kernel
        kernel.assign(rng.normal(0, 0.2, kernel.shape))
    return model


def logits(model: keras.Model, batch: dict, **more: object) -> np.ndarray:
    return np.asarray(model(feed(batch, model_inputs(model)), **more))


def padded(batch: dict, more: int, garbage: bool = False) -> dict:
    result = dict(batch)
    rng = np.random.default_rng(9)
    for name in ("read_bases", "read_quals", "read_flags", "read_mapqs", "read_support"):
        values = batch[name]
        extra = np.zeros((len(values), more, *values.shape[2:]), values.dtype)
        if garbage:
            extra = rng.integers(1, 4, extra.shape).astype(values.dtype)
        result[name] = np.concatenate([values, extra], axis=1)
    return result


@pytest.mark.parametrize("garbage", [False, True])
def test_padding_rows_have_no_influence_whatever_they_hold(
    batch: dict, reads_model: keras.Model, garbage: bool
) -> None:
    expected = logits(reads_model, batch)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(logits(reads_model, padded(batch, 24, garbage)), expected, atol=1e-5)


def test_padding_rows_get_no_gradient(batch: dict, reads_model: keras.Model) -> None:
    import tensorflow as tf

    def gradients(of: dict) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(reads_model(feed(of, model_inputs(reads_model))))
        return [g.numpy() for g in tape.gradient(total, reads_model.trainable_variables)]

    for plain, more in zip(gradients(batch), gradients(padded(batch, 24, garbage=True)), strict=True):
        np.testing.assert_allclose(more, plain, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(plain).max()))


def test_an_allele_without_reads_gets_a_finite_logit_that_its_neighbours_do_not_change(
    batch: dict, reads_model: keras.Model
) -> None:
    empty = dict(batch, row_count=batch["row_count"].copy())
    empty["row_count"][0] = 0
    got = logits(reads_model, empty)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[1:], logits(reads_model, batch)[1:], atol=1e-5)
    none = {name: v[:1, :0] if name.startswith("read_") else v[:1] for name, v in empty.items()}
    np.testing.assert_allclose(logits(reads_model, none), got[:1], atol=1e-5)


@pytest.mark.parametrize("name", ["read_bases", "read_quals", "read_flags", "read_mapqs", "read_support", "alternate"])
def test_every_input_matters(batch: dict, reads_model: keras.Model, name: str) -> None:
    changed = dict(batch)
    changed[name] = np.where(batch[name] > 0, 1, 0).astype(batch[name].dtype)
    assert np.abs(logits(reads_model, changed) - logits(reads_model, batch)).max() > 1e-4


def test_the_order_of_examples_does_not_matter(batch: dict, reads_model: keras.Model) -> None:
    turned = {name: values[::-1] for name, values in batch.items()}
    np.testing.assert_allclose(logits(reads_model, turned)[::-1], logits(reads_model, batch), atol=1e-5)


def test_reads_stays_within_its_budget(reads_model: keras.Model) -> None:
    parameters, macs = complexity(reads_model)
    assert parameters < 200_000 and 10 < macs < 25
    # by hand: places x kernel x channels in x channels out, of one layer of each kind
    small = keras.Sequential([keras.Input((32, WINDOW, 2)), keras.layers.Conv2D(4, (1, 5), (1, 2), padding="same")])
    assert complexity(small) == (5 * 2 * 4 + 4, 32 * 64 * 5 * 2 * 4 / 1e6)


def test_base_channels_equal_a_loop_over_every_cell(batch: dict) -> None:
    rng = np.random.default_rng(1)
    bases = rng.integers(0, 7, (3, 5, WINDOW)).astype(np.uint8)
    reference, alternate = rng.integers(0, 7, (2, 3, WINDOW)).astype(np.uint8)
    mask = np.ones((3, 5), np.float32)
    mask[1, 3:] = 0
    got = np.asarray(ours.BaseChannels()(bases, reference, alternate, mask))
    expected = np.zeros((3, 5, WINDOW, 8))
    for b, r, w in np.ndindex(bases.shape):
        code = bases[b, r, w]
        if not mask[b, r] or code == 0:
            continue
        expected[b, r, w, code - 1] = 1
        for channel, window in ((6, reference), (7, alternate)):
            if code <= 4 and window[b, w] not in (0, 5) and code != window[b, w]:
                expected[b, r, w, channel] = 1
    np.testing.assert_array_equal(got, expected)


def test_row_channels_know_an_unknown_mapping_quality_and_the_flags() -> None:
    flags, mapqs = np.array([[0x1 | 0x10 | 0x40 | MATE_ROW, 0]], np.int32), np.array([[255, 30]], np.uint8)
    support, bases = np.array([[2, 0]], np.uint8), np.zeros((1, 2, WINDOW), np.uint8)
    bases[0, 0, :32] = 6
    got = np.asarray(ours.RowChannels()(flags, mapqs, support, bases, np.ones((1, 2), np.float32)))
    np.testing.assert_allclose(got[0, 0], [0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0.25, 0, 1])
    np.testing.assert_allclose(got[0, 1], [0.5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])


def test_supports_are_counted_by_orientation() -> None:
    flags = np.array([[99, 147, 83, 163, 0, 99]], np.int32)  # F1R2, F1R2, F2R1, F2R1, unpaired; padding
    support = np.array([[2, 2, 2, 1, 2, 2]], np.uint8)
    mask = np.array([[1, 1, 1, 1, 1, 0]], np.float32)
    got = np.asarray(ours.SupportCounts()(support, flags, mask))[0]
    np.testing.assert_allclose(got[:8], [*np.log1p([0, 1, 4, 0]), 0, 0.2, 0.8, 0], rtol=1e-6)
    np.testing.assert_allclose(got[8:11], [*np.log1p([0, 1]), 0.25], rtol=1e-6)  # REF
    np.testing.assert_allclose(got[11:], [*np.log1p([2, 1]), 0.625], rtol=1e-6)  # ALT


def test_pooling_equals_numpy_over_the_reads_of_each_group() -> None:
    rng = np.random.default_rng(2)
    x, support = rng.normal(size=(3, 6, 4, 5)).astype(np.float32), rng.integers(0, 4, (3, 6)).astype(np.uint8)
    mask = (np.arange(6) < np.array([[6], [2], [0]])).astype(np.float32)
    support[1, :2] = 1  # nothing supports the ALT
    got = np.asarray(ours.PoolReads()(x, mask, support))
    for b in range(3):
        inside = mask[b] > 0
        groups = [x[b, inside], x[b, inside & (support[b] == 1)], x[b, inside & (support[b] == 2)]]
        parts = [g.mean(axis=0) if len(g) else np.zeros((4, 5)) for g in groups]
        parts.append(groups[0].max(axis=0) if len(groups[0]) else np.zeros((4, 5)))
        np.testing.assert_allclose(got[b], np.concatenate(parts, axis=-1), atol=1e-6)


def test_quantile_codes_equal_a_loop_over_the_bins() -> None:
    rng = np.random.default_rng(3)
    sample = np.stack([rng.normal(size=200), rng.integers(0, 2, 200), np.full(200, np.nan), np.full(200, 2)], axis=1)
    edges = quantile_edges(sample)
    assert edges[2] == (pytest.approx(NEVER_SEEN),) * (BINS + 1)
    values = np.array(
        [[-99, 0, 1, 2], [0.3, 1, np.nan, np.nan], [np.nan, np.nan, np.nan, 1], [99, 0.5, np.inf, 3]], np.float32
    )
    got = np.asarray(ours.QuantileEncoding(edges)(values)).reshape(4, 4, BINS + 2)
    for (i, j), value in np.ndenumerate(values):
        expected = np.zeros(BINS + 2)
        if np.isnan(value) or j == 2:  # the third was never seen
            expected[-1] = 1
        else:
            row = np.array(edges[j], np.float32)
            for k in range(BINS):
                low, high = row[k], row[k + 1]
                expected[k] = float(value >= high) if high == low else min(1, max(0, (value - low) / (high - low)))
            scale = row[-2] - row[1] or row[-1] - row[0] or 1
            expected[BINS] = min(3, max(-3, (value - row[BINS // 2]) / scale))
        np.testing.assert_allclose(got[i, j], expected, atol=1e-5)


def test_a_value_that_is_nearly_everywhere_leaves_bins_to_the_rest() -> None:
    def slow(column: np.ndarray) -> list[float]:
        """Each value written down as often as it may count, in order; then every n-th of the list."""
        most = len(column) // (4 * BINS)
        kept = [v for v in sorted(set(column)) for _ in range(min(most, int((column == v).sum())))]
        inner = [kept[-(-len(kept) * k // BINS) - 1] for k in range(1, BINS)]
        row = sorted({kept[0], *inner, kept[-1]})
        return row + row[-1:] * (BINS + 1 - len(row))

    rng = np.random.default_rng(4)
    sparse = np.concatenate([np.zeros(1540), rng.random(60)])
    columns = [sparse, rng.normal(size=1600), rng.integers(0, 3, 1600), rng.poisson(0.5, 1600), np.full(1600, 7.0)]
    got = quantile_edges(np.stack(columns, axis=1))
    for column, row in zip(columns, got, strict=True):
        np.testing.assert_allclose(row, slow(column.astype(np.float32)))
    assert 0.2 < got[0][1] < 0.8  # of plain quantiles only the last is not 0
    np.testing.assert_allclose(got[1], np.quantile(columns[1], np.linspace(0, 1, BINS + 1)), atol=0.02)
    assert got[4] == (7.0,) * (BINS + 1)


def test_noise_is_a_hash_of_seed_step_and_example_with_the_promised_rate() -> None:
    keys = ours.noise_keys(np.arange(-500, 500, dtype=np.int32), seed=1, step=7)
    assert keys.dtype == np.int32 and len(set(keys.tolist())) == 1000
    layer = ours.KeyedDropout(0.3, salt=1)
    x = np.ones((1000, 64), np.float32)
    got = np.asarray(layer(x, keys, training=True))
    assert set(np.unique(got).tolist()) == {0.0, np.float32(1 / 0.7)}
    dropped = got == 0
    # 64,000 draws: 4 standard errors are 0.007; of one unit or one example, 0.06 and 0.23
    assert abs(dropped.mean() - 0.3) < 0.007
    assert np.abs(dropped.mean(axis=0) - 0.3).max() < 0.06
    assert np.abs(dropped.mean(axis=1) - 0.3).max() < 0.25
    # neighbouring units and examples are independent
    assert abs(np.corrcoef(dropped[:, :-1].ravel(), dropped[:, 1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(dropped[:-1].ravel(), dropped[1:].ravel())[0, 1]) < 0.02
    # an example is treated alike wherever it stands; another seed, step or layer treats it differently
    np.testing.assert_array_equal(np.asarray(layer(x[:10], keys[990:], training=True)), got[990:])
    for other in (ours.noise_keys(np.arange(-500, 500), 2, 7), ours.noise_keys(np.arange(-500, 500), 1, 8)):
        assert ((np.asarray(layer(x, other, training=True)) == 0) != dropped).mean() > 0.4
    assert ((np.asarray(ours.KeyedDropout(0.3, salt=2)(x, keys, training=True)) == 0) != dropped).mean() > 0.4
    np.testing.assert_array_equal(np.asarray(layer(x, keys, training=False)), x)


def test_the_hash_equals_murmur3_in_unsigned_arithmetic() -> None:
    values = np.random.default_rng(0).integers(-(2**31), 2**31, 1000).astype(np.int32)

    def fmix32(h: int) -> int:  # Appleby's MurmurHash3.cpp
        h ^= h >> 16
        h = h * 0x85EBCA6B & 0xFFFFFFFF
        h ^= h >> 13
        h = h * 0xC2B2AE35 & 0xFFFFFFFF
        return h ^ h >> 16

    expected = np.array([fmix32(int(v) & 0xFFFFFFFF) for v in values], np.uint32)
    np.testing.assert_array_equal(np.asarray(ours._mix(keras.ops.convert_to_tensor(values))).view(np.uint32), expected)
    np.testing.assert_array_equal(ours._mix_numpy(values.view(np.uint32)), expected)


def test_an_unknown_model_names_the_known_ones_and_features_needs_some() -> None:
    with pytest.raises(UsageError, match="features, gatk_1d, gatk_2d, reads, reference"):
        build_model("resnet", ModelSpec())
    with pytest.raises(UsageError, match="needs annotations or site features"):
        build_model("features", ModelSpec())


def test_reads_works_without_annotations_and_site_features(batch: dict) -> None:
    assert logits(build_model("reads", ModelSpec()), batch).shape == (12,)


@pytest.fixture(scope="module")
def saved(batch: dict, reads_model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model"
    spec = spec_of(batch)
    ranges = training_ranges(spec.annotation_names, batch["annotations"])
    save_bundle(path, reads_model, Card("reads", spec, ranges, {"SNP": {"0.90": 1.5, "0.99": None}}))
    return path


def test_a_bundle_gives_the_same_numbers_after_saving_in_safe_mode(
    batch: dict, reads_model: keras.Model, saved: Path
) -> None:
    bundle = load_bundle(saved)
    expected = logits(reads_model, batch)
    np.testing.assert_allclose(bundle.logits(batch), expected, atol=1e-5)
    probability = bundle.predict(batch)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-expected.astype(np.float64))), rtol=1e-5)
    assert probability.dtype == np.float64
    assert bundle.predict({name: values[:0] for name, values in batch.items()}).shape == (0,)
    np.testing.assert_allclose(bundle.predict(padded(batch, 8)), probability, rtol=1e-5)
    assert bundle.card == read_card(saved)


def test_scoring_leaves_nothing_in_the_folder_for_temporary_files(
    batch: dict, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AutoGraph writes the code that it makes there, and who kills a worker leaves it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load_bundle(saved).predict(batch)
    assert not list(tmp_path.iterdir())


def test_predictions_are_calibrated_and_rank_as_before(batch: dict, saved: Path) -> None:
    bundle = load_bundle(saved)
    plain = bundle.logits(batch).astype(np.float64)
    calibrated = Bundle(dataclasses.replace(bundle.card, calibration=Platt(0.5, -1.25)), bundle.model)
    probability = calibrated.predict(batch)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-(0.5 * plain - 1.25))), rtol=1e-9)
    np.testing.assert_array_equal(np.argsort(probability), np.argsort(plain))


def test_calibration_and_histograms_come_back_from_the_card(batch: dict, saved: Path, tmp_path: Path) -> None:
    bundle = load_bundle(saved)
    known = known_values(bundle.card.annotation_names, batch["annotations"])
    card = dataclasses.replace(
        bundle.card, calibration=Platt(0.5, -1.25), sensitivity_thresholds={"ALL": {"0.999": -3.0}}, known=known
    )
    written = save_bundle(tmp_path / "m", bundle.model, card)
    assert read_card(tmp_path / "m") == written


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("calibration", {"slope": 0, "intercept": 0}),
        ("calibration", 3),
        ("known", {"alleles": 3}),
        ("known", {"alleles": 3, "histograms": [{"name": "x", "edges": [1, 2], "counts": [1], "noise": 1}]}),
        ("sensitivity_thresholds", []),
    ],
)
def test_a_damaged_calibration_or_histogram_is_refused(saved: Path, tmp_path: Path, name: str, value: object) -> None:
    shutil.copytree(saved, tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps(card | {name: value}))
    with pytest.raises(InputError, match="incomplete"):
        read_card(tmp_path / "m")


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_model_survives_saving(batch: dict, tmp_path: Path, name: str) -> None:
    model = build_model(name, spec_of(batch))
    save_bundle(tmp_path / "m", model, Card(name, spec_of(batch)))
    np.testing.assert_allclose(load_bundle(tmp_path / "m").logits(batch), logits(model, batch), atol=1e-5)


def test_a_bundle_is_not_overwritten_unless_told(batch: dict, saved: Path, reads_model: keras.Model) -> None:
    card = read_card(saved)
    with pytest.raises(InputError, match="exists"):
        save_bundle(saved, reads_model, card)
    save_bundle(saved, reads_model, card, replace=True)
    assert read_card(saved).spec == card.spec
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_card_is_read_without_keras(saved: Path) -> None:
    code = (
        "import sys; from cnnspark.models.card import read_card; card = read_card(sys.argv[1]);"
        "assert not {'keras', 'tensorflow', 'pyspark'} & set(sys.modules); print(card.model, card.thresholds)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "reads {'SNP': {'0.90': 1.5, '0.99': None}}"


def test_what_is_not_a_bundle_is_said_so(saved: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for file in saved.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    def edited(name: str, **changes: object) -> Path:
        target = copy(name)
        card = json.loads((target / "model.json").read_text()) | changes
        (target / "model.json").write_text(json.dumps(card))
        return target

    no_network, no_card, no_json, other = copy("a"), copy("b"), copy("c"), copy("d")
    (no_network / "model.keras").unlink()
    (no_card / "model.json").unlink()
    (no_json / "model.json").write_text("{")
    with open(other / "model.keras", "ab") as network:
        network.write(b"x")
    cases = [
        (tmp_path / "nowhere", "is not a model bundle"),
        (saved / "model.json", "is not a model bundle"),
        (no_network, "model.keras is missing"),
        (no_card, "model.json is missing"),
        (no_json, "is not JSON"),
        (edited("e", format="other"), "is not the card of a cnnspark model"),
        (edited("f", format_version=99), "format version 99"),
        (edited("g", spec={}), "is incomplete"),
        (edited("h", thresholds=[]), "is incomplete"),
        (edited("i", schema={"window": 64}), "another layout"),
        (other, "is not the network its card describes"),
    ]
    for path, message in cases:
        with pytest.raises(InputError, match=message):
            load_bundle(path)


def test_code_hidden_in_a_network_is_refused(saved: Path, tmp_path: Path) -> None:
    x = keras.Input((3,), name="annotations")
    model = keras.Model({"annotations": x}, keras.layers.Reshape(())(keras.layers.Lambda(lambda v: v[:, :1])(x)))
    card = dataclasses.replace(read_card(saved), sha256="")
    save_bundle(tmp_path / "m", model, card)
    with pytest.raises(InputError, match="cannot be opened"):
        load_bundle(tmp_path / "m")


def test_scores_are_log_odds_with_the_documented_smoothing() -> None:
    np.testing.assert_allclose(log_odds(np.array([0.5, 1.0, 0.0])), [0, np.log((1 + 1e-7) / 1e-7), -np.log(1e7 + 1)])


def test_ranges_leave_missing_values_out() -> None:
    values = np.array([[0, np.nan], [100, np.nan], [50, np.nan], [np.nan, np.nan]])
    first, second = training_ranges(("DP", "QD"), values)
    assert (first.minimum, first.median, first.maximum, first.missing_share) == (0, 50, 100, 0.25)
    assert second.median is None and second.missing_share == 1


def test_prediction_is_compiled_once_for_all_shapes(batch: dict, saved: Path) -> None:
    bundle: Bundle = load_bundle(saved)
    for count, more in ((1, 0), (5, 8), (12, 24)):
        bundle.predict(padded({name: values[:count] for name, values in batch.items()}, more))
    assert bundle._logits.experimental_get_tracing_count() == 1


def test_the_same_network_gives_the_same_bytes_whenever_it_is_saved(tmp_path: Path) -> None:
    code = (
        "import sys, keras; from cnnspark.models.summary import usual_spec;"
        "from cnnspark.models.networks.registry import build_model; from cnnspark.models.bundle import save_bundle;"
        "from cnnspark.models.card import Card; keras.utils.set_random_seed(1);"
        "spec = usual_spec('features'); card = Card('features', spec);"
        "print(save_bundle(sys.argv[1], build_model('features', spec), card).sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one")], capture_output=True, text=True, check=True
    )
    # Here other networks have been made before, and it is later.
    keras.utils.set_random_seed(1)
    spec = usual_spec("features")
    card = save_bundle(tmp_path / "two", build_model("features", spec), Card("features", spec))
    assert card.sha256 == done.stdout.strip()
    load_bundle(tmp_path / "two")
