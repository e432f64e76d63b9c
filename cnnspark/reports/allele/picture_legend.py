"""The legend below a tensor's picture: two lines of samples and a sentence."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle

from cnnspark.formats.reference import LETTER_OF_CODE
from cnnspark.reports.allele.picture_style import (
    BASE_COLOURS,
    BASE_RGB,
    DELETION_RGB,
    FORWARD,
    HIGH_QUALITY,
    INSERTION_RGB,
    LOW_QUALITY,
    MAPQ_BAD,
    MAPQ_GOOD,
    MAPQ_POOR,
    MAPQ_TRACK,
    MAPQ_WIDTH,
    MATCH_STRENGTH,
    MISMATCH_STRENGTH,
    PASSED_RGB,
    PICTURE_WIDTH,
    REVERSE,
    draw_pixels,
    draw_text,
    matplotlib_colour,
)

LEGEND_HEIGHT = 84
_SUPPORT = (
    "A read supports the allele whose sequence it shows over the allele and the repeat around it; neither: it does not "
    "span them, or fits no allele."
)


def draw_legend(axes: Axes, y: float) -> None:
    """Draws the legend, the middle of its first line at height ``y``."""
    axes.plot([10, PICTURE_WIDTH - 10], [y - 14, y - 14], color="#d8d8d8", linewidth=0.8)
    _draw_bases(axes, y)
    _draw_reads(axes, y + 22)
    draw_text(axes, 10, y + 44, _SUPPORT, 10)


def _draw_bases(axes: Axes, y: float) -> None:
    """How bases are coloured, deletions, and columns that an insertion opened."""
    x = 10.0
    draw_text(axes, x, y, "mismatch", 10)
    x += 54
    for code in (1, 2, 3, 4):
        axes.add_patch(Rectangle((x, y - 6), 12, 12, facecolor=BASE_COLOURS[code], linewidth=0))
        draw_text(axes, x + 6, y, LETTER_OF_CODE[code], 9.5, ha="center", color="white", weight="bold")
        x += 14
    x += 12
    draw_text(axes, x, y, "match", 10)
    x += 38
    for code in (1, 2, 3, 4):
        colour = 1 - MATCH_STRENGTH[1] * (1 - BASE_RGB[code] / 255)
        axes.add_patch(Rectangle((x, y - 6), 12, 12, facecolor=tuple(colour), linewidth=0))
        draw_text(axes, x + 6, y, LETTER_OF_CODE[code], 9.5, ha="center")
        x += 14
    x += 16
    draw_text(axes, x, y, f"base quality {LOW_QUALITY}", 10)
    x += 84
    steps = np.linspace(0, 1, 60)[None, :, None] * np.ones((12, 1, 1))
    strength = MISMATCH_STRENGTH[0] + steps * (MISMATCH_STRENGTH[1] - MISMATCH_STRENGTH[0])
    draw_pixels(axes, (255 * (1 - strength) + BASE_RGB[4] * strength).round().astype(np.uint8), int(x), int(y - 6))
    x += 65
    draw_text(axes, x, y, f"{HIGH_QUALITY}", 10)
    x += 34
    axes.plot([x, x + 26], [y, y], color=matplotlib_colour(DELETION_RGB), linewidth=1.5)
    draw_text(axes, x + 32, y, "deleted in the read", 10)
    x += 150
    axes.add_patch(Rectangle((x, y - 7), 26, 14, facecolor=matplotlib_colour(INSERTION_RGB), linewidth=0))
    axes.plot([x, x + 26], [y, y], color=matplotlib_colour(PASSED_RGB), linewidth=0.8)
    draw_text(axes, x + 32, y, "column opened by an insertion (line: the read has none)", 10)


def _draw_reads(axes: Axes, y: float) -> None:
    """Strands, mapping qualities, and what is marked in the columns."""
    x = 10.0
    for name, colour, sign in (("forward", FORWARD, 1), ("reverse", REVERSE, -1)):
        centre = x + 5
        triangle = [(centre - 4 * sign, y - 5), (centre + 4 * sign, y), (centre - 4 * sign, y + 5)]
        axes.add_collection(PolyCollection([triangle], facecolors=colour))
        draw_text(axes, x + 15, y, name, 10)
        x += 68
    x += 10
    draw_text(axes, x, y, "MAPQ (right)", 10)
    x += 76
    for label, share, colour in (("0", 0.07, MAPQ_BAD), ("20", 0.33, MAPQ_POOR), ("60", 1.0, MAPQ_GOOD)):
        axes.add_patch(Rectangle((x, y - 5), MAPQ_WIDTH, 10, facecolor=MAPQ_TRACK, linewidth=0))
        axes.add_patch(Rectangle((x, y - 5), MAPQ_WIDTH * share, 10, facecolor=colour, linewidth=0))
        draw_text(axes, x + MAPQ_WIDTH + 4, y, label, 10)
        x += MAPQ_WIDTH + 26
    x += 10
    axes.add_patch(Rectangle((x, y - 6), 16, 12, fill=False, edgecolor="black", linewidth=0.9))
    draw_text(axes, x + 22, y, "where ALT differs from REF", 10)
    x += 176
    triangle = [(x - 4, y - 4), (x + 4, y - 4), (x, y + 3)]
    axes.add_collection(PolyCollection([triangle], facecolors="black"))
    draw_text(axes, x + 9, y, "POS, the first base of REF", 10)
