"""The tracks of a tensor's picture, from top to bottom: ruler, coverage, reference and alternate, groups of reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle

from cnnspark.formats.reference import GAP, NOTHING, OTHER
from cnnspark.reports.allele.picture_style import (
    BASE_RGB,
    COLUMN_WIDTH,
    COLUMNS_LEFT,
    COLUMNS_RIGHT,
    FAINT,
    FORWARD,
    GREY,
    HIGH_QUALITY,
    INSERTION_RGB,
    LOW_QUALITY,
    MAPQ_BAD,
    MAPQ_GOOD,
    MAPQ_LEFT,
    MAPQ_POOR,
    MAPQ_TRACK,
    MAPQ_WIDTH,
    REVERSE,
    base_pixels,
    draw_letters,
    draw_pixels,
    draw_text,
)
from cnnspark.reports.allele.tensor_columns import column_positions
from cnnspark.tensors.schema import REF_COLUMN, WINDOW

COVERAGE_HEIGHT = 44
SEQUENCE_ROW = 15
_LETTER_ROW = 10  # the lowest row that has room for letters
_COVERAGE_RGB = (196, 196, 196)
_MAPQ_FULL = 60  # the mapping quality of a full bar
_UNKNOWN_MAPQ = 255
_REVERSE_FLAG = 0x10

# The fields of one allele's tensor by name.
Example = dict[str, np.ndarray]


@dataclass(frozen=True)
class ReadGroup:
    """The reads with one support: its code in the tensor, and the group's label with its colour."""

    support: int
    name: str
    colour: str


def draw_ruler(axes: Axes, reference: np.ndarray, start: int) -> None:
    """Draws a tick at every tenth position, a number at every twentieth, and a triangle at POS.

    ``reference`` and ``start`` are as for :func:`cnnspark.reports.allele.tensor_columns.column_positions`.
    """
    positions = column_positions(reference, start)
    y = 61
    for column in range(WINDOW):
        position = positions[column] + 1
        if reference[column] in (GAP, NOTHING) or position % 10:
            continue
        x = COLUMNS_LEFT + (column + 0.5) * COLUMN_WIDTH
        labelled = position % 20 == 0
        axes.plot([x, x], [y - (6 if labelled else 3), y], color=FAINT, linewidth=0.8)
        if labelled:
            draw_text(axes, x, y - 12, f"{position:,}", 9.5, ha="center", color=GREY)
    axes.plot([COLUMNS_LEFT, COLUMNS_RIGHT], [y, y], color=FAINT, linewidth=0.8)
    x = COLUMNS_LEFT + (REF_COLUMN + 0.5) * COLUMN_WIDTH
    axes.add_collection(PolyCollection([[(x - 4, y - 6), (x + 4, y - 6), (x, y + 1)]], facecolors="black"))


def draw_coverage(axes: Axes, example: Example, y: int) -> None:
    """Draws the number of bases in each column: differing ones in their colours from below, the others grey."""
    bases, reference = example["read_bases"], example["reference"]
    opened = reference == GAP
    counts = np.stack([(bases == code).sum(axis=0) for code in range(1, OTHER + 1)])  # (5, WINDOW)
    highest = max(1, int(counts[:, ~opened].sum(axis=0).max(initial=0)))
    pixels = np.full((COVERAGE_HEIGHT, WINDOW * COLUMN_WIDTH, 3), 255, np.uint8)
    for column in range(WINDOW):
        x = slice(column * COLUMN_WIDTH, (column + 1) * COLUMN_WIDTH - 1)
        if opened[column]:
            pixels[:, column * COLUMN_WIDTH : (column + 1) * COLUMN_WIDTH] = INSERTION_RGB
        done = 0
        same = 0
        for code in range(1, OTHER + 1):
            count = int(counts[code - 1, column])
            if not opened[column] and (code == reference[column] or code == OTHER or not 1 <= reference[column] <= 4):
                same += count
                continue
            fill = slice(_bar_end(done + count, highest), _bar_end(done, highest))
            pixels[fill, x] = BASE_RGB[code]
            done += count
        pixels[_bar_end(done + same, highest) : _bar_end(done, highest), x] = _COVERAGE_RGB
    draw_pixels(axes, pixels, COLUMNS_LEFT, y)
    draw_text(axes, COLUMNS_LEFT - 20, y + COVERAGE_HEIGHT / 2, "coverage", 11, ha="right")
    draw_text(axes, COLUMNS_RIGHT + 6, y + 5, f"{highest}", 9.5, color=GREY)
    draw_text(axes, COLUMNS_RIGHT + 6, y + COVERAGE_HEIGHT - 4, "0", 9.5, color=GREY)


def _bar_end(count: int, highest: int) -> int:
    """The pixel row at which a bar of this many bases ends."""
    return COVERAGE_HEIGHT - round(COVERAGE_HEIGHT * count / highest)


def draw_sequences(axes: Axes, reference: np.ndarray, alternate: np.ndarray, y: int) -> None:
    """Draws the letters of the tensor's reference and alternate, both uint8 (WINDOW,)."""
    good = np.full((1, WINDOW), HIGH_QUALITY)
    rows: Sequence[tuple[str, np.ndarray]] = (("reference", reference), ("alternate", alternate))
    for name, row in rows:
        pixels, _ = base_pixels(row[None], good, reference, SEQUENCE_ROW)
        draw_pixels(axes, pixels, COLUMNS_LEFT, y)
        differs = row != reference
        shown = (row >= 1) & (row <= OTHER)
        draw_letters(axes, row, shown & ~differs, y + SEQUENCE_ROW / 2, 11)
        draw_letters(axes, row, shown & differs, y + SEQUENCE_ROW / 2, 11, color="white", weight="bold")
        draw_text(axes, COLUMNS_LEFT - 20, y + SEQUENCE_ROW / 2, name, 11, ha="right")
        y += SEQUENCE_ROW + 2
    draw_text(axes, MAPQ_LEFT, y - SEQUENCE_ROW / 2 - 2, "MAPQ", 10)


def draw_reads(axes: Axes, example: Example, rows: np.ndarray, group: ReadGroup, y: int, row_px: int) -> None:
    """Draws the reads of one support: bases, strand arrows, mapping qualities and label.

    Args:
        axes: The picture's.
        example: The allele's tensor.
        rows: int64 (reads,), the rows of these reads in the tensor.
        group: The support.
        y: The upper edge of the first read.
        row_px: The height of a read.
    """
    bases, quals = example["read_bases"][rows], example["read_quals"][rows]
    pixels, differs = base_pixels(bases, quals, example["reference"], row_px)
    draw_pixels(axes, pixels, COLUMNS_LEFT, y)
    if row_px >= _LETTER_ROW:
        for i in range(len(rows)):
            strong = quals[i] >= (LOW_QUALITY + HIGH_QUALITY) / 2 if quals[i].any() else np.ones(WINDOW, bool)
            centre = y + (i + 0.5) * row_px - 0.5
            draw_letters(axes, bases[i], differs[i] & strong, centre, row_px - 2, color="white", weight="bold")
            draw_letters(axes, bases[i], differs[i] & ~strong, centre, row_px - 2, color="black")
    forward = example["read_flags"][rows] & _REVERSE_FLAG == 0
    centres = y + (np.arange(len(rows)) + 0.5) * row_px - 0.5
    _draw_strands(axes, forward, centres, row_px)
    axes.add_patch(Rectangle((COLUMNS_LEFT - 18, y), 3, len(rows) * row_px - 1, color=group.colour, linewidth=0))
    mapqs = example["read_mapqs"][rows].astype(int)
    _draw_mapping_qualities(axes, mapqs, centres, row_px)

    right = COLUMNS_LEFT - 24
    draw_text(axes, right, y + 7, group.name, 11.5, ha="right", weight="bold", color=group.colour)
    noun = "read" if len(rows) == 1 else "reads"
    draw_text(axes, right, y + 20, f"{len(rows)} {noun}, {int(forward.sum())} fwd", 9.5, ha="right")
    known = mapqs[mapqs != _UNKNOWN_MAPQ]
    median = f"{np.median(known):.0f}" if len(known) else "unknown"
    draw_text(axes, right, y + 32, f"median MAPQ {median}", 9.5, ha="right", color=GREY)


def _draw_strands(axes: Axes, forward: np.ndarray, centres: np.ndarray, row_px: int) -> None:
    """An arrow left of each read, in the direction of its strand."""
    half = (row_px - 2) / 2
    near, far = COLUMNS_LEFT - 4, COLUMNS_LEFT - 12
    arrows = [
        [(far, c - half), (near, c), (far, c + half)] if is_forward else [(near, c - half), (far, c), (near, c + half)]
        for c, is_forward in zip(centres, forward, strict=True)
    ]
    axes.add_collection(PolyCollection(arrows, facecolors=[FORWARD if f else REVERSE for f in forward]))


def _draw_mapping_qualities(axes: Axes, mapqs: np.ndarray, centres: np.ndarray, row_px: int) -> None:
    """A bar right of each read, or a question mark if its mapping quality is unknown."""
    half = (row_px - 2) / 2
    for centre, mapq in zip(centres, mapqs, strict=True):
        if mapq == _UNKNOWN_MAPQ:
            draw_text(axes, MAPQ_LEFT, centre, "?", min(10, row_px), color=FAINT)
            continue
        place = (MAPQ_LEFT, centre - half)
        axes.add_patch(Rectangle(place, MAPQ_WIDTH, row_px - 2, facecolor=MAPQ_TRACK, linewidth=0))
        # A thin red bar at 0: such a read fits other places as well.
        colour = MAPQ_BAD if mapq < 10 else MAPQ_POOR if mapq < 30 else MAPQ_GOOD
        width = max(2.0, MAPQ_WIDTH * min(mapq, _MAPQ_FULL) / _MAPQ_FULL)
        axes.add_patch(Rectangle(place, width, row_px - 2, facecolor=colour, linewidth=0))
