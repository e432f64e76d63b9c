"""The report as a browser and a careful reader would take it: well-formed, self-contained, escaped, repeatable."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cnnspark.errors import RunError
from cnnspark.evaluation.callset_counts import CallsetCounter, CallsetCounts
from cnnspark.evaluation.curves import draw_curves
from cnnspark.evaluation.metrics import AlleleScores, evaluate_scores
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.models.card import Card
from cnnspark.models.spec import ModelSpec
from cnnspark.reports.callset.contents import ReportContents, ordered_strata
from cnnspark.reports.callset.page import write_report
from cnnspark.reports.callset.run_facts import RunFacts
from tests.conftest import ROOT

VOID = {"meta", "link", "br", "hr", "img", "input"}
HISTORY = [
    {"epoch": i, "loss": 1 / i, "val_loss": 1.2 / i, "val_auprc": 0.5 + i / 10, "seconds": 31.0} for i in (1, 2, 3)
]


class Page(HTMLParser):
    """Checks that tags nest, and collects text, ids and attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self._attributes(attrs)

    def _attributes(self, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href", "data", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text += data
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings.append(data)


def example(names=("CNN_2D", "QUAL"), n=300) -> AlleleScores:
    rng = np.random.default_rng(4)
    label = rng.integers(-1, 2, n)
    values = {name: label * (2.0 - i) + rng.normal(size=n) for i, name in enumerate(names)}
    return AlleleScores(np.full(n, "chr1"), rng.integers(0, 1_000_000, n), rng.integers(0, 5, n), label, values)


def report(path: Path, scores=None, history=HISTORY, facts=None, title="Evaluation", **how) -> str:
    scores = example() if scores is None else scores
    metrics = evaluate_scores(scores, baseline="QUAL", n_replicates=20)
    facts = {"records": 12_345} if facts is None else facts
    write_report(path, ReportContents(title, metrics, draw_curves(scores), history or (), facts, **how))
    return path.read_text(encoding="utf-8")


def callset_counts(n=400, filter_name="CNN_2D_LOW", contig="chr1", key="CNN_2D") -> CallsetCounts:
    """Counts of a callset with SNVs and indels, true and false ones; those with a score below 0 are filtered."""
    rng = np.random.default_rng(8)
    lines = ["##fileformat=VCFv4.2", f'##FILTER=<ID={filter_name},Description="d">']
    lines += [f'##INFO=<ID={key},Number=1,Type=Float,Description="d">', "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    records, labels = [], []
    for i in range(n):
        label = int(rng.integers(0, 2))
        score = (label - 0.5) * 4 + rng.normal() * 2
        ref, alt = [("A", "G"), ("A", "C"), ("AT", "A"), ("A", "ATTT")][int(rng.integers(0, 4))]
        status = "PASS" if score >= 0 else filter_name
        records.append(Record(f"{contig}\t{i + 1}\t.\t{ref}\t{alt}\t50\t{status}\t{key}={score:.3f}"))
        labels.append((records[-1], 1, label))
    return CallsetCounter(VcfHeader(lines), key).count(records, labels)


def run_facts(name="INFO/DP") -> RunFacts:
    """A run of 30 blocks on two workers, with one input unlike the training data."""
    blocks = [
        {"contig": "chr1", "start": i * 1000.0, "seconds": 1 + i / 30, "predicted_seconds": 1.0, "host": "h",
         "pid": str(i % 2), **{f"{part}_seconds": 0.2 for part in ("read", "encode", "label", "predict", "write")}}
        for i in range(30)
    ]  # fmt: skip
    guard = {
        "compared": True, "outside": [name],
        "inputs": [{"name": name, "distance": 0.9, "limit": 0.3, "missing": 1.0, "trained_missing": 0.0,
                    "out_of_range": 0.0}],
    }  # fmt: skip
    card = Card(
        model="features", spec=ModelSpec(annotation_names=(name,), feature_names=()), sha256="ab" * 32,
        thresholds={"ALL": {"0.90": 1.5, "0.95": None}}, metrics={"AUPRC SNP": 0.91, "alleles ALL": 60.0},
    )  # fmt: skip
    return RunFacts(
        statement="7 records in, 7 records out, 1 blocks, digest abc equal", blocks=blocks, guard=guard,
        runtime={"tasks": 2, "task_seconds": {"max_over_mean": 1.02}, "peak_mib": 900}, key="CNN_2D",
        model="/models/mine", card=card,
        configuration={"inputs": {"reads": "my reads.bam", "reference": "ref.fa", "vcf": "in.vcf.gz"}, "seed": 7},
    )  # fmt: skip


STRATA = {
    "depth": {
        "under 10": {"CNN_2D": {"auprc": None, "auprc_low": None, "auprc_high": None, "n_true": 2, "n_false": 0}},
        "10 and more": {
            "CNN_2D": {"auprc": 0.9, "auprc_low": 0.85, "auprc_high": 0.95, "n_true": 40, "n_false": 70},
            "QUAL": {"auprc": 0.7, "auprc_low": 0.6, "auprc_high": 0.8, "n_true": 40, "n_false": 70},
        },
    }
}
COMPARISON = {
    "SNP": {
        "CNN_2D - QUAL": {
            "auprc_first": 0.7, "auprc_second": 0.9, "auprc_difference": 0.2, "auprc_difference_low": 0.1,
            "auprc_difference_high": 0.3, "recall_at_precision_0.99_difference": None,
        }
    }
}  # fmt: skip
CALLSETS = {"mine": {"before": {"records": 1500, "ti_tv": 1.25}, "after": {"records": 900, "ti_tv": 2.0}}}
SECTIONS = [
    "Against the truth", "By stratum", "The 20 most surprising calls", "The callset", "Training", "The run",
    "The model's inputs", "The model's card", "Configuration", "About this report",
]  # fmt: skip


def full_report(path: Path, **how) -> str:
    """A page with every section."""
    inputs = {"vcf": "it's scored.vcf.gz", "reads": "my reads.bam", "reference": "ref.fa"}
    return report(
        path,
        **{
            "counts": callset_counts(),
            "strata": STRATA,
            "comparison": COMPARISON,
            "callsets": CALLSETS,
            "run": run_facts(),
            "inputs": inputs,
            **how,
        },
    )


def test_the_page_is_well_formed_and_says_the_findings_first(tmp_path):
    scores = example()
    html = report(tmp_path / "deep" / "er" / "r.html", scores)
    page = Page(html)
    # Two curves per group, a histogram per score, calibration, two of training.
    assert page.tags.count("svg") == 3 * 2 + 2 + 1 + 2
    assert page.tags.count("figure") == page.tags.count("figcaption") == page.tags.count("svg")
    values = evaluate_scores(scores, baseline="QUAL", n_replicates=20)["ALL"]
    summary = page.text[: page.text.index("Metrics")]
    n_true, n_false = values["CNN_2D"]["n_true"], values["CNN_2D"]["n_false"]
    assert f"The truth of {n_true + n_false} ALT alleles is known: {n_true} are true and {n_false} false." in summary
    assert f"CNN_2D has an AUPRC of {values['CNN_2D']['auprc']:.3f} (95% interval" in summary
    assert f"QUAL has {values['QUAL']['auprc']:.3f}" in summary
    assert f"CNN_2D keeps {values['CNN_2D']['recall_at_precision_0.90']:.1%} of the true alleles" in summary
    assert "The best AUPRC on the validation data is 0.800, at epoch 3." in page.text
    assert "12,345" in page.text
    assert not (tmp_path / "deep" / "er" / ".r.html.unfinished").exists()


def test_every_drawing_is_valid_svg_with_a_text_for_those_who_cannot_see_it(tmp_path):
    html = full_report(tmp_path / "r.html")
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert drawings
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img" and len(root.get("aria-label", "")) > 20
        assert root.get("viewBox") and root.get("width") is None
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        for reference in re.findall(r'(?:url\(#|href="#)([^")]+)', drawing):
            assert reference in ids
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(tmp_path):
    html = full_report(tmp_path / "r.html")
    page = Page(html)
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(page.tags)
    assert not re.search(r"url\((?!#)|@import", html)
    assert "default-src 'none'" in html
    assert set(re.findall(r"https?://[^\"'<\s]+", html)) == {"http://www.w3.org/2000/svg"}
    for needed in ("prefers-color-scheme: dark", "@media print", "width=device-width", "currentColor"):
        assert needed in html
    assert "#123456" not in html


def test_hostile_names_are_only_ever_text(tmp_path):
    evil = "<script>alert('x')</script>"
    quote = '"><img src=x onerror=alert(1)> $\\frac{1}$ & _'
    scores = example((evil, "QUAL", quote, "_hidden"))
    facts = {evil: quote, quote: {evil: {quote: [evil, None, 0.1]}}}
    history = [{"epoch": 1, "loss": 1.0, evil: 0.5, quote: "text"}, {"epoch": 2, "loss": float("nan"), evil: 0.6}]
    strata = {evil: {quote: {evil: {"auprc": 0.5, "auprc_low": 0.4, "auprc_high": 0.6, "n_true": 1, "n_false": 1}}}}
    html = report(
        tmp_path / "r.html", scores, history, facts, title=evil, strata=strata, run=run_facts(quote),
        counts=callset_counts(filter_name="<img onload=x &", contig="$(rm -rf /)"), inputs={"vcf": f"{quote}.vcf.gz"},
    )  # fmt: skip
    page = Page(html)  # checks that no attribute begins with "on"
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count(evil) >= 5 and quote in page.text and "<img onload=x &" in page.text
    # A contig with that name is shown, but not in a command.
    assert "$(rm -rf /):" in page.text and "cnnspark explain" not in page.text
    for drawing in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ElementTree.fromstring(drawing)


def test_every_section_has_its_heading_in_order_and_a_link(tmp_path):
    html = full_report(tmp_path / "r.html")
    page = Page(html)
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in zip(levels, levels[1:], strict=False))
    assert (
        re.findall(r"<h2[^>]*>(.*?)</h2>", html) == [name.replace("'", "&#39;") for name in SECTIONS]
        or [heading for heading in page.headings if heading in SECTIONS] == SECTIONS
    )
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert contents.count("<a ") == len(SECTIONS)
    first_link = html[html.index("<body>") :]
    assert first_link.index('<a class="skip" href="#main">') < first_link.index("<main id=")


def test_each_surprising_call_has_the_command_that_explains_it(tmp_path):
    page = Page(full_report(tmp_path / "r.html"))
    commands = re.findall(r"cnnspark explain .*?--out call.html", page.text)
    assert len(commands) == 20
    for command in commands:
        words = shlex.split(command)
        assert words[:4] == ["cnnspark", "explain", "--vcf", "it's scored.vcf.gz"]
        assert words[words.index("--reads") + 1] == "my reads.bam"
        assert words[words.index("--model") + 1] == "/models/mine"
        assert re.fullmatch(r"chr1:\d+", words[words.index("--at") + 1])
    found = sorted(callset_counts().surprising, key=lambda each: -each.disagreement)[:20]
    places = re.findall(r"explain (chr1:\d+)\n", page.text)
    assert [f"chr1:{each.pos}" for each in found] == [place for place in places if place]


def test_surprising_calls_have_both_labels_if_the_score_is_not_log_odds(tmp_path):
    html = full_report(tmp_path / "r.html", counts=callset_counts(key="VQSLOD"))
    table = html[html.index('id="surprising"') : html.index('id="callset"')]
    assert table.count('data-label="Truth">true') == table.count('data-label="Truth">false') == 10
    assert "Probability" not in table


def test_the_summary_says_what_passes_and_whether_the_model_knows_such_a_callset(tmp_path):
    counts = callset_counts()
    page = Page(full_report(tmp_path / "r.html"))
    summary = page.text[: page.text.index("Metrics")]
    passed = counts.records["PASS"]
    assert f"{passed} of 400 records ({passed / 400:.1%}) pass FILTER." in summary
    kept, lost = counts.outcome(1, True), counts.outcome(1, False)
    assert f"keeps {kept / (kept + lost):.1%} of the true alleles" in summary
    assert f"{kept / passed:.1%} of what it keeps is true" in summary
    assert "1 of 1 model inputs is distributed differently (INFO/DP)" in summary
    assert "No record was lost or duplicated by scoring: 7 records in, 7 records out" in summary
    assert "30 blocks took 44.5 seconds together, 1.48 on average; the slowest" in page.text
    assert "1.02 times the average work" in page.text


def test_scores_stand_side_by_side_and_callsets_before_and_after(tmp_path):
    html = full_report(tmp_path / "r.html")
    side = html[html.index("<caption>Side by side") :]
    assert "+0.200 (+0.100 to +0.300)" in side and "0.900 - 0.700" in side and '<td data-label="Difference">-<' in side
    mine = html[html.index("<caption>All records of mine") :]
    row = re.search(r">Ti/Tv</th><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>", mine)
    assert row is not None and row.groups() == ("1.250", "2.000")


def test_strata_and_groups_keep_the_order_that_readers_expect(tmp_path):
    jumbled = {"region x": {"outside": 1, "inside": 2}, "depth": {"50-99": 3, "0-9": 4}, "type": {"SNV": 5}}
    found = ordered_strata(jumbled)
    assert list(found) == ["type", "depth", "region x"] and list(found["depth"]) == ["0-9", "50-99"]
    assert found["region x"] == jumbled["region x"]
    scores = example()
    metrics = {name: evaluate_scores(scores, n_replicates=5)[name] for name in ("ALL", "INDEL", "SNP")}
    write_report(tmp_path / "r.html", ReportContents("t", metrics))
    groups = re.findall(r'data-label="Alleles">(\w+)<', (tmp_path / "r.html").read_text(encoding="utf-8"))
    assert groups[:6] == ["ALL", "ALL", "SNP", "SNP", "INDEL", "INDEL"]


def test_without_a_truth_the_page_says_so_and_shows_the_callset(tmp_path):
    contents = ReportContents("Plain", counts=callset_counts(), run=run_facts())
    summary = write_report(tmp_path / "r.html", contents)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert any("There is no truth to compare with" in sentence for sentence in summary)
    assert "Against the truth" not in page.text and "AUPRC, the area" not in page.text
    assert "CNN_2D by FILTER, all alleles" in page.text and "Indel lengths" in page.text
    # By the model's probabilities more than half of the alleles with a score of at least 0 are real, but not all.
    share = float(re.search(r"probabilities ([\d.]+)% of the", " ".join(summary))[1])
    assert 50 < share < 100


def test_the_same_input_gives_the_same_bytes_in_another_process(tmp_path):
    first = report(tmp_path / "a.html")
    assert report(tmp_path / "b.html") == first
    code = textwrap.dedent("""
        import pathlib, sys
        sys.path.insert(0, sys.argv[1])
        from tests.reports.callset.test_page import report
        report(pathlib.Path(sys.argv[2]))
    """)
    command = [sys.executable, "-c", code, str(ROOT), str(tmp_path / "c.html")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    assert (tmp_path / "c.html").read_text(encoding="utf-8") == first


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_almost_no_alleles_still_make_a_report(tmp_path, kept):
    scores = example().select(np.arange(kept))
    page = Page(report(tmp_path / "r.html", scores, None, {}))
    assert "Training" not in page.text and "About this report" not in page.text
    assert "nan" not in page.text.lower()
    assert "one of these is missing" in page.text


def test_alleles_without_scores_and_missing_scores_are_drawn_as_far_as_they_go(tmp_path):
    scores = example()
    scores.scores["CNN_2D"][::3] = np.nan
    scores.scores["QUAL"][:] = np.nan
    page = Page(report(tmp_path / "r.html", scores))
    assert page.tags.count("svg") == 3 * 2 + 1 + 1 + 2
    nothing = AlleleScores(scores.contig, scores.start, scores.variant_type, scores.label, {})
    assert "svg" not in Page(report(tmp_path / "s.html", nothing, None)).tags


def test_facts_become_tables_of_names_and_values(tmp_path):
    facts = {
        "records in": 7,
        "ok": True,
        "model": {"name": "reads", "train": {"rate": 0.001, "types": ["SNP", "INDEL"]}},
    }
    html = report(tmp_path / "r.html", facts=facts)
    tables = re.findall(r'<h3>([^<]*)</h3>\s*<table class="facts">(.*?)</table>', html, flags=re.DOTALL)
    rows = {heading: re.findall(r"<th[^>]*>(.*?)</th><td>(.*?)</td>", body) for heading, body in tables}
    assert rows == {
        "Facts": [("records in", "7"), ("ok", "yes")],
        "model": [("name", "reads"), ("train.rate", "0.001"), ("train.types", "SNP, INDEL")],
    }


def test_every_metric_has_its_name_beside_it_for_narrow_screens(tmp_path):
    html = report(tmp_path / "r.html")
    tables = re.findall(r'<table class="cards">.*?<tbody>(.*?)</tbody>', html, flags=re.DOTALL)
    assert [body.count("<tr>") for body in tables] == [6, 6]
    cells = re.findall(r"<t[dh][^>]*>", "".join(tables))
    assert cells and all("data-label=" in cell for cell in cells)


def test_a_report_that_cannot_be_written_says_so_and_leaves_the_old_one(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot be written"):
        report(tmp_path / "file" / "r.html")


def test_drawing_libraries_are_imported_only_when_a_report_is_written():
    heavy = "{'matplotlib', 'jinja2', 'pyspark', 'tensorflow'}"
    code = f"import sys, cnnspark.reports.callset.page; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
