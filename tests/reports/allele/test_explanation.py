"""An explained call has the score of the scored callset, and its page and sentences follow from its values."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import Config, InputPaths
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.models.card import read_card
from cnnspark.models.gatk_weights.importer import gatk_bundle
from cnnspark.reports.allele.page import write_page
from cnnspark.reports.allele.sentences import sentences, summary
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.stages.explain import explain
from cnnspark.stages.requests import ScoreRequest
from cnnspark.tensors.schema import WINDOW
from cnnspark.variants.carriers import Member
from tests.conftest import Sample, read_lines
from tests.models.networks.test_gatk import random_arrays

# A name with letters that are markup.
EVIL = "<script>alert(1)</script>&\"'"


class Page(HTMLParser):
    """The tags of a page, with their attributes, and its text; void elements have no end."""

    VOID = {"meta", "img", "rect", "line", "br"}

    def __init__(self, path: str | Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(Path(path).read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def scores_of(merged: str | Path) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """Each ALT's score as the VCF has it, by (contig:POS, ALT)."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for line in read_lines(merged):
        record = Record(line)
        for alt, text in zip(record.alts, (record.info_value("CNN_ALT_SCORES") or "").split(","), strict=False):
            if text not in ("", "."):
                found.setdefault((f"{record.contig}:{record.start + 1}", alt), []).append((record.ref, float(text)))
    return found


def some(scores: dict[tuple[str, str], Any], number: int) -> list[tuple[str, str]]:
    """Alleles from all over the callset, one record at their position."""
    alone = [key for key, found in scores.items() if len(found) == 1]
    return [alone[i] for i in np.linspace(0, len(alone) - 1, number).astype(int)]


Score = Callable[..., Path]


@pytest.fixture(scope="module")
def score(spark: Any, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Score:
    """Scores the sample with a model and gives the run's folder; the same one for the same model."""
    made: dict[tuple[str, bool | None], Path] = {}

    def scored(model: str, with_reads: bool = True, cascade: bool | None = None) -> Path:
        key = model, cascade
        if key not in made:
            paths = sample.unlabelled if with_reads else dataclasses.replace(sample.unlabelled, reads=None)
            made[key] = tmp_path_factory.mktemp("explained") / "scored"
            config = Config(blocks=sample.config.blocks, score=ScoreSettings(cascade=cascade))
            stages.score_callset(spark, ScoreRequest(paths, model, str(made[key]), config))
        return made[key]

    return scored


@pytest.mark.spark
@pytest.mark.parametrize("model", ["bundled:reads", "bundled:features", "bundled:reference", "trained"])
def test_the_score_is_that_of_the_scored_callset(score: Score, sample: Sample, tmp_path: Path, model: str) -> None:
    model = sample.model if model == "trained" else model
    folder = score(model, model != "bundled:reference")
    scores = scores_of(folder / "merged.vcf.gz")
    for at, alt in some(scores, 2):
        found = explain(InputPaths(vcf=str(folder)), None, at, alt, str(tmp_path / "x.html"))
        ((_, expected),) = scores[at, alt]
        assert abs(found["score"] - expected) <= 0.0006  # the VCF's third decimal is rounded
        assert (found["stored"]["score"], found["stored"]["same_model"]) == (expected, True)
        assert found["probability"] == pytest.approx(1 / (1 + np.exp(-found["score"])), abs=1e-5)
        assert not any("The callset says" in sentence for sentence in found["summary"])
        # So are the neighbours' scores.
        for each in found["neighbours"]:
            there = dict(scores.get((f"{found['contig']}:{each['pos']}", each["alt"]), []))
            if each["ref"] in there:
                assert abs(each["score"] - there[each["ref"]]) <= 0.0006
        assert sum(each["here"] for each in found["neighbours"]) == 1


@pytest.mark.spark
def test_what_is_said_follows_from_the_values(score: Score, tmp_path: Path) -> None:
    folder = score("bundled:reads", cascade=False)
    scores = scores_of(folder / "merged.vcf.gz")
    card = read_card("bundled:reads")
    for at, alt in some(scores, 2):
        found = explain(InputPaths(vcf=str(folder)), None, at, alt, str(tmp_path / "x.html"))
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["reads"] == sum(found["support"].values()) == len(found["reads_one_by_one"])
        for row in found["thresholds"]:
            table = card.thresholds if row["kind"] == "precision" else card.sensitivity_thresholds
            assert row["threshold"] == table[row["group"]][f"{row['share']:.{3 if row['share'] > 0.99 else 2}f}"]
            assert row["reached"] == (found["score"] >= row["threshold"])
        for each in [*found["effects"], *found["reads_one_by_one"], *found["columns"]]:
            assert each["change"] == pytest.approx(found["score"] - each["score"], abs=1e-4)
        assert [row["name"] for row in found["inputs"]] != list(card.feature_names)  # by effect
        assert {row["name"] for row in found["inputs"]} == set(card.feature_names)
        for row in found["inputs"]:
            if row["effect"]:
                assert row["effect"]["lowest"] <= row["effect"]["highest"]
        covered = [each["columns"] for each in found["columns"]]
        assert (covered[0][0], covered[-1][1]) == (0, WINDOW)
        assert all(a["to"] + 1 >= b["from"] for a, b in zip(found["columns"], found["columns"][1:], strict=False))
        assert "simulated reads alone" in found["summary"][-1]
        assert summary(found).startswith(f"{at} ")


def test_columns_move_a_network_that_sees_them(simulated: InputPaths, tmp_path: Path) -> None:
    """A network of random weights, which looks at every column of the reference, and at no reads."""
    gatk_bundle("gatk_1d", random_arrays("gatk_1d"), tmp_path / "model")
    record = Record(read_lines(str(simulated.vcf))[9])
    at, paths = f"{record.contig}:{record.start + 1}", dataclasses.replace(simulated, reads=None)
    found = explain(paths, str(tmp_path / "model"), at, record.alts[0], str(tmp_path / "x.html"))
    assert all(abs(each["change"]) > 1e-3 for each in found["columns"])
    assert found["reads_one_by_one"] == [] and not any(each["kind"] == "reads" for each in found["effects"])
    page = Page(tmp_path / "x.html")
    (chart,) = [svg for svg in page.named("svg") if svg.get("class") == "columns"]
    assert str(chart["aria-label"]).count(",") == len(found["columns"]) - 1
    told = "".join(page.text)
    assert "does not look at this picture's reads" in told and "Hiding eight columns" not in told


@pytest.mark.spark
def test_the_page_stands_alone_and_is_the_same_each_time(score: Score, tmp_path: Path) -> None:
    folder = score("bundled:reads")
    at, alt = some(scores_of(folder / "merged.vcf.gz"), 3)[1]
    for name in ("a.html", "b.html"):
        explain(InputPaths(vcf=str(folder)), None, at, alt, str(tmp_path / name))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    page = Page(tmp_path / "a.html")
    assert page.open == []
    (image,) = page.named("img")
    assert str(image["src"]).startswith("data:image/png;base64,") and "support the ALT" in str(image["alt"])
    assert not page.named("script") and not page.named("link") and not page.named("a")
    for _, attributes in page.tags:
        assert not any("://" in str(value) for value in attributes.values())
    headings = [t.strip() for t in page.text]
    for heading in ("What moves the score", "Annotations and site features", "Thresholds", "Nearest records"):
        assert heading in headings
    style = (tmp_path / "a.html").read_text()
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


@pytest.mark.spark
def test_names_of_headers_and_files_are_text(score: Score, sample: Sample, tmp_path: Path) -> None:
    with pysam.BGZFile(str(score("bundled:features") / "merged.vcf.gz"), "rb", None) as lines:
        text = [line.decode() for line in lines]
    with VcfSource(str(sample.paths.vcf)) as source:
        name = source.header.samples[0]
    text = [line.replace(f"\t{name}", f"\t{EVIL}") if line.startswith("#CHROM") else line for line in text]
    first = next(i for i, line in enumerate(text) if not line.startswith("#") and "CNN_2D=" in line)
    columns = text[first].split("\t")
    columns[6] = "x&<b"
    text[first] = "\t".join(columns)
    text.insert(1, '##FILTER=<ID=x&<b,Description="<img src=x onerror=alert(2)>">')
    path = tmp_path / "<i>evil.vcf.gz"
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write(("\n".join(text) + "\n").encode())
    pysam.tabix_index(str(path), preset="vcf")
    inputs = dataclasses.replace(sample.unlabelled, vcf=str(path), sample=EVIL)
    found = explain(inputs, None, f"{columns[0]}:{columns[1]}", None, str(tmp_path / "x.html"))
    assert (found["sample"], found["filters"][0]["name"]) == (EVIL, "x&<b")
    page = Page(tmp_path / "x.html")
    assert not page.named("script") and not page.named("b") and not page.named("i") and len(page.named("img")) == 1
    told = "".join(page.text)
    assert EVIL in told and "<img src=x onerror=alert(2)>" in told


@pytest.mark.spark
def test_a_sample_of_several_is_explained_as_it_was_scored(spark: Any, sample: Sample, tmp_path: Path) -> None:
    """A callset joined of the sample and one that carries nothing of it; FORMAT/CNN has the sample's own scores."""
    with pysam.BGZFile(str(sample.paths.vcf), "rb", None) as lines:
        text = [line.decode() for line in lines]
    joined = tmp_path / "joined.vcf.gz"
    with pysam.BGZFile(str(joined), "wb", None) as out:
        for i, line in enumerate(text):
            added = "" if line.startswith("##") else "\tOTHER" if line.startswith("#") else f"\t{i % 2}/0"
            out.write(f"{line}{added}\n".encode())
    pysam.tabix_index(str(joined), preset="vcf")
    with VcfSource(str(joined)) as source:
        name = source.header.samples[0]
    members = (Member(name, str(sample.paths.reads)), Member("OTHER", ""))
    paths = InputPaths(vcf=str(joined), reads=sample.paths.reads, reference=sample.paths.reference, sample=name)
    stages.score_callset(spark, ScoreRequest(paths, "bundled:features", str(tmp_path / "scored"), sample.config))
    at = next(r for line in read_lines(tmp_path / "scored" / "merged.vcf.gz")[9:]
              if (r := Record(line)).format_values(0).get("CNN", ".") != ".")  # fmt: skip
    expected = float(at.format_values(0)["CNN"].split(",")[0])
    here = f"{at.contig}:{at.start + 1}"
    found = explain(InputPaths(vcf=str(tmp_path / "scored")), None, here, at.alts[0], str(tmp_path / "x.html"))
    assert abs(found["score"] - expected) <= 0.0006 and found["stored"]["score"] == expected
    assert found["sample"] == name
    several = InputPaths(vcf=str(joined), reference=sample.paths.reference, members=members)
    with pytest.raises(UsageError, match=rf"the callset was scored in {name}, OTHER; choose one with --sample"):
        explain(several, "bundled:features", here, None, str(tmp_path / "x.html"))
    with pytest.raises(UsageError, match="sample 'X' has no reads among those of"):
        explain(dataclasses.replace(several, sample="X"), "bundled:features", here, None, str(tmp_path / "x.html"))


@pytest.mark.spark
def test_scores_of_another_model_are_said_to_be(score: Score, sample: Sample, tmp_path: Path) -> None:
    folder = score("bundled:features")
    at, alt = some(scores_of(folder / "merged.vcf.gz"), 3)[1]
    vcf = dataclasses.replace(sample.unlabelled, vcf=str(folder / "merged.vcf.gz"))
    assert explain(vcf, None, at, alt, str(tmp_path / "x.html"))["model"]["path"] == "bundled:features"
    found = explain(vcf, sample.model, at, alt, str(tmp_path / "x.html"))
    assert found["stored"]["same_model"] is False
    assert any(s.startswith("The callset says") and "with another model" in s for s in found["summary"])
    # Of the two models in the usual cascade, the one that gave the score is asked.
    by_stage = {}
    for line in read_lines(score("bundled:reads") / "merged.vcf.gz"):
        if stage := (record := Record(line)).info_value("CNN_STAGE"):
            by_stage.setdefault(stage.split(",")[0], (f"{record.contig}:{record.start + 1}", record.alts[0]))
    for stage, path in (("1", "bundled:reads/first"), ("2", "bundled:reads")):
        unscored = explain(sample.unlabelled, None, *by_stage[stage], str(tmp_path / "x.html"))
        assert (unscored["model"]["path"], unscored["stored"]) == (path, None)


@pytest.mark.spark
def test_what_cannot_be_explained_is_one_sentence(
    score: Score, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = score(sample.model)
    at = some(scores_of(folder / "merged.vcf.gz"), 3)[1][0]
    out, of_run = str(tmp_path / "x.html"), InputPaths(vcf=str(folder))
    vcf = dataclasses.replace(sample.unlabelled, vcf=str(folder / "merged.vcf.gz"))
    (tmp_path / "empty").mkdir()

    def without(name: str) -> InputPaths:
        return dataclasses.replace(vcf, **{name: None})

    for inputs, model, where, alt, page, error, sentence in (
        (of_run, None, at, None, str(tmp_path / "x.png"), UsageError, r"x\.png must end in \.html"),
        (of_run, None, at, None, str(tmp_path / "no" / "x.html"), UsageError, "the folder of .* does not exist"),
        (InputPaths(), None, at, None, out, UsageError, "--vcf is missing"),
        (of_run, None, "chrNo:5", None, out, InputError, "has no records on 'chrNo'"),
        (of_run, None, at.split(":")[0], None, out, UsageError, "has no position"),
        (of_run, None, at, "GATTACA", out, UsageError, "not GATTACA; choose one of these with --alt"),
        (vcf, None, at, None, out, UsageError, "was scored with a model of your own .*; give it with --model"),
        (
            dataclasses.replace(vcf, reads=None),
            "bundled:reads",
            at,
            None,
            out,
            UsageError,
            "looks at reads; give --reads",
        ),
        (
            dataclasses.replace(vcf, reference=None),
            "bundled:reads",
            at,
            None,
            out,
            UsageError,
            "--reference is missing",
        ),
        (of_run, str(tmp_path / "empty"), at, None, out, InputError, "is not a model bundle"),
        (InputPaths(vcf=str(tmp_path / "empty")), None, at, None, out, InputError, r"it has no manifest\.json"),
    ):
        with pytest.raises(error, match=sentence):
            explain(inputs, model, where, alt, page)
    assert not list(tmp_path.glob("*.html"))
    assert main(["explain", "--vcf", str(folder), "--at", at, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == out
    assert main(["explain", "--vcf", str(folder), "--at", "chrNo:5", "--out", out]) == 3


@pytest.mark.spark
def test_a_record_whose_ref_is_another_has_no_explanation(spark: Any, sample: Sample, tmp_path: Path) -> None:
    with pysam.BGZFile(str(sample.paths.vcf), "rb", None) as lines:
        text = [line.decode() for line in lines]
    first = next(i for i, line in enumerate(text) if not line.startswith("#") and len(line.split("\t")[3]) == 1)
    columns = text[first].split("\t")
    columns[3], columns[4] = ("A", "T") if columns[3] != "A" else ("C", "T")
    text[first] = "\t".join(columns)
    path = tmp_path / "calls.vcf"
    path.write_text("\n".join(text) + "\n")
    inputs = dataclasses.replace(sample.unlabelled, vcf=str(path))
    with pytest.raises(
        InputError, match=f"the record at {columns[0]}:{columns[1]} has a REF that the reference does not"
    ):
        explain(inputs, "bundled:features", f"{columns[0]}:{columns[1]}", None, str(tmp_path / "x.html"))
    # The other records can still be explained, also those of a plain VCF.
    other = next(line.split("\t") for line in text[first + 1 :] if line.split("\t")[1] != columns[1])
    assert explain(inputs, "features", f"{other[0]}:{other[1]}", None, str(tmp_path / "x.html"))["score"]


@pytest.mark.real
@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_gatks_own_networks_say_what_they_can(data: Path, tmp_path: Path, kind: str) -> None:
    """The score is the one that NVScoreVariants gave with these weights."""
    arrays = dict(np.load(data / "oracle" / f"gatk_{kind}.npz"))
    gatk_bundle(f"gatk_{kind}", arrays, tmp_path / "model", source=f"gatk_{kind}.npz")
    folder = data / "real" / "HG002"
    paths = InputPaths(
        vcf=str(folder / "HG002.gatk-style.vcf.gz"),
        reads=str(folder / "HG002.20.bam"),
        reference=str(folder / "ref.b37.20.fa.gz"),
    )
    with open(data / "oracle" / f"HG002.scores_{kind}.tsv") as table:
        expected = list(csv.DictReader(table, delimiter="\t"))[100]
    at = f"{expected['contig']}:{expected['pos']}"
    found = explain(paths, str(tmp_path / "model"), at, None, str(tmp_path / "x.html"))
    assert abs(found["score"] - float(expected["score"])) <= 0.0011
    assert (found["model"]["encoding"], found["calibrated"], found["thresholds"]) == ("gatk", False, [])
    assert "no thresholds" in found["summary"][1] and "not calibrated" in found["summary"][0]
    assert [row["verdict"] for row in found["inputs"]] == ["unknown"] * 7
    assert len(found["reads_one_by_one"]) == (found["reads"] if kind == "2d" else 0)
    told = "".join(Page(tmp_path / "x.html").text)
    assert "The card does not describe the training data" in told and "Encoded by GATK's own rules" in told


def values(**changed: Any) -> dict[str, Any]:
    """Values of an explanation, as few as a page can have."""
    base = {
        "out": "x.html", "sample": "S1", "reads": 0, "support": {"alt": 0, "ref": 0, "other_alt": 0, "neither": 0},
        "contig": "c1", "pos": 5, "ref": "A", "alt": "T", "alts": ["T"], "type": "SNV", "group": "SNP", "score": -0.5,
        "probability": 0.378, "calibrated": True, "key": "CNN_2D", "stored": None,
        "filters": [{"name": ".", "description": ""}], "thresholds": [],
        "model": {
            "path": "m", "name": "features", "sha256": "0" * 64, "notice": "", "encoding": "cnnspark",
            "sees_reads": False, "sees_window": False, "sees_site_features": True, "sees_annotations": False,
            "knows_training": False,
        },
        "effects": [], "reads_one_by_one": [], "columns": [], "inputs": [], "neighbours": [],
    }  # fmt: skip
    return {**base, **changed}


def threshold(share: float, value: float, score: float) -> dict[str, Any]:
    return {"kind": "precision", "share": share, "group": "SNP", "threshold": value, "reached": score >= value}


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (5.0, "It reaches the card's threshold for precision 0.95 (1.000), the highest one."),
        (0.0, "It reaches the card's threshold for precision 0.9 (-1.000), but not for precision 0.95 (1.000)."),
        (-2.0, "It is below the card's lowest threshold, for precision 0.9 (-1.000)."),
    ],
)
def test_the_verdict_in_words(score: float, said: str) -> None:
    rows = [threshold(0.9, -1.0, score), threshold(0.95, 1.0, score)]
    assert sentences(values(score=score, thresholds=rows))[1] == said


def test_odds_are_given_for_and_against() -> None:
    assert "odds of 1.6 to 1 against the allele being real, a probability of 0.378" in sentences(values())[0]
    assert (
        "odds of 20 to 1 for the allele being real, a probability of 0.953"
        in sentences(values(score=3.0, probability=0.953))[0]
    )
    assert "a probability below 0.001 (calibrated" in sentences(values(score=-9.0, probability=1e-4))[0]
    said = sentences(values(filters=[{"name": "LOW", "description": ""}, {"name": "X", "description": ""}]))
    assert "FILTER is LOW, X." in said


def test_a_page_with_almost_nothing_is_complete(tmp_path: Path) -> None:
    found = values()
    found["summary"] = sentences(found)
    write_page(str(tmp_path / "x.html"), found, b"")
    page = Page(tmp_path / "x.html")
    assert page.open == [] and "takes no annotations and no site features" in "".join(page.text)
    with pytest.raises(UsageError, match="cannot be written"):
        write_page(str(tmp_path / "no" / "x.html"), found, b"")


@pytest.mark.slow
@pytest.mark.spark
def test_a_browser_shows_it_without_scrolling_sideways(score: Score, tmp_path: Path) -> None:
    """Chromium measures the page itself: a script that only this test adds writes the widths into the title."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    import re
    import subprocess

    folder = score("bundled:reads")
    at, alt = some(scores_of(folder / "merged.vcf.gz"), 3)[1]
    explain(InputPaths(vcf=str(folder)), None, at, alt, str(tmp_path / "x.html"))
    text = (tmp_path / "x.html").read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    measure = (
        "<script>addEventListener('load', () => document.title = "
        "document.documentElement.scrollWidth + ' ' + innerWidth + ' ' + document.images[0].naturalWidth)</script>"
    )
    (tmp_path / "measured.html").write_text(text.replace("</body>", f"{measure}</body>"))
    for width in (1280, 500):
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1000", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "measured.html").as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
        assert found is not None
        scrolls, window, picture = map(int, found.groups())
        assert scrolls <= window and picture == 1200, width
