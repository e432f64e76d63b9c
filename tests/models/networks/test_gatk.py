"""GATK's networks: their size, their layers against slow and obvious versions, and their score.

That they give the reference implementation's scores with its weights is shown in tests/tensors/test_gatk_oracle.py.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from pathlib import Path

import keras
import numpy as np
import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle import load_bundle
from cnnspark.models.card import read_card
from cnnspark.models.gatk_weights.importer import gatk_bundle
from cnnspark.models.networks import gatk
from cnnspark.models.networks.layers import KeyedSpatialDropout
from cnnspark.models.networks.registry import build_model, feed, model_inputs
from cnnspark.models.spec import ModelSpec, moments
from cnnspark.tensors.schema import WINDOW
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.annotations import GATK_ANNOTATIONS
from cnnspark.variants.score_fields import log_odds
from tests.models.networks.synthetic_networks import logits
from tests.support.synthetic_training import PER_READ, synthetic_batch

KINDS = ("gatk_1d", "gatk_2d")
SPEC = ModelSpec(annotation_names=GATK_ANNOTATIONS)


def random_arrays(kind: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of the right shapes and a healthy size: about as large as those of a trained network."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in gatk.GATK_SHAPES[kind].items():
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        arrays[name] = rng.normal(scale=scale, size=shape).astype(np.float32)
        if name.endswith("running_var"):
            arrays[name] = np.abs(arrays[name]) + 1
    return arrays


@pytest.fixture(scope="module")
def models() -> dict[str, keras.Model]:
    built = {}
    for kind in KINDS:
        built[kind] = build_model(kind, SPEC)
        gatk.assign_weights(built[kind], random_arrays(kind))
    return built


@pytest.fixture(scope="module")
def batch() -> dict:
    made = synthetic_batch(6, seed=5, annotations=7)
    made["variant_type"] = np.array([0, 2, 4, 1, 3, 0], np.int32)
    return made


def padded(batch: dict, rows: int) -> dict:
    more = rows - batch["read_bases"].shape[1]
    return {
        name: np.pad(v, [(0, 0), (0, more), *[(0, 0)] * (v.ndim - 2)]) if name in PER_READ else v
        for name, v in batch.items()
    }


def test_the_architectures_have_the_published_numbers_of_parameters(models: dict) -> None:
    counted = {kind: sum(int(np.prod(w.shape)) for w in models[kind].trainable_variables) for kind in KINDS}
    assert counted == {"gatk_1d": 1_681_142, "gatk_2d": 529_394}
    for kind in KINDS:
        moments_too = sum(int(np.prod(shape)) for shape in gatk.GATK_SHAPES[kind].values())
        assert moments_too == counted[kind] + 2 * 7


def slow_channels(batch: dict, i: int) -> np.ndarray:
    """(128, 128, 15) of one example, cell by cell."""
    tensor = np.zeros((128, WINDOW, 15))
    for w, code in enumerate(batch["reference"][i]):
        if 1 <= code <= 4:
            tensor[:, w, 5 + code - 1] = 1
        elif code == 5:
            tensor[:, w, 5:9] = 0.25
        elif code == 6:
            tensor[:, w, 9] = 1
    for r in range(batch["row_count"][i]):
        codes = batch["read_bases"][i, r]
        for w, code in enumerate(codes):
            right = 1 - 10 ** (-float(batch["read_quals"][i, r, w]) / 10)
            if 1 <= code <= 4:
                tensor[r, w, :4] = (1 - right) / 3
                tensor[r, w, code - 1] = right
            elif code == 5:
                tensor[r, w, :4] = 0.25
            elif code == 6:
                tensor[r, w, 4] = 1
        used = np.flatnonzero(codes)
        if len(used):
            flag = int(batch["read_flags"][i, r])
            row = [flag >> bit & 1 for bit in (4, 5, 6, 7)] + [batch["read_mapqs"][i, r] / 60]
            tensor[r, used[0] : used[-1], 10:] = row
    return tensor


def test_the_fifteen_channels_equal_a_loop_over_every_cell() -> None:
    rng = np.random.default_rng(1)
    rows = 9
    batch = {
        "read_bases": rng.integers(0, 7, (3, rows, WINDOW)).astype(np.uint8),
        "read_quals": rng.integers(0, 94, (3, rows, WINDOW)).astype(np.uint8),
        "read_flags": rng.integers(0, 1 << 12, (3, rows)).astype(np.int32),
        "read_mapqs": rng.choice([0, 37, 60, 255], (3, rows)).astype(np.uint8),
        "reference": rng.integers(0, 7, (3, WINDOW)).astype(np.uint8),
        "row_count": np.array([9, 4, 0], np.int32),
    }
    batch["read_bases"][0, 0, :50] = batch["read_bases"][0, 0, 60:] = 0
    batch["read_bases"][0, 1] = 0  # a row without bases
    batch["read_bases"][0, 2, :] = 0
    batch["read_bases"][0, 2, 7] = 3  # a single base: nothing to paint, its column is the last
    mask = (np.arange(rows) < batch["row_count"][:, None]).astype(np.float32)
    arrays = [batch[n] for n in ("read_bases", "read_quals", "read_flags", "read_mapqs", "reference")]
    got = np.asarray(gatk.GatkReadTensor(200)(*arrays, mask))
    assert got.shape == (3, 128, WINDOW, 15)
    for i in range(3):
        np.testing.assert_allclose(got[i], slow_channels(batch, i), atol=1e-6)


def slow_logit(p: np.ndarray, kind: int) -> float:
    """The score by GATK's formula in float64, and by bisection the logit that the card's score makes it from."""
    scores = [np.log(1e-7 + p[t] / (p[f] + 1e-7)) for t, f in ((gatk.SNP, gatk.NOT_SNP), (gatk.INDEL, gatk.NOT_INDEL))]
    wanted = {0: scores[0], 2: scores[1], 3: scores[1]}.get(kind, max(scores))
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if log_odds(1 / (1 + np.exp(-np.array(middle)))) < wanted else (low, middle)
    return low


@pytest.mark.parametrize("kind", list(VariantType))
def test_the_score_made_from_the_logit_is_gatks_of_the_records_type(kind: VariantType) -> None:
    rng = np.random.default_rng(3)
    classes = np.concatenate([rng.normal(scale=s, size=(50, 4)) for s in (1, 5, 20, 100)]).astype(np.float32)
    got = np.asarray(gatk.GatkLogit()(classes, np.full(len(classes), int(kind), np.int32))).astype(np.float64)
    exact = np.exp(classes.astype(np.float64) - classes.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    expected = log_odds(1 / (1 + np.exp(-np.array([slow_logit(p, int(kind)) for p in exact]))))
    np.testing.assert_allclose(log_odds(1 / (1 + np.exp(-got))), expected, atol=1e-4)
    assert expected.max() > 16.11 and expected.min() < (-16.11 if kind.name in ("SNV", "INSERTION") else 16)


def test_gradients_are_finite_however_sure_the_network_is() -> None:
    import tensorflow as tf

    extremes = np.array(
        [[a, b, c, d] for a in (-1e4, 0, 1e4) for b in (-90, 90) for c in (-1e4, 0, 1e4) for d in (0, 50)]
    )
    for kind in VariantType:
        classes = tf.constant(extremes.astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(classes)
            out = gatk.GatkLogit()(classes, np.full(len(extremes), int(kind), np.int32))
            loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(out), out))
        assert np.isfinite(out.numpy()).all() and np.isfinite(tape.gradient(loss, classes).numpy()).all()


def test_annotations_are_normalised_with_their_own_moments_and_zero_where_missing() -> None:
    values = np.array([[1, np.nan], [3, 10], [np.nan, 20]], np.float32)
    means, variances = moments(values)
    assert means == pytest.approx((4 / 3, 10))
    got = np.asarray(gatk.FixedNormalization(means, variances)(values))
    filled = np.nan_to_num(values)
    np.testing.assert_allclose(got, (filled - filled.mean(0)) / np.sqrt(filled.var(0) + 1e-3), atol=1e-5)


def slow_gatk_2d(arrays: dict[str, np.ndarray], tensor: np.ndarray, annotations: np.ndarray) -> np.ndarray:
    """The four outputs for one (128, 128, 15) tensor, all 128 rows computed, in PyTorch's order of the arrays."""

    def conv(x: np.ndarray, name: str) -> np.ndarray:  # (rows, columns, in)
        weight = arrays[f"{name}.weight"]
        rows, columns = weight.shape[2:]
        shape = (x.shape[0] - rows + 1, x.shape[1] - columns + 1, len(weight))
        out = np.zeros(shape) + arrays[f"{name}.bias"]
        for i in range(rows):
            for j in range(columns):
                out += x[i : i + shape[0], j : j + shape[1]] @ weight[:, :, i, j].T
        return np.maximum(out, 0)

    def pool(x: np.ndarray) -> np.ndarray:
        return x[: len(x) // 3 * 3].reshape(-1, 3, *x.shape[1:]).max(axis=1)

    x = pool(conv(conv(conv(tensor, "conv.0"), "conv.3"), "conv.6"))
    x = pool(conv(x, "conv.10")).ravel()
    norm = "dense_1.0"
    a = (annotations - arrays[f"{norm}.running_mean"]) / np.sqrt(arrays[f"{norm}.running_var"] + 1e-3)
    a = a * arrays[f"{norm}.weight"] + arrays[f"{norm}.bias"]
    a = np.maximum(arrays["dense_1.1.weight"] @ a + arrays["dense_1.1.bias"], 0)
    x = np.maximum(arrays["dense_2.0.weight"] @ np.concatenate([x, a]) + arrays["dense_2.0.bias"], 0)
    return arrays["dense_2.3.weight"] @ x + arrays["dense_2.3.bias"]


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 16, 55, 56, 79, 80, 103, 104, 128])
def test_computing_one_empty_row_for_all_equals_all_128_rows(models: dict, rows: int) -> None:
    one = synthetic_batch(1, seed=rows, rows=max(2, rows), annotations=7)
    one["row_count"][:] = rows
    one["annotations"] = np.nan_to_num(one["annotations"])
    expected = slow_gatk_2d(random_arrays("gatk_2d"), slow_channels(one, 0), one["annotations"][0])
    model = keras.Model(models["gatk_2d"].inputs, models["gatk_2d"].get_layer("classes").output)
    for more in (0, 7):
        wider = padded(one, min(128, one["read_bases"].shape[1] + more))
        fed = feed(wider, model_inputs(model))
        np.testing.assert_allclose(np.asarray(model([fed[t.name] for t in model.inputs]))[0], expected, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_neither_the_batch_nor_its_padding_changes_an_example(
    models: dict, batch: dict, kind: str, training: bool
) -> None:
    keyed = {**batch, "noise_key": np.arange(6, dtype=np.int32) * 7919}
    whole = logits(models[kind], keyed, training=training)
    assert whole.std() > 1e-3
    for i in range(6):
        alone = {name: values[i : i + 1] for name, values in keyed.items()}
        np.testing.assert_allclose(logits(models[kind], alone, training=training), whole[i : i + 1], atol=1e-4)
    np.testing.assert_allclose(logits(models[kind], padded(keyed, 128), training=training), whole, atol=1e-4)
    assert (np.abs(logits(models[kind], keyed) - whole).max() > 1e-3) == training


def test_spatial_dropout_drops_whole_channels_at_its_rate() -> None:
    x = np.ones((200, 3, 5, 64), np.float32)
    got = np.asarray(KeyedSpatialDropout(0.1, salt=3)(x, np.arange(200, dtype=np.int32), training=True))
    assert (got == got[:, :1, :1]).all()
    assert set(np.unique(got).tolist()) == {0.0, np.float32(1 / 0.9)}
    assert abs((got[:, 0, 0] == 0).mean() - 0.1) < 0.011  # 4 standard errors of 12,800 draws


def test_an_indels_score_comes_from_other_classes_than_a_snps(models: dict, batch: dict) -> None:
    for kind in KINDS:
        as_snp, as_indel, as_other = (
            logits(models[kind], {**batch, "variant_type": np.full(6, t, np.int32)})
            for t in (VariantType.SNV, VariantType.DELETION, VariantType.MIXED)
        )
        assert np.abs(as_snp - as_indel).min() > 1e-4
        np.testing.assert_array_equal(as_other, np.maximum(as_snp, as_indel))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_imported_weights_keeps_them_and_says_which_tensors_it_needs(
    models: dict, batch: dict, tmp_path: Path, kind: str
) -> None:
    arrays = random_arrays(kind) | {"dense_1.0.num_batches_tracked": np.array(7)}
    gatk_bundle(kind, arrays, tmp_path / "m", source="weights.npz")
    np.testing.assert_allclose(load_bundle(tmp_path / "m").logits(batch), logits(models[kind], batch), atol=1e-5)
    card = read_card(tmp_path / "m")
    assert card.model == kind and card.annotation_names == GATK_ANNOTATIONS
    assert card.data["tensors"]["encoding"] == "gatk" and card.data["tensors"]["read_limit"] == 128
    with pytest.raises(InputError, match="exists"):
        gatk_bundle(kind, arrays, tmp_path / "m")


def test_weights_of_another_network_are_refused_by_name() -> None:
    good = random_arrays("gatk_1d")
    cases: list[tuple[dict, str]] = [
        ({k: v for k, v in good.items() if k != "conv.5.bias"}, "conv.5.bias is missing"),
        (good | {"conv.9.weight": good["conv.0.weight"]}, "conv.9.weight does not belong there"),
        (good | {"dense_3.bias": np.zeros(5, np.float32)}, r"dense_3.bias is \(5,\) instead of \(4,\)"),
        (good | {"dense_3.bias": np.full(4, np.nan, np.float32)}, "dense_3.bias holds values that are not finite"),
        (good | {"dense_3.bias": np.zeros(4, np.int64)}, "dense_3.bias holds int64 instead of numbers"),
        (good | {"normalize.running_var": np.full(7, -1.0)}, "negative variances"),
        (random_arrays("gatk_2d"), "the weights are not those of gatk_1d"),
    ]
    for arrays, message in cases:
        with pytest.raises(InputError, match=message):
            gatk.check_arrays("gatk_1d", arrays)


def test_what_the_networks_cannot_take_is_said() -> None:
    with pytest.raises(UsageError, match="take annotations"):
        build_model("gatk_1d", ModelSpec())
    with pytest.raises(UsageError, match="128 rows"):
        build_model("gatk_2d", ModelSpec(annotation_names=("DP",), read_limit=200))


def test_a_spec_with_moments_survives_json_and_refuses_the_wrong_number() -> None:
    spec = ModelSpec(annotation_names=("DP", "QD"), annotation_means=(1.5, 2), annotation_variances=(0.25, 4))
    assert ModelSpec.from_json(spec.to_json()) == spec
    older = {k: v for k, v in spec.to_json().items() if not k.startswith("annotation_m") and "variances" not in k}
    assert ModelSpec.from_json(older).annotation_means == ()
    with pytest.raises(ValueError, match="means or variances"):
        ModelSpec(annotation_names=("DP",), annotation_means=(1, 2))
