"""The filter command on Spark: all its ways, its decision beside the output, and one sentence for what cannot be."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import Config, InputPaths
from cnnspark.filtering.request import FilterOptions
from cnnspark.filtering.score_distribution import ScoreCounts, expected_fdr
from cnnspark.filtering.thresholds import score_counts
from cnnspark.filtering.tranches import two_decimals
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.stages.requests import ScoreRequest
from tests.conftest import Sample, read_lines, write_vcf
from tests.integration.test_documents import commands
from tests.support.oracle_tranches import tranche_filters, vcf_lines

pytestmark = pytest.mark.spark
TRANCHES = {"snp_tranches": [60.0, 90.0], "indel_tranches": [50.0]}


@pytest.fixture(scope="module")
def scored(spark: Any, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's callset, scored."""
    out = tmp_path_factory.mktemp("filter") / "scored"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), sample.config))
    return out


def filters_of(path: Path) -> list[set[str]]:
    return [set(line.split("\t")[6].split(";")) for line in read_lines(path)]


def decision_of(path: Path) -> dict[str, Any]:
    return json.loads(Path(f"{path}.filter.json").read_text())


def test_tranches_equal_the_slow_tools_whatever_the_blocks(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path
) -> None:
    truth, merged = str(sample.paths.truth), str(scored / "merged.vcf.gz")
    whole = dataclasses.replace(sample.config, blocks=Config().blocks)
    results = []
    for name, config in (("few", sample.config), ("whole", whole)):
        out = tmp_path / f"{name}.vcf.gz"
        results.append(
            stages.filter_callset(
                spark, str(scored), str(out), config, FilterOptions(resources=[truth], strict=True, **TRANCHES)
            )  # type: ignore[arg-type]
        )
    expected, lines = tranche_filters(vcf_lines(merged), [vcf_lines(truth)], "CNN_2D", [60.0, 90.0], [50.0])
    few, known = tmp_path / "few.vcf.gz", results[0]["types"]
    assert filters_of(few) == expected
    assert len({name for names in expected for name in names}) == 4  # all bands and PASS
    assert read_lines(few) == read_lines(tmp_path / "whole.vcf.gz")
    assert known == results[1]["types"]
    with VcfSource(str(few)) as source:
        assert set(lines) <= set(source.header.lines)
        for each in known["SNP"]["tranches"]:
            assert any(f"Cutoff={each['cutoff']},Known={known['SNP']['known']}>" in x for x in source.header.lines)
    said = decision_of(few)
    assert said["types"] == known and said["counts"] == results[0]["counts"]
    assert sum(said["counts"].values()) == len(expected)
    assert sum((Counter(found) for found in said["by_filter"].values()), Counter()) == Counter(
        name for names in expected for name in names
    )
    (resource,) = said["resources"]
    assert resource["path"] == truth
    assert resource["sha256"] == hashlib.sha256(Path(truth).read_bytes()).hexdigest()


def test_a_second_tranche_filter_says_that_the_firsts_filters_stay(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = str(tmp_path / "first.vcf.gz"), str(tmp_path / "second.vcf.gz")
    command = ["filter", "--resource", str(sample.paths.truth), "--snp-tranche"]
    assert main([*command, "50", "--in", str(scored), "--out", first]) == 0
    assert "an earlier tranche filter" not in capsys.readouterr().err
    assert main([*command, "90", "--in", first, "--out", second]) == 0
    assert "warning: the callset has FILTERs of an earlier tranche filter by CNN_2D" in capsys.readouterr().err
    assert any("CNN_2D_SNP_Tranche_50.00_100.00" in names for names in filters_of(Path(second)))
    assert main([*command, "90", "--in", first, "--out", second, "--if-exists", "overwrite",
                 "--invalidate-previous-filters"]) == 0  # fmt: skip
    assert "an earlier tranche filter" not in capsys.readouterr().err
    expected, _ = tranche_filters(
        read_lines(scored / "merged.vcf.gz"), [vcf_lines(str(sample.paths.truth))], "CNN_2D", [90.0], [99.4]
    )
    assert filters_of(Path(second)) == expected


def test_each_type_has_its_way(spark: Any, sample: Sample, scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.vcf.gz"
    command = ["filter", "--in", str(scored), "--out", str(out), "--snp-threshold", "2.5", "--indel-fdr", "0.3"]
    assert main([*command, "-q"]) == 0
    said = decision_of(out)
    assert said["thresholds"]["SNP"] == 2.5
    indels = score_counts([Record(line) for line in read_lines(scored / "merged.vcf.gz")], "CNN_2D")["INDEL"]
    at = list(indels.values).index(said["thresholds"]["INDEL"])
    rates = expected_fdr(indels)
    assert rates[at] <= 0.3 and (at == 0 or rates[at - 1] > 0.3)
    assert said["reason"] == "SNP: chosen by number; INDEL: expected false discovery rate 0.3 of this callset"
    with VcfSource(str(out)) as source:
        assert f"CNN_2D below SNP 2.500, INDEL {said['thresholds']['INDEL']:.3f}" in source.header.text()
    assert said["by_filter"]["SNP"]["CNN_2D_LOW"] > 0 and said["by_filter"]["SNP"]["PASS"] > 0
    # One type alone: the other passes.
    alone = [*command[:5], "--indel-threshold", "20", "--if-exists", "overwrite", "--json"]
    assert main(alone) == 0
    said = decision_of(out)
    assert said["thresholds"] == {"SNP": None, "INDEL": 20.0}
    assert set(said["by_filter"]["SNP"]) == {"PASS"} and set(said["by_filter"]["INDEL"]) == {"CNN_2D_LOW"}


def test_another_scorers_key_is_filtered_by_the_same_rules(
    spark: Any, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vcf, truth = str(sample.paths.vcf), str(sample.paths.truth)
    for key in ("QUAL", "DP"):
        out = tmp_path / f"{key}.vcf.gz"
        assert main(["filter", "--in", vcf, "--key", key, "--resource", truth, "--snp-tranche", "70",
                     "--out", str(out)]) == 0  # fmt: skip
        expected, _ = tranche_filters(vcf_lines(vcf), [vcf_lines(truth)], key, [70.0], [99.4])
        assert filters_of(out) == expected
        assert f"{key} above" in capsys.readouterr().out
    out = tmp_path / "threshold.vcf.gz"
    assert main(["filter", "--in", vcf, "--key", "QUAL", "--threshold", "30.5", "--out", str(out), "-q"]) == 0
    for line in read_lines(out):
        columns = line.split("\t")
        assert columns[6] == ("PASS" if float(columns[5]) >= 30.5 else "QUAL_LOW")


HEAD = ["##fileformat=VCFv4.2", "##contig=<ID=c1,length=900>", '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="">']
CALLS = ["c1 5 . A C . . CNN_2D=3", "c1 6 . A C . . CNN_2D=-3", "c1 7 . A AT . . CNN_2D=1"]


@pytest.mark.parametrize(
    ("calls", "resource", "options", "code", "said"),
    [
        (CALLS, CALLS[:2], ["--strict"], 3, "the resources have none of the callset's 1 indels"),
        (CALLS, CALLS[:2], [], 0, "warning: the resources have none of the callset's 1 indels; they are left"),
        (
            CALLS,
            ["c1 5 . T C . . .", *CALLS[1:]],
            [],
            0,
            "warning: REF conflicts .* skipped: 1 .first: c1:5 A against T",
        ),
        (CALLS, ["c1 5 . T C . . .", *CALLS[1:]], ["--strict"], 3, "inconsistent references .* c1:5 A against T"),
        (CALLS, ["c1 9 . T C . . ."], [], 3, "the resources have none of the callset's alleles"),
        (CALLS, ["chrc1 5 . A C . . ."], [], 3, "says 'chrc1' where .* says 'c1'"),
        (CALLS, ["c2 5 . A C . . ."], ["-q"], 3, "the resources have none of the callset's alleles"),
        (["c1 5 . A C . . DP=3"], CALLS, [], 3, "no record has a value of CNN_2D"),
        ([], CALLS, [], 3, "holds no records"),
        (CALLS, CALLS, ["--key", "VQSLOD"], 2, "declares no INFO/VQSLOD"),
        (CALLS, CALLS, ["--snp-tranche", "100"], 2, "--snp-tranche is 100; give a percentage"),
        (CALLS, CALLS, ["--precision", "0.9"], 2, "--resource .tranches. excludes"),
        (CALLS, None, ["--precision", "0.9"], 2, "no thresholds by precision"),
        (CALLS, None, ["--snp-tranche", "99"], 2, "--snp-tranche needs --resource"),
        (CALLS, None, ["--fdr", "0.01"], 2, "no SNP threshold has an expected false discovery rate of 0.01"),
        (CALLS, None, ["--fdr", "0.4"], 0, "warning: CNN_2D was not written by cnnspark"),
        (CALLS, None, ["--fdr", "0.1", "--key", "QUAL"], 2, "--fdr needs probabilities"),
        (CALLS, None, [], 2, "give one of --threshold, --precision, --sensitivity and --fdr, or --resource"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    spark: Any, tmp_path: Path, calls: list[str], resource: list[str] | None, options: list[str], code: int, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    vcf, out = write_vcf(tmp_path / "calls.vcf.gz", calls, HEAD), tmp_path / "out.vcf.gz"
    known = ["--resource", write_vcf(tmp_path / "known.vcf.gz", resource, HEAD[:1])] if resource else []
    assert main(["filter", "--in", vcf, "--out", str(out), *known, *options]) == code
    lines = capsys.readouterr().err.splitlines()
    found = [line for line in lines if "warning: " in line or line.startswith("cnnspark: ")]
    assert len(found) == 1, lines
    assert re.search(said, found[0]), found
    assert out.exists() == Path(f"{out}.filter.json").exists() == (code == 0)


def test_the_commands_of_the_page_run(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(scored, tmp_path / "scored")
    for suffix in ("", ".tbi"):
        shutil.copy(f"{sample.paths.truth}{suffix}", tmp_path / f"truth.vcf.gz{suffix}")
    monkeypatch.chdir(tmp_path)
    shown = commands("docs/filtering.md")
    assert [command[0] for command in shown] == ["filter"] * 5
    for command in shown:
        assert main([*command, "-q"]) == 0, command
    assert len(list(tmp_path.glob("*.vcf.gz.filter.json"))) == 5


@pytest.mark.real
@pytest.mark.parametrize("caller", ["freebayes", "bcftools"])
def test_na12878s_scores_get_the_filters_of_the_slow_tool(
    spark: Any, data: Path, sample: Sample, tmp_path: Path, caller: str
) -> None:
    folder = data / "real" / "NA12878"
    truth = str(folder / "NA12878.truth.vcf.gz")
    paths = InputPaths(
        vcf=str(folder / f"NA12878.{caller}.vcf.gz"),
        reads=str(folder / "NA12878.chr20.bam"),
        reference=str(folder / "ref.hg19.chr20.fa.gz"),
    )
    stages.score_callset(spark, ScoreRequest(paths, "bundled:features", str(tmp_path / "scored"), sample.config))
    calls = vcf_lines(str(tmp_path / "scored" / "merged.vcf.gz"))
    for name, snp, indel in (("usual", [99.95], [99.4]), ("bands", [80.0, 95.0, 99.9], [70.0, 90.0])):
        out = tmp_path / f"{name}.vcf.gz"
        stages.filter_callset(
            spark,
            str(tmp_path / "scored"),
            str(out),
            sample.config,
            FilterOptions(resources=[truth], snp_tranches=snp, indel_tranches=indel, strict=True),
        )
        expected, lines = tranche_filters(calls, [vcf_lines(truth)], "CNN_2D", snp, indel)
        assert filters_of(out) == expected
        assert {"PASS"} in expected and any("Tranche" in name for names in expected for name in names)
        with VcfSource(str(out)) as source:
            assert set(lines) <= set(source.header.lines)


def test_names_round_as_java_does(spark: Any) -> None:
    """The oracle is the JVM that Spark runs in: GATK formats the percentages with String.format."""
    jvm, gateway = spark.sparkContext._jvm, spark.sparkContext._gateway

    def formatted(value: float) -> str:
        arguments = gateway.new_array(jvm.java.lang.Object, 1)
        arguments[0] = value
        return str(jvm.java.lang.String.format(jvm.java.util.Locale.ROOT, "%.2f", arguments))

    values = [99.95, 99.4, 100.0, 0.0, 99.994, 99.995, 99.985, 1.005, 0.125, 12.345, 99.99999, 1e-05, 50.445]
    assert [two_decimals(value) for value in values] == [formatted(value) for value in values]


def test_the_scores_come_to_the_driver_as_counts() -> None:
    """A million of a model's scores are some thousand numbers."""
    scores = ScoreCounts.merged([ScoreCounts.of(round(x / 1000, 3) for x in range(-16118, 16119))] * 30)
    assert scores.total == 30 * 32_237 and len(scores.values) == 32_237
