"""The table of causes and what an evaluation makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cnnspark.cli import main
from cnnspark.errors import InputError
from cnnspark.evaluation.metrics import AlleleScores
from cnnspark.evaluation.score_reader import cause_facts, format_causes, metrics_by_cause
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT, UNKNOWN
from cnnspark.variants.label_tables import counts_by_cause, read_causes, read_labels, write_causes
from tests.conftest import Sample, rows_of

ROWS = [
    ["c1", "5", "A", "C", "TP", "true", "het", "9", "9"],
    ["c1", "9", "AT", "A", "FP", "stutter", ".", "4", "3"],
    ["c2", "5", "A", "C", "OUT", "paralogs", ".", "5", "5"],
]


def test_a_table_that_was_written_is_read_and_is_a_table_of_labels_too(tmp_path: Path) -> None:
    path = tmp_path / "causes.tsv"
    write_causes(path, ROWS)
    assert read_causes(str(path)) == {
        ("c1", 4, "A", "C"): "true",
        ("c1", 8, "AT", "A"): "stutter",
        ("c2", 4, "A", "C"): "paralogs",
    }
    assert list(read_labels(str(path)).values()) == [TRUE_VARIANT, FALSE_VARIANT, UNKNOWN]
    assert counts_by_cause(str(path)) == {"paralogs": 1, "stutter": 1, "true": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 lacks the column chrom, pos, ref, alt, cause; a table of causes"),
        ("chrom\tpos\tref\talt\tlabel\n", "lacks the column cause"),
        ("chrom\tpos\tref\talt\tcause\nc1\tfive\tA\tC\tx\n", "line 2 is not a cause"),
        ("chrom\tpos\tref\talt\tcause\nc1\t5\tA\n", "line 2 is not a cause"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "causes.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_causes(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        read_causes(str(tmp_path / "none.tsv"))


def test_each_mechanism_is_measured_against_all_true_alleles() -> None:
    rng = np.random.default_rng(1)
    n = 300
    label = rng.integers(-1, 2, n)
    cause = np.where(label == 1, "true", rng.choice(["stutter", "paralogs", ""], n))
    score = rng.normal(label, 1.0)
    alleles = AlleleScores(np.full(n, "c"), np.arange(n), np.zeros(n), label, {"S": score, "T": -score}, cause)
    metrics = metrics_by_cause(alleles)
    assert list(metrics) == ["not in the table", "paralogs", "stutter"]
    for name in ("paralogs", "stutter"):
        chosen = (label == 1) | ((label == 0) & (cause == name))
        values = metrics[name]["S"]
        assert values["auprc"] == pytest.approx(average_precision_score(label[chosen], score[chosen]))
        assert values["auroc"] == pytest.approx(roc_auc_score(label[chosen], score[chosen]))
        assert values["n_true"] == (label == 1).sum()
        assert values["n_false"] == ((label == 0) & (cause == name)).sum()
    assert "recall_at_precision_0.99" in metrics["stutter"]["T"]
    table = format_causes(metrics).splitlines()
    assert len(table) == 2 + 3 * 2 and table[2].startswith("not in the table  S")
    assert cause_facts(metrics)["stutter, S"].endswith(f"({metrics['stutter']['S']['n_false']} false)")


def test_alleles_without_causes_stay_as_they_are() -> None:
    alleles = AlleleScores(["a", "b"], [1, 2], [0, 0], [1, 0])
    assert alleles.cause.tolist() == ["", ""]
    both = AlleleScores.concatenate([alleles, AlleleScores(["a"], [5], [0], [0], {}, np.array(["stutter"]))])
    assert both.cause.tolist() == ["", "", "stutter"] and both.select(both.start > 1).cause.tolist() == ["", "stutter"]
    with pytest.raises(ValueError, match="differ in length"):
        AlleleScores(["a"], [1], [0], [1], {}, np.array(["x", "y"]))


@pytest.mark.spark
def test_evaluate_reports_by_mechanism(spark: object, sample: Sample, tmp_path: Path) -> None:
    folder = Path(str(sample.paths.reads)).parent
    out = tmp_path / "evaluation"
    arguments = ["evaluate", "--vcf", str(sample.paths.vcf), "--labels", str(folder / "labels.tsv"), "--out", str(out)]
    assert main([*arguments, "--causes", str(folder / "causes.tsv"), "-q"]) == 0
    by_cause = json.loads((out / "metrics.json").read_text())["by_cause"]
    false = [row["cause"] for row in rows_of(folder / "causes.tsv") if row["label"] == "FP"]
    assert {cause: values["QUAL"]["n_false"] for cause, values in by_cause.items()} == {
        cause: false.count(cause) for cause in set(false)
    }
    assert "False alleles by mechanism" in (out / "metrics.txt").read_text()
    assert "By mechanism" in (out / "report.html").read_text()
    assert main([*arguments, "--causes", str(tmp_path / "none.tsv"), "--if-exists", "overwrite", "-q"]) == 3
