"""The evaluation through Spark: figures by stratum, callsets side by side, and unlucky inputs."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest
from sklearn.metrics import average_precision_score

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import Config, InputPaths, load_config
from cnnspark.errors import CnnsparkError, InputError, UsageError
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record
from cnnspark.stages.requests import EvaluationRequest
from cnnspark.variants.alleles import variant_type
from cnnspark.variants.label_tables import read_labels
from tests.conftest import ROOT, read_lines, rows_of, write_vcf

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, ["blocks.records=40"])


@pytest.fixture
def half_bed(simulated: InputPaths, tmp_path: Path) -> str:
    """The first half of each contig."""
    bed = tmp_path / "half.bed"
    lengths = ReferenceSource(str(simulated.reference)).lengths
    bed.write_text("".join(f"{contig}\t0\t{length // 2}\n" for contig, length in lengths.items()))
    return str(bed)


def test_strata_are_those_of_the_records(
    spark: Any, simulated: InputPaths, config: Config, half_bed: str, tmp_path: Path
) -> None:
    """Against the callset read line by line, with the labels that the simulator wrote."""
    folder = Path(str(simulated.vcf)).parent
    paths = dataclasses.replace(simulated, truth=None, bed=None, labels=str(folder / "labels.tsv"))
    result = stages.evaluate_callset(
        spark,
        EvaluationRequest(
            paths, str(tmp_path / "e"), config, ["QUAL", "DP"], stratify=[f"half={half_bed}"], compare=["QUAL,DP"]
        ),
    )
    labels = read_labels(str(folder / "labels.tsv"))
    lengths = ReferenceSource(str(simulated.reference)).lengths
    slow: dict[str, list[tuple[str, int, float]]] = {"type": [], "depth": [], "region half": []}
    for line in read_lines(str(simulated.vcf)):
        record = Record(line)
        for alt in record.alts:
            label = labels.get((record.contig, record.start, record.ref, alt), -1)
            if label < 0:
                continue
            kind = variant_type(record.ref, alt)
            depth = int(record.format_values(0)["DP"])
            # In the simulator's callset only indels have an anchor, of one base.
            start = record.start + kind.is_indel
            end = max(start + 1, record.end)
            slow["type"].append((kind.name, label, float(record.qual)))
            bounds = ((100, "100+"), (50, "50-99"), (30, "30-49"), (20, "20-29"), (10, "10-19"), (0, "0-9"))
            slow["depth"].append((next(n for b, n in bounds if depth >= b), label, float(record.qual)))
            half = lengths[record.contig] // 2
            slow["region half"].append(("inside" if end <= half else "outside", label, float(record.qual)))
    strata = result.measured.strata
    assert {"homopolymer", "low complexity", "indel length", "allele fraction", "substitution"} < set(strata)
    for dimension, rows in slow.items():
        assert set(strata[dimension]) == {name for name, _, _ in rows}
        for stratum, by_score in strata[dimension].items():
            own = [(label, qual) for name, label, qual in rows if name == stratum]
            values = by_score["QUAL"]
            assert (values["n"], values["n_true"]) == (len(own), sum(label for label, _ in own)), stratum
            if values["auprc"] is not None:
                expected = average_precision_score([label for label, _ in own], [qual for _, qual in own])
                assert values["auprc"] == pytest.approx(expected, abs=1e-6)
    measured = [values for by in strata.values() for scores in by.values() for values in scores.values()]
    assert sum(values["auprc"] is not None for values in measured) > 10
    stored = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(result.measured.to_dict()))
    rows = rows_of(tmp_path / "e" / "strata.tsv")
    assert [row["score"] for row in rows] == ["QUAL", "DP"] * (len(rows) // 2)
    assert len(rows_of(tmp_path / "e" / "thresholds.tsv")) == len(stored["thresholds"]) > 20
    assert rows_of(tmp_path / "e" / "calibration.tsv") == []  # neither is a log odds
    text = (tmp_path / "e" / "metrics.txt").read_text()
    for said in ("AUPRC(1:1)", "prevalence: the share", "DP - QUAL", "Ti/Tv", "too few", "region half"):
        assert said in text


def test_figures_do_not_depend_on_how_the_genome_is_cut(spark: Any, simulated: InputPaths, tmp_path: Path) -> None:
    found = [
        stages.evaluate_callset(
            spark, EvaluationRequest(simulated, str(tmp_path / n), load_config(None, [f"blocks.records={n}"]))
        )
        for n in ("17", "5000")
    ]
    assert found[0].measured == found[1].measured
    for name, codes in found[0].alleles.strata.items():
        assert codes.dtype == np.int8 and (codes == found[1].alleles.strata[name]).all()
    of_truth = found[0].measured.callsets["callset"]["truth"]
    assert 0 < of_truth["found"] <= of_truth["alleles"] and found[0].measured.strata["homopolymer"]


def test_callsets_side_by_side_are_measured_on_the_alleles_of_both(
    spark: Any, simulated: InputPaths, config: Config, tmp_path: Path
) -> None:
    lines = read_lines(str(simulated.vcf))
    header = [x.strip() for x in str(pysam.VariantFile(str(simulated.vcf)).header).splitlines()[:-1]]
    contigs = list(dict.fromkeys(line.split("\t")[0] for line in lines))
    # The second callset lacks the first contig's second half and has other QUALs; the first lacks the last contig.
    first = [line for line in lines if not line.startswith(f"{contigs[-1]}\t")]
    cut = [line for line in lines if line.startswith(f"{contigs[0]}\t")]
    changed = [x for x in lines if x not in set(cut[len(cut) // 2 :])]
    changed = ["\t".join([*(c := x.split("\t"))[:5], str(len(c[7]) % 7), *c[6:]]) for x in changed]
    a, b = (write_vcf(tmp_path / f"{n}.vcf.gz", x, header) for n, x in (("a", first), ("b", changed)))
    paths = dataclasses.replace(simulated, vcf=a)
    result = stages.evaluate_callset(spark, EvaluationRequest(paths, str(tmp_path / "e"), config, others=[b]))
    whole = stages.evaluate_callset(spark, EvaluationRequest(simulated, str(tmp_path / "w"), config))
    both, of_all = result.metrics["ALL"], whole.metrics["ALL"]["QUAL"]
    assert list(both) == ["a:QUAL", "b:QUAL"]
    assert {both[name]["n"] for name in both} == {of_all["n"]} and both["a:QUAL"]["n_true"] == of_all["n_true"]
    missing = {name: int(np.isnan(values).sum()) for name, values in result.alleles.scores.items()}
    labelled = whole.alleles
    assert missing["a:QUAL"] == (labelled.contig == contigs[-1]).sum() > 0 and missing["b:QUAL"] > 0
    assert list(result.measured.comparison["ALL"]) == ["b:QUAL - a:QUAL"]
    assert set(result.measured.callsets) == {"a", "b"}
    assert result.measured.callsets["b"]["before"]["records"] == len(changed)
    # Compared with a copy of itself, nothing differs.
    shutil.copy(a, tmp_path / "c.vcf.gz")
    shutil.copy(a + ".tbi", tmp_path / "c.vcf.gz.tbi")
    same = stages.evaluate_callset(
        spark, EvaluationRequest(paths, str(tmp_path / "s"), config, others=[str(tmp_path / "c.vcf.gz")])
    )
    difference = same.measured.comparison["ALL"]["c:QUAL - a:QUAL"]
    assert [difference[f"auprc_difference{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]


def test_the_command_of_the_document_runs(
    spark: Any, simulated: InputPaths, half_bed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    block = re.search(r"```\n(cnnspark evaluate.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.DOTALL)
    assert block is not None
    command = shlex.split(block[1].replace("\\\n", " "))[1:]
    lines = read_lines(str(simulated.vcf))
    header = [x.strip() for x in str(pysam.VariantFile(str(simulated.vcf)).header).splitlines()[:-1]]
    header.insert(1, '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="x">')
    scored = []
    for line in lines:
        columns = line.split("\t")
        columns[7] += f";CNN_2D={float(columns[5]) / 20 - 3:.3f}"
        scored.append("\t".join(columns))
    (tmp_path / "scored").mkdir()
    write_vcf(tmp_path / "scored" / "merged.vcf.gz", scored, header)
    given = {
        "truth.vcf.gz": simulated.truth, "truth.vcf.gz.tbi": f"{simulated.truth}.tbi", "confident.bed": simulated.bed,
        "ref.fa": simulated.reference, "ref.fa.fai": f"{simulated.reference}.fai", "exome.bed": half_bed,
    }  # fmt: skip
    for name, source in given.items():
        shutil.copy(str(source), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "CNN_2D - QUAL" in printed and "region exome" in printed and "evaluation/report.html" in printed
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "metrics.json", "metrics.txt", "strata.tsv", "thresholds.tsv", "calibration.tsv", "report.html",
        "pictures.json",
    }  # fmt: skip
    # The same ranking twice: no difference.
    stored = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert abs(stored["comparison"]["ALL"]["CNN_2D - QUAL"]["auprc_difference"]) < 0.01
    assert len(rows_of(tmp_path / "evaluation" / "calibration.tsv")) == 30


# --- unlucky inputs: a small genome, callset and truth, each with one thing wrong ---

GENOME = {"c1": "ACGTTGCAAC" * 60, "c2": "GATTACAGCT" * 40}
HEAD = [
    "##fileformat=VCFv4.2",
    *(f"##contig=<ID={name},length={len(letters)}>" for name, letters in GENOME.items()),
    '##INFO=<ID=SCORE,Number=1,Type=Float,Description="x">',
    '##INFO=<ID=NEVER,Number=1,Type=Float,Description="x">',
    '##INFO=<ID=KIND,Number=A,Type=String,Description="x">',
]


def snv(contig: str, pos: int, qual: str = "30", filters: str = "PASS", rest: str = "GT 0/1") -> str:
    ref = GENOME[contig][pos - 1]
    return f"{contig} {pos} . {ref} {'C' if ref == 'A' else 'A'} {qual} {filters} SCORE={pos};KIND=x {rest}"


CALLS = [snv("c1", pos) for pos in range(20, 500, 40)] + [snv("c2", pos) for pos in range(20, 300, 40)]
TRUTH = CALLS[::2]


@dataclasses.dataclass
class Unlucky:
    """The arguments of an evaluation that works."""

    paths: InputPaths
    folder: Path
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def change(self, **paths: Any) -> None:
        self.paths = dataclasses.replace(self.paths, **paths)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def vcf(self, name: str, lines: list[str], head: list[str] | None = None) -> str:
        return write_vcf(self.folder / name, lines, head or HEAD)


@pytest.fixture
def unlucky(tmp_path: Path) -> Unlucky:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ref.fa").write_text("".join(f">{name}\n{letters}\n" for name, letters in GENOME.items()))
    pysam.faidx(str(folder / "ref.fa"))
    made = Unlucky(InputPaths(reference=str(folder / "ref.fa")), folder)
    bed = made.write("confident.bed", "".join(f"{name}\t0\t{len(letters)}\n" for name, letters in GENOME.items()))
    made.change(vcf=made.vcf("calls.vcf.gz", CALLS), truth=made.vcf("truth.vcf.gz", TRUTH), bed=bed)
    return made


def labels_of_one_class(given: Unlucky) -> None:
    rows = ["chrom\tpos\tref\talt\tlabel"]
    rows += ["\t".join([*(x.split()[i] for i in (0, 1, 3, 4)), "TP"]) for x in CALLS]
    given.change(truth=None, bed=None, labels=given.write("l.tsv", "\n".join(rows) + "\n"))


def labels_of_other_alleles(given: Unlucky) -> None:
    text = "chrom\tpos\tref\talt\tlabel\nc1\t3\tG\tT\tTP\nc1\t4\tT\tG\tFP\n"
    given.change(truth=None, bed=None, labels=given.write("l.tsv", text))


def header_only(given: Unlucky) -> None:
    given.change(vcf=given.vcf("none.vcf.gz", []))


def a_missing_key(given: Unlucky) -> None:
    given.options["scores"] = ["VQSLOD"]


def a_key_that_no_record_has(given: Unlucky) -> None:
    given.options["scores"] = ["QUAL", "NEVER"]


def a_score_that_is_text(given: Unlucky) -> None:
    given.options["compare"] = ["QUAL,KIND"]


def two_samples(given: Unlucky) -> None:
    text = "\n".join([*HEAD, "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT S1 S2", *(f"{x} 0/1" for x in CALLS)])
    plain = given.write("two.vcf", re.sub(r"^(#CHROM.*|c\d .*)$", lambda m: m[0].replace(" ", "\t"), text, flags=re.M))
    given.change(vcf=plain + "")


def a_sample_that_is_not_there(given: Unlucky) -> None:
    given.change(sample="S9")


def confident_regions_with_other_names(given: Unlucky) -> None:
    given.change(bed=given.write("chr.bed", "chrc1\t0\t600\n"))


def confident_regions_elsewhere(given: Unlucky) -> None:
    given.change(bed=given.write("far.bed", "c1\t590\t600\n"))


def an_empty_bed(given: Unlucky) -> None:
    given.change(bed=given.write("empty.bed", "# nothing\n"))


def strata_with_other_names(given: Unlucky) -> None:
    given.options["stratify"] = [f"x={given.write('x.bed', 'chrc1' + chr(9) + '0' + chr(9) + '9')}"]


def an_empty_stratum_file(given: Unlucky) -> None:
    given.options["stratify"] = [f"x={given.write('x.bed', 'track name=x' + chr(10))}"]


def a_truth_of_another_build(given: Unlucky) -> None:
    head = [line.replace("length=600", "length=599") for line in HEAD]
    given.change(truth=given.vcf("other.vcf.gz", TRUTH, head))


def a_reference_of_another_build(given: Unlucky) -> None:
    path = given.write("other.fa", f">c1\n{GENOME['c1']}A\n>c2\n{GENOME['c2']}\n")
    pysam.faidx(path)
    given.change(reference=path)


def a_reference_with_other_letters(given: Unlucky) -> None:
    text = "".join(f">{name}\n{x.translate(str.maketrans('ACGT', 'TGCA'))}\n" for name, x in GENOME.items())
    path = given.write("swapped.fa", text)
    pysam.faidx(path)
    given.change(reference=path)


def a_quality_that_none_has(given: Unlucky) -> None:
    given.options["min_qual"] = 1000.0


def no_callset(given: Unlucky) -> None:
    given.change(vcf=None)


def two_callsets_of_other_contigs(given: Unlucky) -> None:
    head = [HEAD[0], "##contig=<ID=x1,length=600>"]
    given.options["others"] = [given.vcf("x.vcf.gz", [x.replace("c1 ", "x1 ", 1) for x in CALLS[:3]], head)]


UNLUCKY = [
    (labels_of_one_class, InputError, "has no false allele"),
    (labels_of_other_alleles, InputError, "has no labelled allele"),
    (header_only, InputError, "holds no records"),
    (a_missing_key, UsageError, "declares no VQSLOD"),
    (a_key_that_no_record_has, InputError, "no labelled allele of .* has a NEVER"),
    (a_score_that_is_text, UsageError, "KIND is declared as String"),
    (two_samples, UsageError, "has 2 samples .* name it with --sample"),
    (a_sample_that_is_not_there, InputError, "has no sample 'S9'"),
    (confident_regions_with_other_names, InputError, "no contig in common .* did you mean 'c1'"),
    (confident_regions_elsewhere, InputError, "has no labelled allele .* outside confident regions"),
    (an_empty_bed, InputError, "has no interval"),
    (strata_with_other_names, InputError, "x.bed and .* no contig in common .* did you mean 'c1'"),
    (an_empty_stratum_file, InputError, "x.bed has no interval"),
    (a_truth_of_another_build, InputError, "'c1' is 599 bases long in .*other.vcf.gz and 600"),
    (a_reference_of_another_build, InputError, "'c1' is 600 bases long in .*vcf.gz and 601"),
    (a_reference_with_other_letters, InputError, "no labelled allele .* REF mismatch"),
    (a_quality_that_none_has, InputError, "no labelled allele left; check --min-qual"),
    (no_callset, UsageError, "--vcf is missing"),
    (two_callsets_of_other_contigs, InputError, "no contig in common"),
]


@pytest.mark.parametrize(("spoil", "kind", "said"), UNLUCKY, ids=[each[0].__name__ for each in UNLUCKY])
def test_an_unlucky_input_is_one_sentence(
    spark: Any, unlucky: Unlucky, tmp_path: Path, spoil: Any, kind: type[CnnsparkError], said: str
) -> None:
    spoil(unlucky)
    with pytest.raises(kind, match=said) as caught:
        stages.evaluate_callset(
            spark, EvaluationRequest(unlucky.paths, str(tmp_path / "e"), load_config(), **unlucky.options)
        )
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500 and ";" in message
    assert not (tmp_path / "e" / "metrics.json").exists()


def test_odd_inputs_that_can_be_measured_are(spark: Any, unlucky: Unlucky, tmp_path: Path, capsys: Any) -> None:
    """Everything filtered, no QUAL, an empty stratum, two samples with one named."""
    calls = [x.replace("PASS", "LOW").replace(" 30 ", " . ") for x in CALLS]
    head = [*HEAD, '##FILTER=<ID=LOW,Description="x">']
    far = unlucky.write("far.bed", "c1\t598\t600\n")
    unlucky.change(vcf=unlucky.vcf("filtered.vcf.gz", calls, head))
    result = stages.evaluate_callset(
        spark, EvaluationRequest(unlucky.paths, str(tmp_path / "e"), load_config(), ["SCORE"], stratify=[f"far={far}"])
    )
    summary = result.measured.callsets["filtered"]
    assert (summary["before"]["records"], summary["after"]["records"]) == (len(CALLS), 0)
    assert summary["after"]["ti_tv"] is None and summary["truth"]["share"] == 1.0
    assert list(result.measured.strata["region far"]) == ["outside"]
    assert f"no labelled allele lies inside {far} (--stratify far)" in capsys.readouterr().err
    assert result.metrics["INDEL"]["SCORE"]["auprc"] is None and result.metrics["ALL"]["SCORE"]["n"] == len(CALLS)
    default = stages.evaluate_callset(spark, EvaluationRequest(unlucky.paths, str(tmp_path / "q"), load_config()))
    assert "no labelled allele has a QUAL" in capsys.readouterr().err
    of_qual = default.metrics["ALL"]["QUAL"]
    assert of_qual["auprc"] == pytest.approx(of_qual["prevalence"]) and of_qual["recall_at_precision_0.70"] == 0
    two_samples(unlucky)
    unlucky.change(sample="S2")
    named = stages.evaluate_callset(spark, EvaluationRequest(unlucky.paths, str(tmp_path / "n"), load_config()))
    assert named.metrics["ALL"]["QUAL"]["n"] == len(CALLS) and "truth" not in named.measured.callsets["two"]
