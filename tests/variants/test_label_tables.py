"""Labels from callsets that vcfeval or hap.py has annotated, and tables of causes; tables of labels: test_truth."""

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
from cnnspark.formats.vcf import Record
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT, UNKNOWN
from cnnspark.variants.label_tables import counts_by_cause, labels_from_table, read_causes, read_labels, write_causes
from tests.conftest import Sample, rows_of, write_vcf

ROWS = [
    ["c1", "5", "A", "C", "TP", "true", "het", "9", "9"],
    ["c1", "9", "AT", "A", "FP", "stutter", ".", "4", "3"],
    ["c2", "5", "A", "C", "OUT", "paralogs", ".", "5", "5"],
]


def test_vcfevals_call_labels_the_alleles_of_the_genotype(tmp_path: Path) -> None:
    vcf = write_vcf(
        tmp_path / "calls.vcf.gz",
        [
            "c1 5 . A C . . CALL=TP GT 0/1",
            "c1 6 . A C . . CALL=FP GT 0/1",
            "c1 7 . A C . . CALL=FP_CA GT 1/1",
            "c1 8 . A C,G . . CALL=FP_CA GT 1/2",
            "c1 9 . A C,G . . CALL=TP GT 0/2",
            "c1 10 . A C . . CALL=OUT GT 0/1",
            "c1 11 . A C . . DP=3 GT 0/1",
        ],
    )
    table = read_labels(vcf)
    assert table == {
        ("c1", 4, "A", "C"): TRUE_VARIANT,
        ("c1", 5, "A", "C"): FALSE_VARIANT,
        ("c1", 6, "A", "C"): TRUE_VARIANT,
        ("c1", 7, "A", "C"): UNKNOWN,
        ("c1", 7, "A", "G"): UNKNOWN,
        ("c1", 8, "A", "G"): TRUE_VARIANT,
        ("c1", 9, "A", "C"): UNKNOWN,
    }
    labels, _ = labels_from_table([Record("c1\t9\t.\tA\tC,G\t.\t.\t."), Record("c1\t11\t.\tA\tC\t.\t.\t.")], table)
    assert labels == [[UNKNOWN, TRUE_VARIANT], [UNKNOWN]]


def test_happys_decision_is_read_from_the_query_column(tmp_path: Path) -> None:
    path = tmp_path / "happy.vcf"
    path.write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tTRUTH\tQUERY\n"
        "c1\t5\t.\tA\tC\t.\t.\t.\tGT:BD\t0/1:TP\t0/1:TP\n"
        "c1\t6\t.\tA\tC\t.\t.\t.\tGT:BD\t.:.\t0/1:FP\n"
        "c1\t7\t.\tA\tC\t.\t.\t.\tGT:BD\t0/1:FN\t.:.\n"
        "c1\t8\t.\tA\tC\t.\t.\t.\tGT:BD\t.:.\t0/1:UNK\n"
    )
    table = read_labels(str(path))
    assert table["c1", 4, "A", "C"] == TRUE_VARIANT
    assert table["c1", 5, "A", "C"] == FALSE_VARIANT
    assert table["c1", 6, "A", "C"] == UNKNOWN and table["c1", 7, "A", "C"] == UNKNOWN


def test_a_callset_without_decisions_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither INFO/CALL .* nor FORMAT/BD"):
        read_labels(write_vcf(tmp_path / "a.vcf", ["c1 5 . A C . . . GT 0/1"]))


def test_a_written_table_of_causes_is_also_a_table_of_labels(tmp_path: Path) -> None:
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
def test_an_invalid_table_is_named(tmp_path: Path, text: str, said: str) -> None:
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
