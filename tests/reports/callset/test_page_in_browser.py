"""The report in headless Chromium: an empty console, every picture visible, no sideways scrolling."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.reports.callset.test_page import full_report

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The page is loaded unchanged, with its security policy, into a frame; the document around the frame measures it.
FRAME = """<!doctype html><html><body style="margin:0">
<iframe id="page" src="PAGE" style="border:0;width:WIDTHpx;height:900px"></iframe>
<pre id="found"></pre>
<script>
document.getElementById("page").addEventListener("load", (event) => {
  const view = event.target.contentWindow, page = view.document;
  const drawn = [...page.querySelectorAll("svg")].map((svg) => {
    const box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim());
    return {width: box.width, height: box.height, left: box.left, right: box.right,
            smallest: Math.min(...texts.map((text) => text.getBoundingClientRect().height))};
  });
  const style = view.getComputedStyle(page.body);
  const skip = page.querySelector(".skip");
  skip.focus();
  const focused = skip.getBoundingClientRect();
  document.getElementById("found").textContent = JSON.stringify({
    scroll: page.documentElement.scrollWidth, client: page.documentElement.clientWidth, drawn: drawn,
    ink: style.color, paper: style.backgroundColor, skip: [focused.left, focused.width],
    focusable: page.querySelectorAll("a[href], summary").length,
  });
});
</script></body></html>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if CHROMIUM is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    path = tmp_path_factory.mktemp("report") / "report.html"
    long = "a_filter_" * 30
    full_report(path, facts={long: long}, title=f"Report {long}")
    return path


def looked_at(page: Path, tmp_path: Path, width: int, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """What the frame found of the page at a width in pixels, and the console's lines."""
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("PAGE", page.as_uri()).replace("WIDTH", str(width)))
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--allow-file-access-from-files", "--enable-logging=stderr", f"--window-size={max(500, width)},900", *flags,
        "--virtual-time-budget=10000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found and found[1], done.stderr[-2000:]
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [1280, 400])
def test_all_is_visible_and_nothing_scrolls_sideways(page: Path, tmp_path: Path, width: int) -> None:
    found, console = looked_at(page, tmp_path, width)
    assert console == []
    assert found["scroll"] <= found["client"] <= width
    assert len(found["drawn"]) == page.read_text(encoding="utf-8").count("<svg")
    for svg in found["drawn"]:
        assert svg["width"] > 250 and svg["height"] > 60
        assert svg["left"] >= 0 and svg["right"] <= width
        assert svg["smallest"] >= 8  # pixels, of the smallest letters
    # The link that skips to the report is off the page until it has the focus.
    assert found["skip"][0] >= 0 and found["skip"][1] > 50
    assert found["focusable"] > 20


def test_a_console_error_would_be_seen(page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    broken.write_text(text.replace("</main>", "<script>missing()</script></main>"), encoding="utf-8")
    assert looked_at(broken, tmp_path, 1280)[1]


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2.1)."""
    parts = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_is_dark_if_wanted_and_always_legible(page: Path, tmp_path: Path) -> None:
    light, _ = looked_at(page, tmp_path, 1280)
    dark, console = looked_at(page, tmp_path, 1280, "--force-dark-mode")
    assert console == []
    assert luminance(light["paper"]) > 0.9 and luminance(dark["paper"]) < 0.05
    for found in (light, dark):
        low, high = sorted((luminance(found["ink"]), luminance(found["paper"])))
        assert (high + 0.05) / (low + 0.05) > 7  # WCAG's AAA


def test_it_prints(page: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        f"--print-to-pdf={target}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert target.read_bytes().startswith(b"%PDF") and target.stat().st_size > 50_000
