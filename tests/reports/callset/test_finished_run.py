"""``cnnspark report``: a page of a finished run, with a truth and without, by the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.errors import InputError
from cnnspark.filtering.request import FilterOptions
from cnnspark.reports.callset.finished_run import count_callset, read_pictures, report_run
from cnnspark.reports.callset.run_facts import read_run
from cnnspark.stages.requests import EvaluationRequest, ScoreRequest
from tests.conftest import Sample, read_lines, write_vcf
from tests.integration.test_documents import commands
from tests.reports.callset.test_page import Page
from tests.reports.callset.test_run_facts import folder


@pytest.fixture(scope="module")
def scored(spark, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "run"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), sample.config))
    return out


@pytest.fixture(scope="module")
def evaluated(spark, sample: Sample, scored: Path) -> Path:
    out = scored.parent / "evaluation"
    paths = dataclasses.replace(sample.paths, vcf=str(scored))
    stages.evaluate_callset(spark, EvaluationRequest(paths, str(out), sample.config))
    return out


@pytest.fixture(scope="module")
def filtered(spark, sample: Sample, scored: Path) -> Path:
    out = scored.parent / "filtered.vcf.gz"
    stages.filter_callset(spark, str(scored), str(out), sample.config, FilterOptions(threshold=0.0))
    return out


@pytest.mark.spark
def test_a_scored_callset_without_a_truth(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "report.html"
    assert main(["report", "--run", str(scored), "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    page = Page(out.read_text(encoding="utf-8"))
    records = len(read_lines(scored / "merged.vcf.gz"))
    assert result["summary"][0].startswith(f"{records:,} records, none with a FILTER yet")
    assert "There is no truth to compare with" in page.text and "Against the truth" not in page.text
    assert read_run(str(scored)).statement in page.text
    for section in ("The callset", "The run", "The model's card", "Configuration", "Training"):
        assert section in page.text
    assert "blocks.records" in page.text
    # An existing page is replaced only if asked.
    assert main(["report", "--run", str(scored), "--out", str(out)]) == 2
    assert main(["report", "--run", str(scored), "--out", str(out), "--if-exists", "overwrite"]) == 0


@pytest.mark.spark
def test_filtered_and_evaluated(scored: Path, filtered: Path, evaluated: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = report_run(str(scored), str(out), str(filtered), str(evaluated), "My callset")
    page = Page(out.read_text(encoding="utf-8"))
    status = [line.split("\t")[6] for line in read_lines(filtered)]
    passed = status.count("PASS")
    assert result["summary"][0] == f"{passed:,} of {len(status):,} records ({passed / len(status):.1%}) pass FILTER."
    metrics = json.loads((evaluated / "metrics.json").read_text())["metrics"]["ALL"]["CNN_2D"]
    assert f"CNN_2D has an AUPRC of {metrics['auprc']:.3f}" in page.text
    assert "Precision and recall, ALL" in page.text and "Calibration, CNN_2D" in page.text
    assert f"--vcf {filtered}" in page.text and "My callset" in page.text


@pytest.mark.spark
def test_what_an_evaluation_draws_is_stored_and_is_of_its_alleles(evaluated: Path) -> None:
    found = read_pictures(evaluated)
    assert found is not None
    curves, counts = found
    values = json.loads((evaluated / "metrics.json").read_text())["metrics"]["ALL"]["CNN_2D"]
    assert (curves.n_true, curves.n_false) == (values["n_true"], values["n_false"])
    assert counts.outcome(1, True) + counts.outcome(1, False) == values["n_true"]
    assert counts.score == "CNN_2D" and counts.surprising
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert "cnnspark explain" in page and "The model&#39;s card" in page or "The model's card" in page


@pytest.mark.spark
def test_the_folder_of_a_whole_run(scored: Path, filtered: Path, evaluated: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(scored, run / "scored")
    shutil.copytree(evaluated, run / "evaluation")
    shutil.copy(filtered, run / "filtered.vcf.gz")
    result = report_run(str(run), str(tmp_path / "report.html"))
    assert result["callset"] == str(run / "filtered.vcf.gz")
    assert "pass FILTER" in result["summary"][0] and any("AUPRC" in sentence for sentence in result["summary"])
    # An evaluation by an older version has metrics, but nothing to draw.
    (run / "evaluation" / "pictures.json").unlink()
    again = report_run(str(run), str(tmp_path / "old.html"))
    page = Page((tmp_path / "old.html").read_text(encoding="utf-8"))
    assert any("AUPRC" in sentence for sentence in again["summary"]) and "Precision and recall, ALL" not in page.text
    (run / "evaluation" / "pictures.json").write_text('{"curves": {}, "tally": {}}')
    with pytest.raises(InputError, match=r"pictures\.json is damaged .*; evaluate again"):
        report_run(str(run), str(tmp_path / "new.html"))


@pytest.mark.spark
def test_parts_and_forms_of_a_callset_give_the_same_counts(scored: Path, filtered: Path, tmp_path: Path) -> None:
    import pysam

    shards = sorted(map(str, (scored / "shards").glob("*.vcf.gz")))
    assert count_callset(shards, "CNN_2D") == count_callset([str(scored / "merged.vcf.gz")], "CNN_2D")
    plain = tmp_path / "plain.vcf"
    with pysam.BGZFile(str(filtered), "rb", None) as lines:
        plain.write_bytes(b"\n".join(lines) + b"\n")
    binary = tmp_path / "filtered.bcf"
    with pysam.VariantFile(str(filtered)) as source, pysam.VariantFile(str(binary), "wb", header=source.header) as out:
        for record in source:
            out.write(record)
    whole = count_callset([str(filtered)], "CNN_2D")
    assert count_callset([str(plain)], "CNN_2D") == whole
    assert count_callset([str(binary)], "CNN_2D").records == whole.records


def exit_code_and_sentence(arguments: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str]:
    code = main(["report", *arguments])
    return code, capsys.readouterr().err


def test_folders_that_are_not_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = str(tmp_path / "report.html")
    assert exit_code_and_sentence(["--run", str(tmp_path / "nothing"), "--out", out], capsys) == (
        3, f"cnnspark: {tmp_path / 'nothing'} does not exist; give the --out of 'cnnspark score' or 'cnnspark run'\n",
    )  # fmt: skip
    code, said = exit_code_and_sentence(["--run", str(tmp_path), "--out", out], capsys)
    assert code == 3 and "is not a finished run" in said
    sheet = tmp_path / "sheet"
    sheet.mkdir()
    (sheet / "samples.tsv").write_text("x")
    code, said = exit_code_and_sentence(["--run", str(sheet), "--out", out], capsys)
    assert code == 3 and f"give one of the folders in {sheet}/samples" in said
    run = folder(tmp_path / "run")
    code, said = exit_code_and_sentence(["--run", str(run), "--out", str(run)], capsys)
    assert code == 2 and "is a folder" in said
    code, said = exit_code_and_sentence(["--run", str(run), "--out", out, "--evaluation", str(sheet)], capsys)
    assert code == 3 and "is not an evaluation" in said
    assert not Path(out).exists()


def test_a_header_alone_makes_a_page(tmp_path: Path) -> None:
    vcf = write_vcf(tmp_path / "empty.vcf.gz", [])
    result = report_run(str(folder(tmp_path / "run")), str(tmp_path / "report.html"), vcf)
    assert result["summary"][0] == "The callset has no records."


def test_another_tool_s_filters_are_shown(tmp_path: Path) -> None:
    head = [
        "##fileformat=VCFv4.2", "##contig=<ID=c1,length=10000>", '##FILTER=<ID=VQSRTranche99,Description="d">',
    ]  # fmt: skip
    vcf = write_vcf(tmp_path / "other.vcf.gz", ["c1 5 . A G 9 VQSRTranche99 .", "c1 6 . A G 9 PASS ."], head)
    report_run(str(folder(tmp_path / "run")), str(tmp_path / "report.html"), vcf)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "1 of 2 records (50.0%) pass FILTER." in page.text and "VQSRTranche99" in page.text


@pytest.mark.spark
def test_the_commands_of_its_page_in_the_documents_run(
    scored: Path, filtered: Path, evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder_ in (tmp_path, tmp_path / "everything"):
        shutil.copytree(scored, folder_ / "scored")
        shutil.copytree(evaluated, folder_ / "evaluation")
        shutil.copy(filtered, folder_ / "filtered.vcf.gz")
    monkeypatch.chdir(tmp_path)
    shown = commands("docs/report.md")
    assert len(shown) == 3
    for command in shown:
        assert main(command) == 0, command
        assert (tmp_path / command[-1]).exists()
