"""Parts of a tensor hidden one at a time, against a score that is known in closed form."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from cnnspark.reports.allele.input_familiarity import Familiar
from cnnspark.reports.allele.occlusion import (
    COLUMN_STEP,
    Part,
    effects,
    family_of,
    occlusions,
)
from cnnspark.reports.allele.tensor_columns import positions_of
from cnnspark.tensors.schema import FIELDS, SUPPORTS_ALT, SUPPORTS_REF, WINDOW, TensorBatch
from cnnspark.tensors.site_features import SITE_FEATURES
from tests.reports.allele.test_tensor_picture import TEXT, reads
from tests.tensors.test_builder import Tiny, record

ALL_FIELDS = frozenset(field.name for field in FIELDS)
EDGES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)


def inputs_of(tensors: TensorBatch) -> list[Familiar]:
    """Two annotations, of which one has no histogram, and all site features."""
    known = {"quantile": 0.5, "verdict": "usual", "why": "", "minimum": 0.0, "maximum": 10.0, "missing_share": 0.0,
             "middle": 5.0, "edges": EDGES, "shares": (0.1,) * 10}  # fmt: skip
    unknown = Familiar("INFO/Y", "annotation", 2.0, None, "unknown", "")
    # A model may name them in another order than the tensor.
    features = [
        Familiar(name=name, kind="site feature", value=float(v), **known)
        for name, v in zip(SITE_FEATURES[::-1], tensors.site_features[0][::-1], strict=True)
    ]
    return [Familiar(name="INFO/X", kind="annotation", value=3.0, **known), unknown, *features]


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> TensorBatch:
    batch, _ = Tiny(tmp_path_factory.mktemp("tiny"), {"c1": TEXT}, reads()).build([record(300, "C", "T", "c1")])
    return dataclasses.replace(batch, annotations=np.array([[3.0, 2.0]], np.float32))


def counted(batch: TensorBatch) -> np.ndarray:
    """A simple score: ALT reads minus half the REF reads, plus .01 for each column shown, 2 X and Y; missing is -1."""
    scores = []
    for i in range(len(batch)):
        example = batch.example(i)
        x, y = (-1.0 if math.isnan(v) else float(v) for v in example["annotations"])
        support = example["read_support"]
        reads = (support == SUPPORTS_ALT).sum() - 0.5 * (support == SUPPORTS_REF).sum()
        scores.append(reads + 0.01 * (example["reference"] != 0).sum() + 2 * x + y)
    return np.array(scores, np.float64)


def test_each_part_takes_away_what_it_adds(tensors: TensorBatch) -> None:
    parts, batch = occlusions(tensors, inputs_of(tensors), ALL_FIELDS)
    assert len(batch) == len(parts) + 1
    hidden, of_inputs = effects(parts, counted(batch))
    changes = {effect.part.name: effect.change for effect in hidden}
    assert changes["reads that support ALT"] == pytest.approx(2)
    assert changes["reads that support REF"] == pytest.approx(-2)
    assert changes["reads that support neither"] == pytest.approx(0)
    assert changes["all reads"] == pytest.approx(0)
    # X goes from 3 to its median, 5; Y stays, because its median is not known.
    assert changes["all annotations"] == pytest.approx(-4)
    assert changes["all site features"] == pytest.approx(0)
    assert [e.change for e in hidden if e.part.kind == "columns"] == pytest.approx([0.01 * COLUMN_STEP] * 16)
    one_by_one = [e.change for e in hidden if e.part.kind == "read"]
    expected = {SUPPORTS_ALT: 1.0, SUPPORTS_REF: -0.5}
    assert one_by_one == pytest.approx([expected.get(int(code), 0.0) for code in tensors.read_support])
    by_name = {effect.name: effect for effect in of_inputs}
    x, y = by_name["INFO/X"], by_name["INFO/Y"]
    base = counted(tensors)[0]
    assert (x.lowest, x.lowest_at, x.highest, x.highest_at) == (
        pytest.approx(base - 6), 0.0, pytest.approx(base + 14), 10.0,
    )  # fmt: skip
    assert x.change == pytest.approx(-14)
    assert (y.lowest, y.lowest_at) == (pytest.approx(base - 3), None)


def test_the_tensor_itself_is_not_changed(tensors: TensorBatch) -> None:
    before = {field.name: getattr(tensors, field.name).copy() for field in FIELDS}
    occlusions(tensors, inputs_of(tensors), ALL_FIELDS)
    for name, values in before.items():
        np.testing.assert_array_equal(getattr(tensors, name), values)


def test_the_columns_are_tiles_of_the_window_with_their_positions(tensors: TensorBatch) -> None:
    parts, batch = occlusions(tensors, inputs_of(tensors), ALL_FIELDS)
    columns = [(i, part.columns) for i, part in enumerate(parts, 1) if part.columns]
    assert [found for _, found in columns] == [(first, first + 8) for first in range(0, WINDOW, 8)]
    for i, (first, last) in columns:
        example = batch.example(i)
        for name in ("read_bases", "read_quals", "reference", "alternate"):
            assert not example[name][..., first:last].any()
        shown = np.r_[0:first, last:WINDOW]
        np.testing.assert_array_equal(example["reference"][shown], tensors.reference[0][shown])
    assert positions_of(tensors.reference[0], 300, (56, 64)) == (293, 300)


def test_a_model_is_asked_only_about_what_it_looks_at(tensors: TensorBatch) -> None:
    def kinds(uses: set[str]) -> set[str]:
        return {part.kind for part in occlusions(tensors, inputs_of(tensors), frozenset(uses))[0]}

    assert kinds({"reference", "alternate"}) == {"columns"}
    assert kinds({"annotations"}) == {"inputs", "input"}
    assert kinds({"read_bases", "reference"}) == {"reads", "read", "columns"}


def test_an_allele_without_reads_has_no_reads_to_hide(tmp_path: Path) -> None:
    alone, _ = Tiny(tmp_path, {"c1": TEXT}, []).build([record(300, "C", "T", "c1")])
    parts, _ = occlusions(alone, [], ALL_FIELDS)
    assert {part.kind for part in parts} == {"columns"}


def test_every_site_feature_has_a_family_or_says_what_the_allele_is(tensors: TensorBatch) -> None:
    of_the_allele = [name for name in SITE_FEATURES if family_of(name) is None]
    assert of_the_allele == [
        "is_snv", "is_mnv", "is_insertion", "is_deletion", "is_mixed", "is_transition",
        "is_c_to_a", "is_c_to_g", "is_c_to_t", "is_t_to_a", "is_t_to_c", "is_t_to_g", "length_change",
    ]  # fmt: skip
    assert (
        family_of("alt_alleles") == "neighbouring calls" and family_of("alt_mapq_mean") == "features of the ALT reads"
    )
    assert family_of("alt_fraction") == family_of("ref_fraction") == "shares of the reads"
    parts, _ = occlusions(tensors, inputs_of(tensors), ALL_FIELDS)
    swept = {part.name for part in parts if part.kind == "input"}
    assert not swept & set(of_the_allele)
    together = [part.inputs for part in parts if part.kind == "inputs" and not part.name.startswith("all ")]
    assert sorted(name for names in together for name in names) == sorted(set(SITE_FEATURES) - set(of_the_allele))


def test_effects_are_in_the_order_of_the_parts() -> None:
    parts = [Part("reads", "a", (0,)), Part("input", "x", inputs=("x",), value=1.0), Part("read", "b", (1,))]
    hidden, of_inputs = effects(parts, np.array([1.0, 0.25, 4.0, 1.5]))
    assert [(e.part.name, e.score, e.change) for e in hidden] == [("a", 0.25, 0.75), ("b", 1.5, -0.5)]
    assert [(e.name, e.change) for e in of_inputs] == [("x", -3.0)]
