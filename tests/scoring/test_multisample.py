"""Three simulated samples on one reference, their callsets joined: each carrier scored as in its own callset."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from cnnspark import stages
from cnnspark.config import InputPaths, Member, load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.execution import shards
from cnnspark.execution.blocks import Block
from cnnspark.execution.tasks import slices
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfSource, set_sample_values
from cnnspark.models.card import model_tensors, read_card
from cnnspark.models.cascade import Band
from cnnspark.scoring import multisample, single_sample
from cnnspark.scoring import output as scoring_output
from cnnspark.scoring import settings as scoring_settings
from cnnspark.scoring.cascade import PASSED_ON, FirstStage
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.simulation import SimulatedFiles, simulate
from cnnspark.stages.inputs import checked_inputs
from cnnspark.stages.plan import plan_callsets
from cnnspark.stages.preflight import check_inputs
from cnnspark.stages.requests import ScoreRequest
from cnnspark.stages.sheet_stages import score_sheet
from cnnspark.tensors import block_tensors, carrier_tensors
from cnnspark.tensors.dataset import Dataset
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants.carriers import (
    NO_CARRIER,
    MemberRecord,
    carried_alts,
)
from tests.conftest import read_lines

pytestmark = pytest.mark.spark

MODEL = "bundled:features"  # looks at no annotations


@dataclasses.dataclass(frozen=True)
class Cohort:
    """The samples' files, and their callsets joined by bcftools."""

    files: tuple[SimulatedFiles, ...]
    joined: str

    @property
    def reference(self) -> str:
        return str(self.files[0].reference)

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(Member(files.sample, str(files.reads)) for files in self.files)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed: it joins the callsets")
    folder = tmp_path_factory.mktemp("cohort")
    first = simulate(folder / "S1", seed=1, length=20_000, coverage=15, sample="S1")
    others = [
        simulate(folder / name, seed=seed, coverage=15, reference=str(first.reference), sample=name)
        for seed, name in ((2, "S2"), (3, "S3"))
    ]
    files, joined = (first, *others), str(folder / "joined.vcf.gz")
    callsets = [str(each.callset) for each in files]
    # ALTs of one position become one record, and REF is lengthened for the longest deletion.
    subprocess.run(["bcftools", "merge", "-m", "both", "--no-version", "-Oz", "-o", joined, *callsets], check=True)
    pysam.tabix_index(joined, preset="vcf")
    return Cohort(files, joined)


CONFIG = load_config(None, ["blocks.records=50"])


def in_tasks(number: int) -> pytest.MonkeyPatch:
    """Deals the blocks to so many tasks."""
    patch = pytest.MonkeyPatch()
    patch.setattr(shards, "deal", lambda spark, blocks: slices(blocks, number))
    return patch


@pytest.fixture(scope="module")
def scored(spark: Any, three: Cohort, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out, patch = tmp_path_factory.mktemp("joined") / "out", in_tasks(1)
    paths = InputPaths(vcf=three.joined, reference=three.reference, members=three.members)
    result = stages.score_callset(spark, ScoreRequest(paths, MODEL, str(out), CONFIG))
    patch.undo()
    return out, result


def bare(
    inputs: block_tensors.Inputs, contig: str, scorer: Any = single_sample, **settings: Any
) -> tuple[list[str], dict, int]:
    """A contig through the bare function: lines, counts, and how many alleles the guard counted."""
    card = read_card(MODEL)
    tensors = model_tensors(MODEL, card, TensorSettings())
    work = scorer.score_work(inputs, ScoringPlan(MODEL, card, tensors, scoring_settings.ScoreSettings(**settings)))
    output = work(Block(0, Region(contig)))
    lines = list(output.lines)
    return lines, dict(output.counts), sum(map(int, output.input_counts[0].split()))


def sample_scores(lines: list[str], column: int) -> dict[tuple[int, str, str], float]:
    """FORMAT/CNN of a sample by (POS, REF, ALT) as its own callset has them: without the bases that REF and ALT share
    at the end."""
    found = {}
    for line in lines:
        seen = Record(line)
        values = seen.format_values(column).get("CNN", "")
        for number, text in enumerate(values.split(","), 1):
            if text not in ("", "."):
                own = MemberRecord(seen, [number])
                found[seen.start + 1, own.ref, own.alts[0]] = float(text)
    return found


def without_sample_scores(lines: list[str]) -> list[str]:
    stripped = []
    for line in lines:
        seen = Record(line)
        set_sample_values(seen, "CNN", {})
        seen.drop_info(("CNN_2D", "CNN_ALT_SCORES"))
        stripped.append(seen.line())
    return stripped


def test_each_carriers_score_is_the_one_that_its_own_callset_is_given(three: Cohort, scored: Any) -> None:
    lines = read_lines(scored[0] / "merged.vcf.gz")
    assert any(len(Record(line).alts) > 1 for line in lines)
    compared = 0
    for column, files in enumerate(three.files):
        inputs = block_tensors.Inputs(str(files.callset), str(files.reads), three.reference, files.sample)
        for contig in ("chrA", "chrB"):
            alone = [Record(line) for line in bare(inputs, contig)[0]]
            expected = {(r.start + 1, r.ref, r.alts[0]): float(str(r.info_value("CNN_2D"))) for r in alone}
            got = sample_scores([line for line in lines if line.startswith(f"{contig}\t")], column)
            assert got.keys() == expected.keys()
            # The network sums in another order where batches are others.
            assert list(got.values()) == pytest.approx([expected[key] for key in got], abs=2e-3)
            compared += len(got)
    assert compared == scored[1]["counts"]["alleles scored, by sample"] > 150


def test_every_record_comes_out_as_it_was_and_info_has_the_mean(three: Cohort, scored: Any) -> None:
    lines = read_lines(scored[0] / "merged.vcf.gz")
    assert without_sample_scores(lines) == read_lines(three.joined)
    proof = scored[1]["conservation"]
    assert proof["digest_in"] == proof["digest_out"] and proof["records_out"] == len(lines)
    for line in lines:
        seen = Record(line)
        values = [seen.format_values(column).get("CNN", ".").split(",") for column in range(3)]
        means = [np.mean([float(v[i]) for v in values if len(v) > i and v[i] != "."]) for i in range(len(seen.alts))]
        assert [float(x) for x in str(seen.info_value("CNN_ALT_SCORES")).split(",")] == pytest.approx(means, abs=1.1e-3)
        assert float(str(seen.info_value("CNN_2D"))) == pytest.approx(max(means), abs=1.1e-3)


def test_the_same_bytes_on_three_partitions_as_on_one_and_from_a_sheet_of_another_order(
    spark: Any, three: Cohort, scored: Any, tmp_path: Path
) -> None:
    rows = [f"{member.sample}\t{three.joined}\t{member.reads}\n" for member in reversed(three.members)]
    (tmp_path / "sheet.tsv").write_text("sample\tvcf\treads\n" + "".join(rows))
    patch, out = in_tasks(3), tmp_path / "out"
    shared = InputPaths(reference=three.reference)
    score_sheet(spark, str(tmp_path / "sheet.tsv"), ScoreRequest(shared, MODEL, str(out), CONFIG)).require_all()
    patch.undo()
    again = out / "samples" / "joined" / "merged.vcf.gz"
    assert again.read_bytes() == (scored[0] / "merged.vcf.gz").read_bytes()
    assert "S3,S2,S1\tdone" in (out / "samples.tsv").read_text()


def test_samples_without_reads_pass_through_and_are_counted(three: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = block_tensors.Inputs(three.joined, None, three.reference, members=(three.members[0], three.members[2]))
    lines, counts, compared = bare(inputs, "chrA", multisample)
    before = [Record(line) for line in read_lines(three.joined) if line.startswith("chrA\t")]
    everybody = [carried_alts(each, (0, 1, 2)) for each in before]
    only_second = sum(len({*b} - {*a, *c}) for a, b, c in everybody)
    assert counts[f"passed through: {NO_CARRIER}"] == only_second > 5
    assert counts["alleles scored, by sample"] == sum(len(a) + len(c) for a, _, c in everybody) == compared
    for old, line in zip(before, lines, strict=True):
        assert Record(line).line().split("\t")[10] == old.line().split("\t")[10]
        assert ("CNN_2D=" in line) == any(carried_alts(old, (0, 2)))
    monkeypatch.setattr(carrier_tensors, "OPEN_READS", 1)
    monkeypatch.setattr(multisample, "ALLELES_AT_ONCE", 7)
    again = bare(inputs, "chrA", multisample)
    assert again[1:] == (counts, compared)
    for column in (0, 2):
        wanted, got = sample_scores(lines, column), sample_scores(again[0], column)
        assert [*got.values()] == pytest.approx([*wanted.values()], abs=2e-3)


def test_no_more_carriers_than_the_settings_say_are_scored(three: Cohort) -> None:
    inputs = block_tensors.Inputs(three.joined, None, three.reference, members=three.members)
    lines, counts, compared = bare(inputs, "chrB", multisample, max_carriers=1)
    assert counts["alleles scored"] == counts["alleles scored, by sample"] == compared
    assert counts["carriers beyond score.max_carriers"] > 0
    for seen in map(Record, lines):
        columns = [seen.format_values(column).get("CNN") for column in range(3)]
        scored_alts = [i for text in columns if text for i, v in enumerate(text.split(",")) if v != "."]
        assert sorted(scored_alts) == list(range(len(seen.alts)))


def test_reads_of_one_sample_are_those_of_one_member(three: Cohort, tmp_path: Path) -> None:
    """What the sample does not carry is nothing that its reads could speak of."""
    paths = InputPaths(vcf=three.joined, reads=str(three.files[1].reads), reference=three.reference)
    with checked_inputs(paths, load_config(), tmp_path / "out") as checked:
        assert checked.inputs.members == (three.members[1],) and checked.inputs.sample == "S2"
        assert checked.preflight.warnings == [
            f"{three.joined} has 3 samples: QUAL and INFO are of all of them, so annotations are those that FORMAT has "
            "of 'S2'"
        ]


def test_scores_of_several_samples_go_where_one_sample_was_taken_out_and_is_scored(
    three: Cohort, scored: Any, tmp_path: Path
) -> None:
    one = str(tmp_path / "one.vcf.gz")
    view = ["bcftools", "view", "-s", "S2", "--no-version", "-Oz", "-o", one, str(scored[0] / "merged.vcf.gz")]
    subprocess.run(view, check=True)
    pysam.tabix_index(one, preset="vcf")
    with VcfSource(one) as source:
        renewed = scoring_output.score_header(source.header, one, read_card(MODEL))
    assert "CNN" not in renewed.format and "mean over" not in renewed.text()
    lines, counts, _ = bare(block_tensors.Inputs(one, str(three.files[1].reads), three.reference, "S2"), "chrB")
    before = [line for line in read_lines(one) if line.startswith("chrB\t")]
    assert any(":CNN" in line for line in before) and not any(":CNN" in line for line in lines)
    assert without_sample_scores(lines) == without_sample_scores(before)
    assert counts["alleles scored"] == sum(len(Record(line).alts) for line in before)


def test_with_reads_of_one_sample_its_annotations_and_neighbours_are_its_own(three: Cohort) -> None:
    """As its own callset says, for the biallelic records that it carries."""
    names, second = ("INFO/DP", "FORMAT/GQ", "INFO/MQ", "QUAL"), three.files[1]
    found = []
    for vcf in (str(second.callset), three.joined):
        source = block_tensors.BlockTensors(
            block_tensors.Inputs(vcf, str(second.reads), three.reference, "S2"), names, TensorSettings()
        )
        records = [r for r in source.records(Block(0, Region("chrA"))) if len(r.alts) == 1]
        batch, _ = source.build(records, Block(0, Region("chrA")))
        kept = range(len(records))
        if vcf == three.joined:
            kept = [i for i in kept if carried_alts(records[i], (1,))[0]]
        calls = [i for i, name in enumerate(SITE_FEATURES) if name.startswith("calls_")]
        rows = {
            (batch.keys[i].start, batch.keys[i].ref, batch.keys[i].alt): (
                batch.annotations[i],
                batch.site_features[i, calls],
            )
            for i in kept
        }
        found.append(rows)
    alone, joined = found
    shared = alone.keys() & joined.keys()
    assert len(shared) > 20
    assert not any(np.isnan(alone[key][0]).any() for key in shared)
    for key in shared:
        assert joined[key][0] == pytest.approx([*alone[key][0][:2], math.nan, math.nan], nan_ok=True)
        assert joined[key][1] == pytest.approx(alone[key][1])


def test_a_callset_of_several_samples_is_planned_for_each_of_them(three: Cohort) -> None:
    paths = InputPaths(vcf=three.joined, reference=three.reference, members=three.members)
    alone = plan_callsets([InputPaths(vcf=three.joined, reads=three.members[0].reads)], CONFIG, MODEL)
    found = plan_callsets([paths], CONFIG, MODEL)
    assert found.work.alleles == pytest.approx(3 * alone.work.alleles)
    assert any("as if each carried every allele" in note for note in found.notes)


# Preflight.


def preflight(three: Cohort, members: tuple[Member, ...]) -> list[str]:
    with VcfSource(three.joined) as vcf:
        reference = ReferenceSource(three.reference)
        return check_inputs(vcf, None, reference, members=members).warnings


def test_members_that_fit_are_no_warning(three: Cohort) -> None:
    assert preflight(three, three.members) == []


def test_what_is_wrong_with_a_member_is_one_sentence(three: Cohort, tmp_path: Path) -> None:
    first, second, third = three.members
    bad = {
        "has no sample 'S9' (it has 'S1', 'S2', 'S3')": (first, Member("S9", second.reads)),
        "sample 'S1' is given twice": (first, first),
        "holds reads of 'S2', not of 'S3'": (first, Member("S3", second.reads)),
        "does not exist": (first, Member("S2", str(tmp_path / "none.bam"))),
    }
    for said, members in bad.items():
        with pytest.raises(InputError) as caught:
            preflight(three, members)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        preflight(three, tuple(member for members in bad.values() for member in members[1:]))
    assert str(caught.value).startswith("4 samples do not fit: ") or all(said in str(caught.value) for said in bad)
    assert third not in bad


def test_reads_without_a_name_are_taken_as_given(three: Cohort, tmp_path: Path) -> None:
    bam = str(tmp_path / "unnamed.bam")
    with pysam.AlignmentFile(three.members[0].reads) as source:
        plain = {key: value for key, value in source.header.to_dict().items() if key != "RG"}
        with pysam.AlignmentFile(bam, "wb", header=plain) as out:
            for read in source:
                read.set_tag("RG", None)
                out.write(read)
    pysam.index(bam)
    assert preflight(three, (Member("S1", bam), three.members[1])) == [
        "the reads of 1 samples name no sample (SM) and are taken as given"
    ]


def test_the_member_of_a_callset_of_one_sample_is_that_sample(three: Cohort, tmp_path: Path) -> None:
    """So such a run is the same to the byte as one with --reads."""
    first = three.files[0]
    given = InputPaths(vcf=str(first.callset), reference=three.reference)
    by_reads = dataclasses.replace(given, reads=str(first.reads))
    by_member = dataclasses.replace(given, members=(three.members[0],))
    config, found = load_config(), []
    for paths in (by_reads, by_member):
        with checked_inputs(paths, config, tmp_path / "out") as checked:
            found.append((checked.inputs, checked.identity))
    assert found[0] == found[1] and found[0][0].sample == "S1"
    both = dataclasses.replace(by_member, reads=str(first.reads))
    with pytest.raises(UsageError, match="leave --reads"), checked_inputs(both, config, tmp_path / "out"):
        pass
    wrong = dataclasses.replace(given, members=(three.members[1],))
    with pytest.raises(InputError, match="has no sample 'S2'"), checked_inputs(wrong, config, tmp_path / "out"):
        pass


def test_a_model_that_looks_at_no_reads_asks_for_none(three: Cohort, tmp_path: Path) -> None:
    members = tuple(dataclasses.replace(member, reads=str(tmp_path / "none.bam")) for member in three.members)
    paths = InputPaths(vcf=three.joined, reference=three.reference, members=members)
    with checked_inputs(paths, load_config(), tmp_path / "out", needs_reads=False, needs_reference=True) as checked:
        assert checked.inputs.paths == [three.joined, three.reference]
        assert [member.sample for member in checked.inputs.members] == ["S1", "S2", "S3"]


def test_members_in_yaml_lie_beside_it_and_tensors_want_one_sample(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "inputs:\n  members:\n  - {sample: S1, reads: s1.bam}\n  - {sample: S2, reads: /x}\n"
    )
    paths = load_config(str(tmp_path / "a.yaml")).inputs
    assert paths.members == (Member("S1", str(tmp_path / "s1.bam")), Member("S2", "/x"))
    with pytest.raises(UsageError, match="tensors are built of one sample"):
        stages.build_dataset(spark, paths, str(tmp_path / "out"), load_config())


@pytest.mark.parametrize("labelled", [True, False])
def test_tensors_of_a_sample_are_of_what_it_carries(spark: Any, three: Cohort, tmp_path: Path, labelled: bool) -> None:
    second = three.files[1]
    paths = InputPaths(vcf=three.joined, reads=str(second.reads), reference=three.reference, sample="S2")
    if labelled:
        paths = dataclasses.replace(paths, truth=str(second.truth), bed=str(second.confident))
    stages.build_dataset(spark, paths, str(tmp_path / "tensors"), CONFIG)
    data = Dataset(str(tmp_path / "tensors"))
    built = {
        (int(start), int(number))
        for rows in data.read([block["block"] for block in data.blocks], ["start", "alt_index"])
        for start, number in zip(rows["start"], rows["alt_index"], strict=True)
    }
    records = [Record(line) for line in read_lines(three.joined)]
    carried = {(record.start, n) for record in records for n in carried_alts(record, (1,))[0]}
    assert len(built) > 20 and built <= carried
    assert labelled or built == carried


def test_in_two_stages_a_carrier_has_the_score_of_the_model_that_it_came_to(three: Cohort) -> None:
    inputs = block_tensors.Inputs(three.joined, None, three.reference, members=three.members)

    def scored(model: str, band: Band | None = None) -> tuple[list[Record], dict[str, int]]:
        card, first = read_card(model), read_card(MODEL)
        before = band and FirstStage(MODEL, first.model, first.sha256, first.digest, band)
        tensors = model_tensors(model, card, TensorSettings())
        work = multisample.score_work(
            inputs, ScoringPlan(model, card, tensors, scoring_settings.ScoreSettings(), before)
        )
        output = work(Block(0, Region("chrA")))
        return [Record(line) for line in output.lines], dict(output.counts)

    def lines(records: list[Record]) -> list[str]:
        for record in records:
            record.drop_info(("CNN_STAGE",))
        return [record.line() for record in records]

    alone = {model: scored(model)[0] for model in (MODEL, "bundled:reads")}
    for band, model, stage in ((Band(0, 1), "bundled:reads", "2"), (Band(0.5, 0.5), MODEL, "1")):
        records, counts = scored("bundled:reads", band)
        assert {value for record in records for value in str(record.info_value("CNN_STAGE")).split(",")} == {stage}
        assert counts[PASSED_ON] == (counts["alleles scored, by sample"] if stage == "2" else 0)
        assert lines(records) == lines(alone[model])
    records, counts = scored("bundled:reads", Band(0.05, 0.95))
    assert 0 < counts[PASSED_ON] < counts["alleles scored, by sample"]
    stopped = [i for i, record in enumerate(records) if set(str(record.info_value("CNN_STAGE")).split(",")) == {"1"}]
    assert 0 < len(stopped) < len(records)
    found, first = lines(records), lines(alone[MODEL])
    assert [found[i] for i in stopped] == [first[i] for i in stopped]
