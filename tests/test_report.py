"""The report as a browser and a careful reader would take it: well-formed, self-contained, escaped, repeatable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cnnspark.errors import RunError
from cnnspark.metrics import AlleleScores, evaluate
from cnnspark.report import write_report

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


def example(names=("CNN_2D", "QUAL"), n=300) -> AlleleScores:
    rng = np.random.default_rng(4)
    label = rng.integers(-1, 2, n)
    values = {name: label * (2.0 - i) + rng.normal(size=n) for i, name in enumerate(names)}
    return AlleleScores(np.full(n, "chr1"), rng.integers(0, 1_000_000, n), rng.integers(0, 5, n), label, values)


def report(path: Path, scores=None, history=HISTORY, facts=None, title="Evaluation", **how) -> str:
    scores = example() if scores is None else scores
    metrics = evaluate(scores, baseline="QUAL", n_replicates=20)
    write_report(path, title, metrics, scores, history, {"records": 12_345} if facts is None else facts, **how)
    return path.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_says_the_findings_first(tmp_path):
    scores = example()
    html = report(tmp_path / "deep" / "er" / "r.html", scores)
    page = Page(html)
    assert page.tags.count("svg") == 3 * 2 + 2 + 2  # two curves per group, a histogram per score, two of training
    assert page.tags.count("figure") == page.tags.count("figcaption") == page.tags.count("svg")
    values = evaluate(scores, baseline="QUAL", n_replicates=20)["ALL"]
    summary = page.text[: page.text.index("Metrics")]
    assert "300 ALT alleles" in summary and f"{values['CNN_2D']['n_true']} true" in summary
    assert f"CNN_2D has an AUPRC of {values['CNN_2D']['auprc']:.3f} (95% interval" in summary
    assert f"QUAL has {values['QUAL']['auprc']:.3f}" in summary
    assert f"CNN_2D keeps {values['CNN_2D']['recall_at_precision_0.90']:.1%} of the true alleles" in summary
    assert "The best AUPRC on the validation data is 0.800, at epoch 3." in page.text
    assert "12,345" in page.text
    assert not (tmp_path / "deep" / "er" / ".r.html.unfinished").exists()


def test_every_drawing_is_valid_svg_with_a_text_for_those_who_cannot_see_it(tmp_path):
    html = report(tmp_path / "r.html")
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
    html = report(tmp_path / "r.html")
    page = Page(html)
    assert all(link.startswith("#") for link in page.links)
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
    html = report(tmp_path / "r.html", scores, history, facts, title=evil)
    page = Page(html)  # checks that no attribute begins with "on"
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count(evil) >= 5 and quote in page.text
    for drawing in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ElementTree.fromstring(drawing)


def test_the_same_input_gives_the_same_bytes_in_another_process(tmp_path):
    first = report(tmp_path / "a.html")
    assert report(tmp_path / "b.html") == first
    code = textwrap.dedent("""
        import pathlib, sys
        sys.path.insert(0, sys.argv[1])
        from test_report import report
        report(pathlib.Path(sys.argv[2]))
    """)
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "c.html")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    assert (tmp_path / "c.html").read_text(encoding="utf-8") == first


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_next_to_nothing_still_makes_a_report(tmp_path, kept):
    scores = example().select(np.arange(kept))
    page = Page(report(tmp_path / "r.html", scores, None, {}))
    assert "Training" not in page.text and "About this run" not in page.text
    assert "nan" not in page.text.lower()
    assert "one of them is lacking" in page.text


def test_alleles_without_scores_and_missing_scores_are_drawn_as_far_as_they_go(tmp_path):
    scores = example()
    scores.scores["CNN_2D"][::3] = np.nan
    scores.scores["QUAL"][:] = np.nan
    page = Page(report(tmp_path / "r.html", scores))
    assert page.tags.count("svg") == 3 * 2 + 1 + 2
    nothing = AlleleScores(scores.contig, scores.start, scores.variant_type, scores.label, {})
    assert "svg" not in Page(report(tmp_path / "s.html", nothing, None)).tags


def test_facts_become_tables_of_names_and_values(tmp_path):
    facts = {
        "records in": 7,
        "ok": True,
        "model": {"name": "reads", "train": {"rate": 0.001, "types": ["SNP", "INDEL"]}},
    }
    html = report(tmp_path / "r.html", facts=facts)
    tables = re.findall(r'<h3>(.*?)</h3>\s*<table class="facts">(.*?)</table>', html, flags=re.DOTALL)
    rows = {heading: re.findall(r"<th[^>]*>(.*?)</th><td>(.*?)</td>", body) for heading, body in tables}
    assert rows == {
        "Facts": [("records in", "7"), ("ok", "yes")],
        "model": [("name", "reads"), ("train.rate", "0.001"), ("train.types", "SNP, INDEL")],
    }


def test_every_metric_has_its_name_beside_it_for_narrow_screens(tmp_path):
    html = report(tmp_path / "r.html")
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    assert body.count("<tr>") == 6
    cells = re.findall(r"<t[dh][^>]*>", body)
    assert cells and all("data-label=" in cell for cell in cells)


def test_a_report_that_cannot_be_written_says_so_and_leaves_the_old_one(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot be written"):
        report(tmp_path / "file" / "r.html")


def test_drawing_libraries_are_imported_only_when_a_report_is_written():
    heavy = "{'matplotlib', 'jinja2', 'pyspark', 'tensorflow'}"
    code = f"import sys, cnnspark.report; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
