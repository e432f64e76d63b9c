"""Labels from callsets that vcfeval or hap.py has annotated; tables of labels are tested with the labels themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspark.errors import InputError
from cnnspark.formats.vcf import Record
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT, UNKNOWN
from cnnspark.variants.label_tables import labels_from_table, read_labels
from tests.conftest import write_vcf


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
