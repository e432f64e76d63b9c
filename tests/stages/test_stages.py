"""The stages through Spark, on the simulated sample: conservation, the same bytes, resume, and bad input."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pysam
import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import InputPaths, load_config
from cnnspark.errors import CnnsparkError, InputError, UsageError
from cnnspark.filtering.request import FilterOptions
from cnnspark.formats.regions import parse_region
from cnnspark.formats.vcf import Record, set_sample_values
from cnnspark.stages.requests import EvaluationRequest, ScoreRequest
from cnnspark.tensors.dataset import CARD, Dataset
from tests.conftest import Sample, read_lines, write_vcf

pytestmark = pytest.mark.spark


def without_scores(lines: list[str]) -> list[str]:
    """The records less what scoring adds."""
    stripped = []
    for line in lines:
        record = Record(line)
        record.drop_info(("CNN_2D", "CNN_ALT_SCORES"))
        set_sample_values(record, "CNN", {})
        stripped.append(record.line())
    return stripped


@pytest.fixture(scope="module")
def scored(spark: Any, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "run"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), sample.config))
    return out


def test_every_record_comes_out_once_and_as_it_was(sample: Sample, scored: Path) -> None:
    lines = read_lines(scored / "merged.vcf.gz")
    assert without_scores(lines) == read_lines(str(sample.paths.vcf))
    assert all("CNN_2D=" in line for line in lines)
    assert (scored / "_SUCCESS").exists()


def test_the_manifest_proves_it(scored: Path) -> None:
    manifest = json.loads((scored / "manifest.json").read_text())
    proof = manifest["conservation"]
    assert proof["records_in"] == proof["records_out"] == manifest["counts"]["records scored"]
    assert proof["digest_in"] == proof["digest_out"]
    assert proof["blocks"] == len(manifest["shards"]) > 5
    assert manifest["config"]["blocks"]["records"] == 20


def test_the_manifest_and_the_datasets_card_say_which_inputs_were_given(sample: Sample, scored: Path) -> None:
    configured = json.loads((scored / "manifest.json").read_text())["config"]
    inputs = configured["inputs"]
    assert (inputs["vcf"], inputs["reads"], inputs["truth"]) == (sample.paths.vcf, sample.paths.reads, None)
    assert configured["model"] == sample.model
    assert json.loads((Path(sample.dataset) / CARD).read_text())["config"]["inputs"]["truth"] == sample.paths.truth


def test_the_proof_is_said_once(spark: Any, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = sample.unlabelled, str(tmp_path / "out")
    command = ["score", "--vcf", str(paths.vcf), "--reads", str(paths.reads), "--reference", str(paths.reference)]
    assert main([*command, "--model", sample.model, "--out", out, "--set", "blocks.records=20"]) == 0
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("records out") == 1
    assert main(["filter", "--in", out, "--out", str(tmp_path / "f.vcf.gz"), "--threshold", "0"]) == 0
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("records out") == 1


def test_a_model_that_looks_at_reads_asks_for_them(spark: Any, sample: Sample, tmp_path: Path) -> None:
    paths = dataclasses.replace(sample.unlabelled, reads=None)
    with pytest.raises(UsageError, match=f"the model {sample.model} looks at reads; give --reads"):
        stages.score_callset(spark, ScoreRequest(paths, sample.model, str(tmp_path / "out"), sample.config))
    assert not (tmp_path / "out").exists()


def test_the_same_bytes_again_and_after_resuming(spark: Any, sample: Sample, scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), sample.config))
    expected = (scored / "merged.vcf.gz").read_bytes()
    assert (out / "merged.vcf.gz").read_bytes() == expected
    for name in ("manifest/block-000002.json", "shards/block-000004.vcf.gz", "merged.vcf.gz", "_SUCCESS"):
        (out / name).unlink()
    untouched = (out / "shards" / "block-000001.vcf.gz").stat().st_mtime_ns
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), sample.config, "resume"))
    assert (out / "merged.vcf.gz").read_bytes() == expected
    assert (out / "shards" / "block-000001.vcf.gz").stat().st_mtime_ns == untouched


def test_chosen_regions_are_those_records_alone(spark: Any, sample: Sample, tmp_path: Path) -> None:
    lines = read_lines(str(sample.paths.vcf))
    contig, first = lines[20].split("\t")[:2]
    region = parse_region(f"{contig}:{first}-{int(first) + 3000}")
    paths = dataclasses.replace(sample.unlabelled, regions=(str(region),))
    stages.score_callset(spark, ScoreRequest(paths, sample.model, str(tmp_path / "out"), sample.config))
    inside = [x for x in lines if x.split("\t")[0] == contig and region.owns(int(x.split("\t")[1]) - 1)]
    assert without_scores(read_lines(tmp_path / "out" / "merged.vcf.gz")) == inside


def test_without_merging_each_shard_is_a_vcf(spark: Any, sample: Sample, tmp_path: Path) -> None:
    stages.score_callset(
        spark, ScoreRequest(sample.unlabelled, sample.model, str(tmp_path / "out"), sample.config, merge=False)
    )
    assert not (tmp_path / "out" / "merged.vcf.gz").exists()
    total = 0
    for shard in (tmp_path / "out" / "shards").glob("*.vcf.gz"):
        with pysam.VariantFile(str(shard)) as vcf:
            total += sum(1 for _ in vcf)
    assert total == len(read_lines(str(sample.paths.vcf)))


def test_another_output_type_is_another_merge_and_nothing_else(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(scored, out)
    written = {path: path.stat().st_mtime_ns for name in ("shards", "manifest") for path in (out / name).iterdir()}
    request = ScoreRequest(sample.unlabelled, sample.model, str(out), sample.config, "resume")
    summary = stages.score_callset(spark, dataclasses.replace(request, output_type="b"))
    assert sorted(path.name for path in out.glob("merged*")) == ["merged.bcf", "merged.bcf.csi"]
    assert summary["merged"] == str(out / "merged.bcf")
    with pysam.VariantFile(str(out / "merged.bcf")) as ours, pysam.VariantFile(str(scored / "merged.vcf.gz")) as theirs:
        assert [str(record) for record in ours] == [str(record) for record in theirs]
    filtered = str(tmp_path / "filtered.bcf")
    result = stages.filter_callset(spark, str(out), filtered, sample.config, FilterOptions(threshold=0.0))
    with pysam.VariantFile(filtered) as vcf:
        found = Counter(tuple(record.filter.keys()) for record in vcf)
        assert found == {("PASS",): result["counts"]["passed"], ("CNN_2D_LOW",): result["counts"]["filtered"]}
    assert Path(f"{filtered}.csi").exists()
    stages.score_callset(spark, request)
    assert sorted(path.name for path in out.glob("merged*")) == ["merged.vcf.gz", "merged.vcf.gz.tbi"]
    assert (out / "merged.vcf.gz").read_bytes() == (scored / "merged.vcf.gz").read_bytes()
    assert written == {path: path.stat().st_mtime_ns for path in written}
    with pytest.raises(UsageError, match="--no-merge"):
        dataclasses.replace(request, merge=False, output_type="b")


def test_a_plain_vcf_gives_the_same_records(spark: Any, sample: Sample, scored: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.vcf"
    with pysam.BGZFile(str(sample.paths.vcf), "rb", None) as source:
        plain.write_bytes(source.read(1 << 30))
    paths = dataclasses.replace(sample.unlabelled, vcf=str(plain))
    stages.score_callset(spark, ScoreRequest(paths, sample.model, str(tmp_path / "out"), sample.config))
    assert read_lines(tmp_path / "out" / "merged.vcf.gz") == read_lines(scored / "merged.vcf.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "plain.vcf"]


def test_filtering_sets_filter_alone(spark: Any, sample: Sample, scored: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "filtered.vcf.gz")
    result = stages.filter_callset(spark, str(scored), out, sample.config, FilterOptions(threshold=0.0))
    before, after = read_lines(scored / "merged.vcf.gz"), read_lines(out)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        a, b = old.split("\t"), new.split("\t")
        assert a[:6] + a[7:] == b[:6] + b[7:]
        value = float(next(item for item in a[7].split(";") if item.startswith("CNN_2D=")).split("=")[1])
        assert b[6] == ("PASS" if value >= 0 else "CNN_2D_LOW")
    assert result["counts"]["passed"] + result["counts"]["filtered"] == len(after)
    assert Path(out + ".tbi").exists()


def test_filtering_by_precision_takes_the_cards_thresholds(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path
) -> None:
    from cnnspark.models.card import read_card

    result = stages.filter_callset(
        spark, str(scored), str(tmp_path / "f.vcf.gz"), sample.config, FilterOptions(precision=0.7)
    )
    thresholds = read_card(sample.model).thresholds
    for group, value in result["thresholds"].items():
        own = thresholds[group]["0.70"]
        assert value == pytest.approx(thresholds["ALL"]["0.70"] if own is None else own, abs=5e-4)
    with pytest.raises(UsageError, match="it has 0.7"):
        stages.filter_callset(
            spark, str(scored), str(tmp_path / "g.vcf.gz"), sample.config, FilterOptions(precision=0.123)
        )
    assert not (tmp_path / "g.vcf.gz").exists()


def test_evaluation_measures_against_the_truth(spark: Any, sample: Sample, scored: Path, tmp_path: Path) -> None:
    paths = dataclasses.replace(sample.paths, vcf=str(scored))
    result = stages.evaluate_callset(spark, EvaluationRequest(paths, str(tmp_path / "e"), sample.config))
    values = json.loads((tmp_path / "e" / "metrics.json").read_text())["metrics"]
    assert values == result.metrics
    both = result.metrics["ALL"]
    by_type = [result.metrics[group]["CNN_2D"]["n"] for group in ("SNP", "INDEL")]
    assert both["CNN_2D"]["n"] == both["QUAL"]["n"] == sum(by_type) == sum(result.alleles.label >= 0)
    assert both["CNN_2D"]["auprc"] > both["QUAL"]["auprc"]
    assert "AUPRC" in (tmp_path / "e" / "metrics.txt").read_text()
    assert (tmp_path / "e" / "report.html").read_text().lower().startswith("<!doctype html>")


def test_labels_can_come_from_a_table(spark: Any, sample: Sample, tmp_path: Path) -> None:
    rows = ["chrom\tpos\tref\talt\tlabel"]
    for number, line in enumerate(read_lines(str(sample.paths.vcf))):
        contig, pos, _, ref, alt = line.split("\t")[:5]
        rows.append(f"{contig}\t{pos}\t{ref}\t{alt}\t{('TP', 'FP', 'OUT')[number % 3]}")
    table = tmp_path / "labels.tsv"
    table.write_text("\n".join(rows) + "\n")
    paths = dataclasses.replace(sample.unlabelled, labels=str(table))
    result = stages.build_dataset(spark, paths, str(tmp_path / "tensors"), sample.config)
    count = len(rows) - 1
    assert result["labels"] == {"true": (count + 2) // 3, "false": (count + 1) // 3, "unknown": 0}


def test_candidates_are_the_callset_that_the_simulator_made(spark: Any, sample: Sample, tmp_path: Path) -> None:
    """The simulator calls whole contigs in one go, without Spark."""
    paths = InputPaths(reads=sample.paths.reads, reference=sample.paths.reference)
    stages.call_candidates(spark, paths, str(tmp_path / "c.vcf.gz"), sample.config)
    assert read_lines(tmp_path / "c.vcf.gz") == read_lines(str(sample.paths.vcf))


BAD = ["missing index", "chr prefix", "truncated reads", "empty callset", "no sample", "other sample", "no model",
       "no callset", "wrong reference", "region elsewhere"]  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(
    spark: Any, sample: Sample, tmp_path: Path, what: str
) -> None:
    paths, model = bad_inputs(sample, tmp_path, what)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises((InputError, UsageError)) as caught:
        stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / "out"), sample.config))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    assert caught.value.exit_code in (2, 3)
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def bad_inputs(sample: Sample, folder: Path, what: str) -> tuple[InputPaths, str]:
    """The simulated sample with one thing wrong."""
    paths, model = sample.unlabelled, sample.model
    lines = read_lines(str(paths.vcf))
    header = pysam.VariantFile(str(paths.vcf)).header
    head = [str(line).strip() for line in str(header).splitlines()[:-1]]
    if what == "missing index":
        shutil.copy(str(paths.reads), folder / "reads.bam")
        paths = dataclasses.replace(paths, reads=str(folder / "reads.bam"))
    elif what == "chr prefix":
        renamed = [line[3:] if line.startswith("chr") else "chr" + line for line in lines]
        vcf = write_vcf(folder / "a.vcf.gz", renamed, ["##fileformat=VCFv4.2"])
        paths = dataclasses.replace(paths, vcf=vcf)
    elif what == "truncated reads":
        whole = Path(str(paths.reads)).read_bytes()
        (folder / "reads.bam").write_bytes(whole[: len(whole) // 2])
        shutil.copy(str(paths.reads) + ".bai", folder / "reads.bam.bai")
        paths = dataclasses.replace(paths, reads=str(folder / "reads.bam"))
    elif what == "empty callset":
        paths = dataclasses.replace(paths, vcf=write_vcf(folder / "a.vcf.gz", [], head))
    elif what == "no sample":
        sites = ["\t".join(line.split("\t")[:8]) for line in lines]
        paths = dataclasses.replace(paths, vcf=write_vcf(folder / "a.vcf.gz", sites, head))
    elif what == "other sample":
        paths = dataclasses.replace(paths, vcf=write_vcf(folder / "a.vcf.gz", lines, head))  # names the sample S1
    elif what == "no model":
        model = str(folder)
    elif what == "no callset":
        paths = dataclasses.replace(paths, vcf=str(folder / "none.vcf.gz"))
    elif what == "wrong reference":
        fasta = folder / "other.fa"
        with pysam.FastaFile(str(paths.reference)) as genome:
            fasta.write_text(
                "".join(f">{n}\n{genome.fetch(n).upper().translate(SWAPPED)}\n" for n in genome.references)
            )
        pysam.faidx(str(fasta))
        paths = dataclasses.replace(paths, reference=str(fasta))
    elif what == "region elsewhere":
        paths = dataclasses.replace(paths, regions=("chrNowhere:1-100",))
    return paths, model


SWAPPED = str.maketrans("ACGT", "TGCA")


def test_ref_mismatches_can_be_passed_through(spark: Any, sample: Sample, tmp_path: Path) -> None:
    paths, model = bad_inputs(sample, tmp_path, "wrong reference")
    config = load_config(None, ["blocks.records=20", "tensors.on_ref_mismatch=skip"])
    result = stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / "out"), config))
    assert read_lines(tmp_path / "out" / "merged.vcf.gz") == read_lines(str(paths.vcf))
    assert result["counts"]["alleles scored"] == 0
    assert result["counts"]["passed through: REF mismatch"] == result["conservation"]["records_in"]


def test_a_failure_in_a_task_is_the_same_sentence(spark: Any, sample: Sample, tmp_path: Path) -> None:
    """A REF that preflight's sample of records does not reach is found in an executor."""
    from cnnspark.common.error_translation import explain

    lines = read_lines(str(sample.paths.vcf))
    header = [line.strip() for line in str(pysam.VariantFile(str(sample.paths.vcf)).header).splitlines()[:-1]]
    name = pysam.VariantFile(str(sample.paths.vcf)).header.samples[0]
    columns = lines[-1].split("\t")
    columns[3] = columns[3].translate(SWAPPED)
    lines[-1] = "\t".join(columns)
    vcf = Path(write_vcf(tmp_path / "a.vcf", lines, header))
    vcf.write_text(vcf.read_text().replace("FORMAT\tS1", f"FORMAT\t{name}"))
    config = load_config(None, ["blocks.records=20"])
    import cnnspark.stages.preflight as preflight

    original = preflight.REF_SAMPLE_RECORDS
    preflight.REF_SAMPLE_RECORDS = 1
    try:
        with pytest.raises(Exception) as caught:
            paths = dataclasses.replace(sample.unlabelled, vcf=str(vcf))
            stages.score_callset(spark, ScoreRequest(paths, sample.model, str(tmp_path / "out"), config))
    finally:
        preflight.REF_SAMPLE_RECORDS = original
    explained = explain(caught.value)
    assert isinstance(explained, InputError) and isinstance(explained, CnnsparkError)
    assert f"{columns[0]}:{columns[1]}" in str(explained)
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_bcftools_reads_what_was_written(scored: Path) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    done = subprocess.run(
        ["bcftools", "query", "-f", "%INFO/CNN_2D\n", str(scored / "merged.vcf.gz")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert all(-16.2 < float(value) < 16.2 for value in done.stdout.split())


def test_a_lost_file_of_a_dataset_is_built_again(spark: Any, sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "tensors"
    stages.build_dataset(spark, sample.paths, str(out), sample.config)
    card = (out / "dataset.json").read_text()
    shutil.rmtree(out / "data" / "block=000002")
    stages.build_dataset(spark, sample.paths, str(out), sample.config, "resume")
    assert (out / "dataset.json").read_text() == card


def test_a_model_scores_the_tensors_it_was_trained_on(spark: Any, sample: Sample, tmp_path: Path) -> None:
    config = load_config(None, ["blocks.records=20", "tensors.read_limit=5"])
    with pytest.raises(UsageError, match="tensors of other settings"):
        stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(tmp_path / "out"), config))


def test_an_old_index_that_misses_records_is_an_error(spark: Any, sample: Sample, tmp_path: Path) -> None:
    import os

    lines = read_lines(str(sample.paths.vcf))
    contigs = list(dict.fromkeys(line.split("\t")[0] for line in lines))
    header = [line.strip() for line in str(pysam.VariantFile(str(sample.paths.vcf)).header).splitlines()]
    first = [line for line in lines if line.startswith(contigs[0])]
    for name, appended in (("few", []), ("all", lines[len(first) :])):
        with pysam.BGZFile(str(tmp_path / f"{name}.vcf.gz"), "wb", None) as out:
            out.write(("\n".join([*header, *first]) + "\n").encode())
            out.flush()  # what is appended is a block of its own: the old index still leads to the right places
            out.write("".join(line + "\n" for line in appended).encode())
    pysam.tabix_index(str(tmp_path / "few.vcf.gz"), preset="vcf")
    index = tmp_path / "all.vcf.gz.tbi"
    (tmp_path / "few.vcf.gz.tbi").rename(index)
    os.utime(index, (1, 1))
    paths = dataclasses.replace(sample.unlabelled, vcf=str(tmp_path / "all.vcf.gz"))
    with pytest.raises(InputError, match="records that the index does not know"):
        stages.score_callset(spark, ScoreRequest(paths, sample.model, str(tmp_path / "out"), sample.config))


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number_is_refused(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path, threshold: float
) -> None:
    with pytest.raises(UsageError, match="give a number"):
        stages.filter_callset(
            spark, str(scored), str(tmp_path / "f.vcf.gz"), sample.config, FilterOptions(threshold=threshold)
        )


@pytest.mark.parametrize(("flag", "share"), [("precision", 2), ("precision", 1), ("sensitivity", 0)])
def test_a_share_that_cannot_be_is_said_at_once(spark: Any, tmp_path: Path, flag: str, share: float) -> None:
    arguments = ["filter", "--in", str(tmp_path / "none"), "--out", str(tmp_path / "f.vcf.gz"), f"--{flag}", str(share)]
    assert main(arguments) == 2
    with pytest.raises(UsageError, match=f"--{flag} is {share}; give a number between 0 and 1"):
        stages.filter_callset(spark, "none", str(tmp_path / "f.vcf.gz"), load_config(), FilterOptions(**{flag: share}))  # type: ignore[arg-type]


def test_evaluation_without_a_reference_is_said_before_any_task(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path
) -> None:
    paths = dataclasses.replace(sample.paths, vcf=str(scored), reference=None)
    with pytest.raises(UsageError, match="--reference is missing"):
        stages.evaluate_callset(spark, EvaluationRequest(paths, str(tmp_path / "e"), sample.config))


def test_candidates_in_a_region_elsewhere_are_refused(spark: Any, sample: Sample, tmp_path: Path) -> None:
    paths = InputPaths(reads=sample.paths.reads, reference=sample.paths.reference, regions=("99",))
    with pytest.raises(InputError, match="region 99 names a contig"):
        stages.call_candidates(spark, paths, str(tmp_path / "c.vcf.gz"), sample.config)


def test_a_dataset_is_read_whatever_its_folder_is_called(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.dataset, tmp_path / "odd name%20é")
    moved = Dataset(str(tmp_path / "odd name%20é"))
    blocks = [block["block"] for block in moved.blocks]
    assert sum(len(values["label"]) for values in moved.read(blocks)) == moved.card["tensors"]
