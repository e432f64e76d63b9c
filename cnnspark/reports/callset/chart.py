"""The look of the report's drawings: an inline SVG, a caption and a description for readers who cannot see it.

The same input gives the same bytes. Text stays text and has the page's own colour. The colours are distinct for the
colour-blind, and lines also differ by their dashes. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import markupsafe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stands for "the colour of the page's text" while matplotlib draws; becomes currentColor, which dark mode changes.
INK = "#123456"
# Distinct for the colour-blind, legible on white and on black (Okabe and Ito's, blue and green lightened).
COLOURS = ("#2f86c9", "#e08a1e", "#1fa67a", "#cc79a7", "#8f6fd1", "#b5a21b")
_DASHES = ("-", "--", "-.", ":")
GOOD, BAD = COLOURS[0], COLOURS[1]
_WIDTH_INCHES, _HEIGHT_INCHES = 4.4, 3.4


@dataclass(frozen=True)
class Drawing:
    """An inline SVG with its caption. The SVG's label describes what it shows."""

    caption: str
    svg: str


def drawing() -> AbstractContextManager[None]:
    """A context with matplotlib's settings for the report."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.hashsalt": "cnnspark",
            "svg.fonttype": "none",  # text stays text: small, selectable, in the page's own letters
            "text.parse_math": False,  # a '$' in a score's name is a '$'
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "hatch.linewidth": 0.6,
            "savefig.transparent": True,
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
            ),
        }
    )


def new_axes(x_label: str, y_label: str, height_inches: float = _HEIGHT_INCHES) -> tuple[Figure, Axes]:
    """A new figure, as wide as all others, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an inline SVG without a fixed size; ids begin with ``name``, ``alt`` describes it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # Drawings on one page must not share ids.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = svg.replace(INK, "currentColor")
    head = re.match(r"<svg[^>]*>", svg)
    assert head is not None
    box = re.search(r'viewBox="[^"]*"', head[0])
    assert box is not None
    label = str(markupsafe.escape(alt))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box[0]} role="img" aria-label="{label}"><title>{label}</title>'
        + svg[head.end() :]
    )


def finished(figure: Figure, name: str, caption: str, said: str) -> Drawing:
    """The drawing of a figure; its ids begin with ``name``, ``said`` describes what it shows."""
    return Drawing(caption, _svg(figure, name, f"{caption}: {said}"))


def line_style(i: int) -> dict[str, Any]:
    """Colour and dashes of the ``i``-th line."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.8}


def thousands(axis: Any) -> None:
    """Labels an axis with whole numbers like 12,000."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def shortened(text: str, longest: int) -> str:
    """The text, cut to ``longest`` letters with an ellipsis if it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
