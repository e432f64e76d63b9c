"""The page of ``cnnspark explain``: one HTML file that needs nothing else.

The same explanation gives the same bytes. The template escapes names from headers and files. Drawings are inline SVG in
the page's own colours, so that they are legible on white and on black; each drawing is also described in words.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnspark.common.storage import write_text
from cnnspark.errors import UsageError
from cnnspark.reports.allele.picture_style import COLUMN_WIDTH, COLUMNS_LEFT, COLUMNS_RIGHT, PICTURE_WIDTH
from cnnspark.reports.html_template import render

# Rows that are open at first; the other inputs are folded away, the other reads left out.
SHOWN_INPUTS, SHOWN_READS = 15, 10
# Rounding moves a score by less.
NOTHING = 1e-4
_BAR_WIDTH, _STRIP_WIDTH, _HEIGHT = 120, 150, 14
_CHART_HEIGHT = 70


def write_page(out: str, found: Mapping[str, Any], picture: bytes) -> None:
    """Writes the page of an explanation.

    Args:
        out: The HTML file to write.
        found: The values that :func:`cnnspark.stages.explain.explain` returns.
        picture: The tensor's picture, a PNG.

    Raises:
        UsageError: If the page cannot be written.
    """
    changes = [abs(each["change"]) for each in found["effects"]]
    one_by_one = sorted(found["reads_one_by_one"], key=lambda each: -abs(each["change"]))
    page = render(
        "explanation.html",
        found=found,
        title=f"{found['contig']}:{found['pos']:,} {_short(found['ref'])} > {_short(found['alt'])}",
        picture=base64.b64encode(picture).decode("ascii"),
        picture_words=_picture_words(found),
        chart=(chart := _column_chart(found["columns"])),
        columns_say_nothing=bool(found["columns"]) and not chart,
        effects=[(each, _bar(each["change"], max(changes, default=0.0))) for each in found["effects"]],
        reads=[(each, _bar(each["change"], abs(one_by_one[0]["change"]))) for each in one_by_one[:SHOWN_READS]],
        inputs=[(row, _strip(row), _input_words(row)) for row in found["inputs"]],
        shown_inputs=SHOWN_INPUTS,
        number=_number,
    )
    try:
        write_text(Path(out), page)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); choose another --out") from None


def _short(allele: str) -> str:
    return allele if len(allele) <= 26 else f"{allele[:22]}… ({len(allele)} bases)"


def _number(value: float | None) -> str:
    """A value of an input, with four significant digits; or "missing"."""
    return "missing" if value is None else f"{value:.4g}"


def _picture_words(found: Mapping[str, Any]) -> str:
    support = found["support"]
    return (
        f"The reads over {found['contig']}:{found['pos']} as the tensor has them, 128 columns: {support['alt']} "
        f"support the ALT, {support['ref']} REF, {support['other_alt']} another ALT, {support['neither']} neither"
    )


def _input_words(row: Mapping[str, Any]) -> str:
    """A value compared with the training values, in words."""
    if row["why"]:
        return row["why"]
    for end in ("minimum", "maximum"):
        if row["value"] == row[end]:
            return f"the {'lowest' if end == 'minimum' else 'highest'} training value"
    return f"above about {row['quantile']:.0%} of the training values"


def _bar(change: float, greatest: float) -> str:
    """A bar from the middle: to the right if the part supports the allele, to the left if it speaks against it."""
    half = _BAR_WIDTH / 2
    width = 0.0 if greatest == 0 else abs(change) / greatest * (half - 2)
    left = half if change >= 0 else half - width
    kind = "for" if change >= 0 else "against"
    return (
        f'<svg class="bar" viewBox="0 0 {_BAR_WIDTH} {_HEIGHT}" width="{_BAR_WIDTH}" height="{_HEIGHT}" '
        f'aria-hidden="true"><rect class="{kind}" x="{left:.1f}" y="2" width="{width:.1f}" height="{_HEIGHT - 4}"/>'
        f'<line x1="{half}" y1="0" x2="{half}" y2="{_HEIGHT}"/></svg>'
    )


def _strip(row: Mapping[str, Any]) -> str:
    """The training's bins, each as wide as its share of the values, with a mark at this value."""
    if row["quantile"] is None or not row["shares"]:
        return ""
    margin, inside = 8.0, _STRIP_WIDTH - 16.0
    x, bins = margin, []
    for i, share in enumerate(row["shares"]):
        width = share * inside
        bins.append(f'<rect class="bin{i % 2}" x="{x:.1f}" y="4" width="{width:.1f}" height="{_HEIGHT - 8}"/>')
        x += width
    mark = margin + row["quantile"] * inside
    if row["verdict"] == "outside":
        mark = 3.0 if row["quantile"] == 0 else _STRIP_WIDTH - 3.0
    return (
        f'<svg class="strip" viewBox="0 0 {_STRIP_WIDTH} {_HEIGHT}" width="{_STRIP_WIDTH}" height="{_HEIGHT}" '
        f'aria-hidden="true">{"".join(bins)}<rect class="{row["verdict"]}" x="{mark - 1.5:.1f}" y="0" width="3" '
        f'height="{_HEIGHT}"/></svg>'
    )


def _column_chart(columns: Sequence[Mapping[str, Any]]) -> str:
    """A chart for below the picture: how much the score drops when each stretch of columns is hidden."""
    greatest = max((abs(each["change"]) for each in columns), default=0.0)
    if greatest < NOTHING:
        return ""
    middle, half = _CHART_HEIGHT / 2, _CHART_HEIGHT / 2 - 14
    drawn = []
    for each in columns:
        first, last = each["columns"]
        height = abs(each["change"]) / greatest * half
        y = middle - height if each["change"] >= 0 else middle
        x, width = COLUMNS_LEFT + first * COLUMN_WIDTH, (last - first) * COLUMN_WIDTH - 2
        text_y = y - 3 if each["change"] >= 0 else y + height + 11
        drawn.append(
            f'<rect class="{"for" if each["change"] >= 0 else "against"}" x="{x}" y="{y:.1f}" width="{width}" '
            f'height="{max(height, 0.5):.1f}"/><text x="{x + width / 2}" y="{text_y:.1f}" text-anchor="middle">'
            f"{each['change']:+.2f}</text>"
        )
    words = ", ".join(f"{each['from']} to {each['to']} {each['change']:+.2f}" for each in columns)
    return (
        f'<svg class="columns" viewBox="0 0 {PICTURE_WIDTH} {_CHART_HEIGHT}" role="img" aria-label="How much the '
        f'score drops when these positions are hidden: {words}"><text x="{COLUMNS_LEFT - 8}" y="{middle + 4}" '
        f'text-anchor="end">hidden</text><line x1="{COLUMNS_LEFT}" y1="{middle}" x2="{COLUMNS_RIGHT}" y2="{middle}"/>'
        f"{''.join(drawn)}</svg>"
    )
