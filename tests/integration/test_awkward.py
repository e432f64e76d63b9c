"""Bad and odd inputs, each with its outcome: a result with every record in it, or one sentence. Needs CNNSPARK_DATA."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pysam
import pytest

from cnnspark import stages
from cnnspark.common.error_translation import explain
from cnnspark.config import Config, InputPaths, load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.stages.requests import ScoreRequest
from cnnspark.training import train
from tests.conftest import read_lines
from tests.stages.test_stages import without_scores

pytestmark = [pytest.mark.real, pytest.mark.spark]

# What the sentence says; None: it works. Most of these callsets name the sample S1, the reads say SIMDEV.
CALLSETS: dict[str, str | None] = {
    "contig_mismatch_20.vcf": "only the 'chr' prefix differs",
    "crlf.vcf": None,
    "header_only.vcf": "holds no records",
    "huge_info.vcf": None,
    "long_alleles.vcf": None,
    "mixed_alleles.vcf": None,
    "multisample.vcf": "holds reads of 'SIMDEV' but",
    "no_contig_lines.vcf": None,
    "past_contig_end.vcf": "beyond the contig",
    "pos_zero_and_one.vcf": None,
    "ref_mismatch.vcf": "--on-ref-mismatch skip",
    "score_field_already_there.vcf": None,
    "sites_only.vcf": "no sample column",
    "tiny.vcf.gz": None,
    "truncated.vcf.gz": "truncated",
    "undeclared_info_and_filter.vcf": None,
    "unsorted_duplicate.vcf": "bcftools sort",
    "zero_bytes.vcf": "0 bytes",
}
READS: dict[str, str | None] = {
    "embedded_ref.cram": None,
    "empty.bam": "no mapped reads",
    "needs_ref.cram": None,
    "noEOF.bam": "samtools index",
    "no_RG_header.bam": None,
    "no_basequals.bam": None,
    "noindex.bam": "samtools index",
    "tiny.bam": None,
    "truncated.bam": "samtools index",
}
REFERENCES = ("iupac_ref.fa.gz", "lowercase_ref.fa.gz")


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, ["blocks.records=200", "train.epochs=1", "train.model=features"])


@pytest.fixture(scope="module")
def made(data: Path) -> Path:
    return data / "awkward" / "made"


@pytest.fixture(scope="module")
def model(spark: Any, data: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, sim = tmp_path_factory.mktemp("awkward"), data / "sim"
    paths = InputPaths(
        vcf=str(sim / "DEV.freebayes.vcf.gz"),
        reads=str(sim / "DEV.bam"),
        reference=str(sim / "ref.fa.gz"),
        labels=str(sim / "DEV.freebayes.labels.tsv"),
        regions=("chr20:60,000-260,000",),
    )
    stages.build_dataset(spark, paths, str(folder / "tensors"), config)
    train(spark, str(folder / "tensors"), str(folder / "model"), config.train)
    return str(folder / "model")


def outcome(spark: Any, paths: InputPaths, model: str, out: Path, config: Config) -> str | None:
    """None where the callset came out whole, else the sentence."""
    before = {path.name for path in out.parent.iterdir()}
    try:
        stages.score_callset(spark, ScoreRequest(paths, model, str(out), config))
    except (InputError, UsageError) as error:
        assert "\n" not in str(error) and "Traceback" not in str(error)
        assert {path.name for path in out.parent.iterdir()} == before
        return str(error)
    assert (out / "_SUCCESS").exists()
    return None


def expect(said: str | None, wanted: str | None) -> None:
    assert (said is None) == (wanted is None), said
    if wanted is not None:
        assert re.search(re.escape(wanted), said or ""), said


def test_every_file_has_its_outcome(made: Path) -> None:
    files = {
        path.name for path in made.iterdir() if path.suffix in (".vcf", ".bam", ".cram") or path.name.endswith(".gz")
    }
    assert files == set(CALLSETS) | set(READS) | set(REFERENCES)


@pytest.mark.parametrize("name", sorted(CALLSETS))
def test_callsets(spark: Any, data: Path, made: Path, model: str, config: Config, tmp_path: Path, name: str) -> None:
    reference = str(data / "sim" / "ref.fa.gz")
    paths = InputPaths(vcf=str(made / name), reads=str(made / "tiny.bam"), reference=reference)
    said = outcome(spark, paths, model, tmp_path / "out", config)
    if said and "holds reads of 'SIMDEV' but" in said and "'S1'" in said:
        paths = dataclasses.replace(paths, sample="S1")
        said = outcome(spark, paths, model, tmp_path / "out", config)
    expect(said, CALLSETS[name])
    if said is None:
        lines = (
            read_lines(made / name)
            if name.endswith(".gz")
            else [x for x in (made / name).read_bytes().decode("latin-1").split("\n") if x and not x.startswith("#")]
        )
        # A CNN_2D that stood there before is replaced; line ends are the platform's.
        expected = without_scores([line.rstrip("\r") for line in lines])
        assert without_scores(read_lines(tmp_path / "out" / "merged.vcf.gz")) == expected


@pytest.mark.parametrize("name", sorted(READS))
def test_reads(spark: Any, data: Path, made: Path, model: str, config: Config, tmp_path: Path, name: str) -> None:
    reference = str(data / "sim" / "ref.fa.gz")
    paths = InputPaths(vcf=str(made / "tiny.vcf.gz"), reads=str(made / name), reference=reference)
    expect(outcome(spark, paths, model, tmp_path / "out", config), READS[name])


@pytest.mark.parametrize(("name", "wanted"), [("truncated.bam", "truncated"), ("noEOF.bam", None)])
def test_damaged_reads_with_an_index(
    spark: Any, data: Path, made: Path, model: str, config: Config, tmp_path: Path, name: str, wanted: str | None
) -> None:
    """A file cut in its middle loses reads; one that lacks its end marker alone has lost none."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes((made / name).read_bytes())
    (tmp_path / "in" / f"{name}.bai").write_bytes((made / "tiny.bam.bai").read_bytes())
    paths = InputPaths(
        vcf=str(made / "tiny.vcf.gz"), reads=str(tmp_path / "in" / name), reference=str(data / "sim" / "ref.fa.gz")
    )
    expect(outcome(spark, paths, model, tmp_path / "out", config), wanted)


@pytest.mark.parametrize("name", REFERENCES)
def test_references(spark: Any, made: Path, model: str, config: Config, tmp_path: Path, name: str) -> None:
    paths = InputPaths(vcf=str(made / "tiny.vcf.gz"), reads=str(made / "tiny.bam"), reference=str(made / name))
    assert outcome(spark, paths, model, tmp_path / "out", config) is None


@pytest.mark.parametrize(("name", "wanted"), [("bed_bad.bed", "line 3 is not BED"), ("empty.bed", "0 bytes")])
def test_confident_regions(
    spark: Any, data: Path, made: Path, config: Config, tmp_path: Path, name: str, wanted: str
) -> None:
    sim = data / "sim"
    paths = InputPaths(
        vcf=str(made / "tiny.vcf.gz"),
        reads=str(made / "tiny.bam"),
        reference=str(sim / "ref.fa.gz"),
        truth=str(sim / "DEV.truth.vcf.gz"),
        bed=str(made / name),
    )
    with pytest.raises(InputError, match=wanted):
        stages.build_dataset(spark, paths, str(tmp_path / "out"), config)
    assert not (tmp_path / "out").exists()


def test_the_specifications_own_files_give_a_result_or_a_sentence(
    spark: Any, data: Path, model: str, config: Config, tmp_path: Path
) -> None:
    """htslib reads many files that break the specification, so either outcome will do; a traceback will not."""
    sim = data / "sim"
    files = sorted((data / "awkward" / "hts-specs" / "test" / "vcf").rglob("*.vcf"))
    assert len(files) > 600
    outcomes: dict[str, int] = {}
    for number, path in enumerate(files):
        paths = InputPaths(vcf=str(path), reads=str(sim / "DEV.bam"), reference=str(sim / "ref.fa.gz"))
        try:
            stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / str(number)), config))
            said = "a result"
        except Exception as error:
            explained = explain(error)
            assert explained.exit_code in (2, 3), f"{path}: {explained}"
            said = re.sub(r"\S*/\S+|'[^']*'|\d+", "*", str(explained))[:60]
        outcomes[said] = outcomes.get(said, 0) + 1
    print("\n".join(f"{count:5} {said}" for said, count in sorted(outcomes.items(), key=lambda item: -item[1])))


def fitting_reads(path: Path, folder: Path) -> tuple[str, str] | None:
    """A reference of N, which agrees with any REF, and one read on each contig that the callset names."""
    ends: dict[str, int] = {}
    for line in path.read_bytes().decode("latin-1").splitlines():
        columns = line.split("\t")
        if not line.startswith("#") and len(columns) > 4 and columns[1].isdigit():
            ends[columns[0]] = max(ends.get(columns[0], 1000), int(columns[1]) + len(columns[3]) + 1000)
    ends = {name: end for name, end in ends.items() if re.fullmatch(r"[\w.*:-]+", name)}
    if not ends or max(ends.values()) > 100_000_000:
        return None
    fasta, bam = folder / "n.fa", folder / "n.bam"
    fasta.write_text("".join(f">{name}\n{'N' * end}\n" for name, end in ends.items()))
    pysam.faidx(str(fasta))
    header = {"HD": {"SO": "coordinate"}, "SQ": [{"SN": name, "LN": end} for name, end in ends.items()]}
    with pysam.AlignmentFile(str(bam), "wb", header=header) as out:
        for number in range(len(ends)):
            read = pysam.AlignedSegment(out.header)
            read.query_name, read.query_sequence, read.flag = f"r{number}", "ACGT" * 25, 0
            read.reference_id, read.reference_start, read.mapping_quality = number, 50, 60
            read.cigartuples = [(0, 100)]
            out.write(read)
    pysam.index(str(bam))
    return str(fasta), str(bam)


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_the_specifications_callsets_become_tensors_or_a_sentence(
    spark: Any, data: Path, config: Config, tmp_path: Path, every: int
) -> None:
    """With a reference and reads that fit, so that the records themselves are what is odd."""
    files = sorted((data / "awkward" / "hts-specs" / "test" / "vcf").rglob("*.vcf"))[::every]
    outcomes: dict[str, int] = {}
    for number, path in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        fitting = fitting_reads(path, folder)
        if fitting is None:
            continue
        samples = re.search(rb"\n#CHROM(?:\t[^\t\n]*){8}\t([^\t\r\n]+)", path.read_bytes())
        paths = InputPaths(vcf=str(path), reference=fitting[0], reads=fitting[1])
        if samples:
            paths = dataclasses.replace(paths, sample=samples[1].decode("latin-1"))
        try:
            stages.build_dataset(spark, paths, str(folder / "out"), config)
            said = "a result"
        except Exception as error:
            explained = explain(error)
            assert explained.exit_code in (2, 3), f"{path}: {explained}"
            said = re.sub(r"\S*/\S+|'[^']*'|\d+", "*", str(explained))[:60]
        outcomes[said] = outcomes.get(said, 0) + 1
    print("\n".join(f"{count:5} {said}" for said, count in sorted(outcomes.items(), key=lambda item: -item[1])))
    assert outcomes["a result"] > len(files) / 10


def test_the_specifications_reads_give_a_sentence(spark: Any, data: Path, config: Config, tmp_path: Path) -> None:
    """SAM text, and BAM without an index."""
    sim = data / "sim"
    files = [*(data / "awkward" / "hts-specs" / "test").rglob("*.sam"), *(data / "awkward").rglob("level-*.bam")]
    assert len(files) > 100
    for path in files:
        paths = InputPaths(
            vcf=str(sim / "DEV.freebayes.vcf.gz"), reads=str(path), reference=str(sim / "ref.fa.gz"), sample="SIMDEV"
        )
        with pytest.raises(InputError) as caught:
            stages.build_dataset(spark, paths, str(tmp_path / "out"), config)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_a_cram_of_another_reference_is_refused(
    spark: Any, data: Path, made: Path, model: str, config: Config, tmp_path: Path
) -> None:
    """CRAM stores differences to its reference; the checksum in its header must be that of the reference given."""
    paths = InputPaths(
        vcf=str(made / "tiny.vcf.gz"), reads=str(made / "needs_ref.cram"), reference=str(made / "iupac_ref.fa.gz")
    )
    with pytest.raises(Exception, match=r"(?i)reference|md5|cannot be read") as caught:
        stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / "out"), config))
    assert explain(caught.value).exit_code == 3
