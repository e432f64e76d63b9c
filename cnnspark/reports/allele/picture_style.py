"""Sizes, colours and the simplest strokes of a tensor's picture: texts, letters of bases, and pixels of bases.

All sizes are in pixels. Axes have their origin in the upper left corner, one unit a pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.formats.reference import GAP, LETTER_OF_CODE, OTHER
from cnnspark.tensors.schema import WINDOW

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_WIDTH = 1200
DPI = 100
COLUMNS_LEFT = 130  # where the columns begin
COLUMN_WIDTH = 8
COLUMNS_RIGHT = COLUMNS_LEFT + WINDOW * COLUMN_WIDTH
MAPQ_LEFT, MAPQ_WIDTH = COLUMNS_RIGHT + 6, 30

# IGV's colours of bases; any other letter is grey.
BASE_COLOURS = {1: "#009600", 2: "#0000ff", 3: "#d17105", 4: "#ff0000", OTHER: "#808080"}
# The same as numbers by the code of the base; white for all other codes.
BASE_RGB = np.full((GAP + 1, 3), 255.0)
for _base, _hex in BASE_COLOURS.items():
    BASE_RGB[_base] = [int(_hex[i : i + 2], 16) for i in (1, 3, 5)]
INSERTION_RGB = (239, 229, 248)  # the background of columns that an insertion opened
DELETION_RGB = (40, 40, 40)
PASSED_RGB = (170, 160, 180)  # the line of a read through a column that another read's insertion opened
FORWARD, REVERSE = "#c8553d", "#3d6cc8"
INK, GREY, FAINT = "#202020", "#505050", "#8a8a8a"
MAPQ_TRACK, MAPQ_BAD, MAPQ_POOR, MAPQ_GOOD = "#efefef", "#c0392b", "#d9a21b", "#5b8c5a"

LOW_QUALITY, HIGH_QUALITY = 5, 35
# How strongly a base is coloured at the lowest and at the highest quality.
MATCH_STRENGTH, MISMATCH_STRENGTH = (0.04, 0.17), (0.30, 1.0)


def draw_text(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Writes a text as it stands (no mathematics between dollar signs), ``size`` pixels high."""
    options: dict[str, Any] = {"color": INK, "va": "center", "ha": "left", **style}
    axes.text(x, y, text, fontsize=size * 72 / DPI, parse_math=False, **options)


def draw_letters(axes: Axes, bases: np.ndarray, chosen: np.ndarray, y: float, size: float, **style: Any) -> None:
    """Writes the letters of some columns of a row.

    Args:
        axes: The picture's.
        bases: uint8 (WINDOW,), codes of bases.
        chosen: bool (WINDOW,), the columns that get a letter.
        y: The middle of the row.
        size: The letters' height.
        style: As for :func:`draw_text`.
    """
    for column in np.flatnonzero(chosen):
        x = COLUMNS_LEFT + (column + 0.5) * COLUMN_WIDTH
        draw_text(axes, x, y, LETTER_OF_CODE[bases[column]], size, ha="center", family="DejaVu Sans Mono", **style)


def draw_pixels(axes: Axes, pixels: np.ndarray, x: int, y: int) -> None:
    """Copies pixels, uint8 (height, width, 3), one to one below everything else, their upper left corner at (x, y)."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    from_below = round(axes.get_ylim()[0]) - y - len(pixels)
    figure.figimage(pixels, xo=x, yo=from_below, origin="upper", zorder=-1)


def base_pixels(
    bases: np.ndarray, quals: np.ndarray, reference: np.ndarray, row_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of bases as pixels: mismatches and insertions strong, matches pale, both by quality; gaps as lines.

    Args:
        bases: uint8 (rows, WINDOW), codes of bases.
        quals: (rows, WINDOW), base qualities; a row without any is drawn as if all were high.
        reference: uint8 (WINDOW,), the tensor's reference row.
        row_px: The height of a row.

    Returns:
        Pixels, uint8 (rows * row_px, WINDOW * COLUMN_WIDTH, 3), and which bases are mismatched or inserted, bool
        (rows, WINDOW).
    """
    opened = reference == GAP  # (WINDOW,)
    known = (reference >= 1) & (reference <= 4)
    is_base = (bases >= 1) & (bases <= OTHER)
    differs = is_base & (opened | (known & (bases != reference) & (bases != OTHER)))
    share = np.clip((quals.astype(float) - LOW_QUALITY) / (HIGH_QUALITY - LOW_QUALITY), 0, 1)
    share[~quals.any(axis=1)] = 1.0
    low = np.where(differs, MISMATCH_STRENGTH[0], MATCH_STRENGTH[0])
    high = np.where(differs, MISMATCH_STRENGTH[1], MATCH_STRENGTH[1])
    strength = (low + share * (high - low))[..., None]
    background = np.where(opened[:, None], INSERTION_RGB, (255, 255, 255))
    colours = np.where(is_base[..., None], 255 * (1 - strength) + BASE_RGB[bases] * strength, background)
    pixels = np.repeat(np.repeat(colours, row_px, axis=0), COLUMN_WIDTH, axis=1)
    pixels = pixels.reshape(len(bases), row_px, WINDOW * COLUMN_WIDTH, 3)
    # A line of the background sets each row off from the next.
    pixels[:, -1] = np.repeat(background, COLUMN_WIDTH, axis=0)
    gap = np.repeat(bases == GAP, COLUMN_WIDTH, axis=1)
    in_opened = np.repeat(opened, COLUMN_WIDTH)
    middle = (row_px - 1) // 2
    line = np.where(gap[..., None], np.where(in_opened[:, None], PASSED_RGB, DELETION_RGB), pixels[:, middle])
    pixels[:, middle] = line
    deleted = gap & ~in_opened
    pixels[:, middle - 1] = np.where(deleted[..., None], DELETION_RGB, pixels[:, middle - 1])
    return pixels.reshape(-1, WINDOW * COLUMN_WIDTH, 3).round().astype(np.uint8), differs


def matplotlib_colour(rgb: tuple[int, int, int]) -> tuple[float, ...]:
    """A colour as matplotlib takes it, each part between 0 and 1."""
    return tuple(value / 255 for value in rgb)
