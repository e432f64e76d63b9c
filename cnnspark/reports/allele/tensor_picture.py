"""An allele's tensor as a picture that a geneticist understands at a glance: laid out like a genome browser.

From top to bottom a ruler, the coverage, the reference, the alternate sequence and the reads, grouped by what they
support; in the margins strand and mapping quality. Everything is taken from the tensor, nothing from the files it was
built of: the picture shows what the network sees. All sizes are in pixels.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnspark.common.log import listed
from cnnspark.errors import UsageError
from cnnspark.formats.reference import GAP, LETTER_OF_CODE, NOTHING, OTHER
from cnnspark.tensors.schema import NEITHER, REF_COLUMN, SUPPORTS_ALT, SUPPORTS_OTHER, SUPPORTS_REF, WINDOW, TensorBatch
from cnnspark.variants.alleles import VariantType, trim

PICTURE_WIDTH = 1200
COLUMNS_LEFT = 130  # where the columns begin
COLUMN_WIDTH = 8  # 128 of them
_DPI = 100
_CELL, _LEFT = COLUMN_WIDTH, COLUMNS_LEFT
_RIGHT = _LEFT + WINDOW * _CELL
_MAPQ_LEFT, _MAPQ_WIDTH, _MAPQ_FULL = _RIGHT + 6, 30, 60
_ROW_MIN, _ROW_MAX, _ROWS_HEIGHT = 6, 13, 860
_LETTER_ROW = 10  # the lowest row that has room for letters
_SEQUENCE_ROW = 15
_COVERAGE_HEIGHT = 44
_GROUP_GAP = 9
_LABEL_HEIGHT = 40  # of a group's label, which its rows may fall short of
_LEGEND_HEIGHT = 84
_SHORT = 6  # letters of an allele that a label has room for

# IGV's colours of bases; any other letter is grey.
_BASE_COLOURS = {1: "#009600", 2: "#0000ff", 3: "#d17105", 4: "#ff0000", OTHER: "#808080"}
_RGB = np.full((GAP + 1, 3), 255.0)

_SUPPORT = {"alt": SUPPORTS_ALT, "ref": SUPPORTS_REF, "other_alt": SUPPORTS_OTHER, "neither": NEITHER}
for _base, _hex in _BASE_COLOURS.items():
    _RGB[_base] = [int(_hex[i : i + 2], 16) for i in (1, 3, 5)]
_INSERTION, _INSERTION_TINT = "#7b3fb5", (239, 229, 248)
_DELETION_RGB, _PASSED_RGB, _COVER_RGB = (40, 40, 40), (170, 160, 180), (196, 196, 196)
_FORWARD, _REVERSE = "#c8553d", "#3d6cc8"
_INK, _FAINT = "#202020", "#8a8a8a"
# How strongly a base is coloured at the lowest and at the highest quality.
_MATCH_STRENGTH, _MISMATCH_STRENGTH = (0.04, 0.17), (0.30, 1.0)
_LOW_QUALITY, _HIGH_QUALITY = 5, 35


@dataclass(frozen=True)
class _Group:
    """Reads of one support, from top to bottom in this order; ``name`` is what the label says."""

    support: int
    name: str
    colour: str


def show_tensor(tensors: TensorBatch, index: int, out_png: str | Path, title: str = "", subtitle: str = "") -> None:
    """Draws the tensor of allele ``index`` to a PNG, 1,200 pixels wide and as high as its reads need.

    The same tensor and titles give the same bytes (with one version of matplotlib). Raises UsageError where the
    picture cannot be written.
    """
    example = tensors.example(index)
    key = tensors.keys[index]
    groups = (
        _Group(SUPPORTS_ALT, f"ALT {_change(key.ref, key.alt)}", "#b2182b"),
        _Group(SUPPORTS_REF, f"REF {key.ref if len(key.ref) <= _SHORT else ''}", "#3a3a3a"),
        _Group(SUPPORTS_OTHER, "other ALT", "#c77714"),
        _Group(NEITHER, "neither", "#8a8a8a"),
    )
    title = title or f"{key.contig}:{key.start + 1:,} {key.ref[:40]} > {key.alt[:40]}"
    rows = [np.flatnonzero(example["read_support"] == group.support) for group in groups]
    row_px = int(np.clip(_ROWS_HEIGHT // max(1, len(example["read_bases"])), _ROW_MIN, _ROW_MAX))
    top = 66 + _COVERAGE_HEIGHT + 10 + 2 * (_SEQUENCE_ROW + 2) + 8
    heights = [max(len(r) * row_px, _LABEL_HEIGHT) + _GROUP_GAP if len(r) else 0 for r in rows]
    height = top + max(sum(heights), 40) + _LEGEND_HEIGHT

    # A user's own matplotlibrc must not change the picture.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(PICTURE_WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, PICTURE_WIDTH)
        axes.set_ylim(height, 0)
        axes.axis("off")
        _text(axes, 10, 17, title, 16, weight="bold")
        _text(axes, 10, 36, subtitle, 11, color="#505050")
        _draw_ruler(axes, example["reference"], key.start)
        _draw_coverage(axes, example, 66)
        _draw_sequences(axes, example["reference"], example["alternate"], 66 + _COVERAGE_HEIGHT + 10)
        y = top
        for group, chosen, taken in zip(groups, rows, heights, strict=True):
            if len(chosen):
                _draw_group(axes, example, chosen, group, y, row_px)
            y += taken
        if not len(example["read_bases"]):
            _text(axes, (_LEFT + _RIGHT) / 2, top + 18, "no usable read overlaps REF", 12, color=_FAINT, ha="center")
        first, last = allele_columns(example["reference"], example["alternate"])
        outline = Rectangle(
            (_LEFT + first * _CELL - 0.5, 66 + _COVERAGE_HEIGHT + 8),
            (last - first) * _CELL,
            max(y, top) - (66 + _COVERAGE_HEIGHT + 8) - _GROUP_GAP + 2,
            fill=False,
            edgecolor="black",
            linewidth=0.9,
        )
        axes.add_patch(outline)
        _draw_legend(axes, height - _LEGEND_HEIGHT + 18)
        _save(figure, Path(out_png))


def _save(figure: Figure, target: Path) -> None:
    """Writes the PNG whole or not at all, without the name of the program that made it."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".png", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise UsageError(f"{target} cannot be written ({error.strerror}); choose another --out") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def column_positions(reference: np.ndarray, start: int) -> np.ndarray:
    """The 0-based position of each column, int64 (WINDOW,); of an inserted column, that of the base to its right.

    ``reference`` is the tensor's row: it has a gap exactly where an insertion opened a column.
    """
    places = np.cumsum(reference != GAP)
    before = np.concatenate([[0], places[:-1]])
    return start + before - before[REF_COLUMN]


def allele_columns(reference: np.ndarray, alternate: np.ndarray) -> tuple[int, int]:
    """The columns [first, last) in which ALT differs from REF; REF's first base where the window shows none."""
    # Tensors of encoding gatk have no alternate.
    differing = np.flatnonzero((reference != alternate) & alternate.any())
    return (int(differing[0]), int(differing[-1]) + 1) if len(differing) else (REF_COLUMN, REF_COLUMN + 1)


def _change(ref: str, alt: str) -> str:
    """What ALT does, in a few letters: the base itself, what it inserts, how much it deletes."""
    _, removed, added = trim(ref.upper(), alt.upper())
    if removed and added:
        return alt if len(alt) <= _SHORT else ""
    sign = "+" if added else "−"
    changed = added or removed
    return f"{sign}{changed}" if len(changed) <= _SHORT else f"{sign}{len(changed)} bases"


def _text(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Text as it stands (no mathematics between dollar signs), ``size`` in pixels."""
    options: dict[str, Any] = {"color": _INK, "va": "center", "ha": "left", **style}
    axes.text(x, y, text, fontsize=size * 72 / _DPI, parse_math=False, **options)


def _cells(bases: np.ndarray, quals: np.ndarray, reference: np.ndarray, row_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of bases as pixels uint8 (rows * row_px, WINDOW * _CELL, 3), and which cells are mismatches or inserted.

    bases, quals: (rows, WINDOW).
    """
    opened = reference == GAP  # (WINDOW,)
    known = (reference >= 1) & (reference <= 4)
    is_base = (bases >= 1) & (bases <= OTHER)
    differs = is_base & (opened | (known & (bases != reference) & (bases != OTHER)))
    share = np.clip((quals.astype(float) - _LOW_QUALITY) / (_HIGH_QUALITY - _LOW_QUALITY), 0, 1)
    # A read without any quality is drawn as if all were good.
    share[~quals.any(axis=1)] = 1.0
    low = np.where(differs, _MISMATCH_STRENGTH[0], _MATCH_STRENGTH[0])
    high = np.where(differs, _MISMATCH_STRENGTH[1], _MATCH_STRENGTH[1])
    strength = (low + share * (high - low))[..., None]
    background = np.where(opened[:, None], _INSERTION_TINT, (255, 255, 255))
    colours = np.where(is_base[..., None], 255 * (1 - strength) + _RGB[bases] * strength, background)
    pixels = np.repeat(np.repeat(colours, row_px, axis=0), _CELL, axis=1)
    pixels = pixels.reshape(len(bases), row_px, WINDOW * _CELL, 3)
    # A line of the background sets each row off from the next.
    pixels[:, -1] = np.repeat(background, _CELL, axis=0)
    gap = np.repeat(bases == GAP, _CELL, axis=1)
    in_opened = np.repeat(opened, _CELL)
    middle = (row_px - 1) // 2
    line = np.where(gap[..., None], np.where(in_opened[:, None], _PASSED_RGB, _DELETION_RGB), pixels[:, middle])
    pixels[:, middle] = line
    deleted = gap & ~in_opened
    pixels[:, middle - 1] = np.where(deleted[..., None], _DELETION_RGB, pixels[:, middle - 1])
    return pixels.reshape(-1, WINDOW * _CELL, 3).round().astype(np.uint8), differs


def _image(axes: Axes, pixels: np.ndarray, x: int, y: int) -> None:
    """Pixels copied one to one below everything else, left upper corner at (x, y)."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    from_below = round(axes.get_ylim()[0]) - y - len(pixels)
    figure.figimage(pixels, xo=x, yo=from_below, origin="upper", zorder=-1)


def _letters(axes: Axes, row: np.ndarray, chosen: np.ndarray, y: float, size: float, **style: Any) -> None:
    for column in np.flatnonzero(chosen):
        x = _LEFT + (column + 0.5) * _CELL
        _text(axes, x, y, LETTER_OF_CODE[row[column]], size, ha="center", family="DejaVu Sans Mono", **style)


def _draw_ruler(axes: Axes, reference: np.ndarray, start: int) -> None:
    positions = column_positions(reference, start)
    y = 61
    for column in range(WINDOW):
        position = positions[column] + 1
        if reference[column] in (GAP, NOTHING) or position % 10:
            continue
        x = _LEFT + (column + 0.5) * _CELL
        labelled = position % 20 == 0
        axes.plot([x, x], [y - (6 if labelled else 3), y], color=_FAINT, linewidth=0.8)
        if labelled:
            _text(axes, x, y - 12, f"{position:,}", 9.5, ha="center", color="#505050")
    axes.plot([_LEFT, _RIGHT], [y, y], color=_FAINT, linewidth=0.8)
    x = _LEFT + (REF_COLUMN + 0.5) * _CELL
    axes.add_collection(PolyCollection([[(x - 4, y - 6), (x + 4, y - 6), (x, y + 1)]], facecolors="black"))


def _draw_coverage(axes: Axes, example: dict[str, np.ndarray], y: int) -> None:
    """Bases per column: differing ones in their colours from below, the others grey."""
    bases, reference = example["read_bases"], example["reference"]
    opened = reference == GAP
    counts = np.stack([(bases == code).sum(axis=0) for code in range(1, OTHER + 1)])  # (5, WINDOW)
    highest = max(1, int(counts[:, ~opened].sum(axis=0).max(initial=0)))
    pixels = np.full((_COVERAGE_HEIGHT, WINDOW * _CELL, 3), 255, np.uint8)
    for column in range(WINDOW):
        x = slice(column * _CELL, (column + 1) * _CELL - 1)
        if opened[column]:
            pixels[:, column * _CELL : (column + 1) * _CELL] = _INSERTION_TINT
        done = 0
        same = 0
        for code in range(1, OTHER + 1):
            count = int(counts[code - 1, column])
            if not opened[column] and (code == reference[column] or code == OTHER or not 1 <= reference[column] <= 4):
                same += count
                continue
            fill = slice(_bar(done + count, highest), _bar(done, highest))
            pixels[fill, x] = _RGB[code]
            done += count
        pixels[_bar(done + same, highest) : _bar(done, highest), x] = _COVER_RGB
    _image(axes, pixels, _LEFT, y)
    _text(axes, _LEFT - 20, y + _COVERAGE_HEIGHT / 2, "coverage", 11, ha="right")
    _text(axes, _RIGHT + 6, y + 5, f"{highest}", 9.5, color="#505050")
    _text(axes, _RIGHT + 6, y + _COVERAGE_HEIGHT - 4, "0", 9.5, color="#505050")


def _bar(count: int, highest: int) -> int:
    """The pixel row at which a bar of this height ends."""
    return _COVERAGE_HEIGHT - round(_COVERAGE_HEIGHT * count / highest)


def _draw_sequences(axes: Axes, reference: np.ndarray, alternate: np.ndarray, y: int) -> None:
    good = np.full((1, WINDOW), _HIGH_QUALITY)
    rows: Sequence[tuple[str, np.ndarray]] = (("reference", reference), ("alternate", alternate))
    for name, row in rows:
        pixels, _ = _cells(row[None], good, reference, _SEQUENCE_ROW)
        _image(axes, pixels, _LEFT, y)
        differs = row != reference
        shown = (row >= 1) & (row <= OTHER)
        _letters(axes, row, shown & ~differs, y + _SEQUENCE_ROW / 2, 11)
        _letters(axes, row, shown & differs, y + _SEQUENCE_ROW / 2, 11, color="white", weight="bold")
        _text(axes, _LEFT - 20, y + _SEQUENCE_ROW / 2, name, 11, ha="right")
        y += _SEQUENCE_ROW + 2
    _text(axes, _MAPQ_LEFT, y - _SEQUENCE_ROW / 2 - 2, "MAPQ", 10)


def _draw_group(
    axes: Axes, example: dict[str, np.ndarray], rows: np.ndarray, group: _Group, y: int, row_px: int
) -> None:
    """The reads of one support: label, strand arrows, bases, mapping qualities."""
    bases, quals = example["read_bases"][rows], example["read_quals"][rows]
    mapqs = example["read_mapqs"][rows].astype(int)
    forward = example["read_flags"][rows] & 0x10 == 0
    pixels, differs = _cells(bases, quals, example["reference"], row_px)
    _image(axes, pixels, _LEFT, y)
    if row_px >= _LETTER_ROW:
        for i in range(len(rows)):
            strong = quals[i] >= (_LOW_QUALITY + _HIGH_QUALITY) / 2 if quals[i].any() else np.ones(WINDOW, bool)
            centre = y + (i + 0.5) * row_px - 0.5
            _letters(axes, bases[i], differs[i] & strong, centre, row_px - 2, color="white", weight="bold")
            _letters(axes, bases[i], differs[i] & ~strong, centre, row_px - 2, color="black")
    centres = y + (np.arange(len(rows)) + 0.5) * row_px - 0.5
    half = (row_px - 2) / 2
    arrows = [
        [(_LEFT - 12, c - half), (_LEFT - 4, c), (_LEFT - 12, c + half)]
        if is_forward
        else [(_LEFT - 4, c - half), (_LEFT - 12, c), (_LEFT - 4, c + half)]
        for c, is_forward in zip(centres, forward, strict=True)
    ]
    axes.add_collection(PolyCollection(arrows, facecolors=[_FORWARD if f else _REVERSE for f in forward]))
    axes.add_patch(Rectangle((_LEFT - 18, y), 3, len(rows) * row_px - 1, color=group.colour, linewidth=0))

    known = mapqs != 255
    for centre, mapq in zip(centres, mapqs, strict=True):
        if mapq == 255:
            _text(axes, _MAPQ_LEFT, centre, "?", min(10, row_px), color=_FAINT)
            continue
        axes.add_patch(
            Rectangle((_MAPQ_LEFT, centre - half), _MAPQ_WIDTH, row_px - 2, facecolor="#efefef", linewidth=0)
        )
        # A red sliver at 0: such a read might lie elsewhere just as well.
        colour = "#c0392b" if mapq < 10 else "#d9a21b" if mapq < 30 else "#5b8c5a"
        width = max(2.0, _MAPQ_WIDTH * min(mapq, _MAPQ_FULL) / _MAPQ_FULL)
        axes.add_patch(Rectangle((_MAPQ_LEFT, centre - half), width, row_px - 2, facecolor=colour, linewidth=0))

    _text(axes, _LEFT - 24, y + 7, group.name, 11.5, ha="right", weight="bold", color=group.colour)
    noun = "read" if len(rows) == 1 else "reads"
    _text(axes, _LEFT - 24, y + 20, f"{len(rows)} {noun}, {int(forward.sum())} fwd", 9.5, ha="right")
    median = f"{np.median(mapqs[known]):.0f}" if known.any() else "unknown"
    _text(axes, _LEFT - 24, y + 32, f"median MAPQ {median}", 9.5, ha="right", color="#505050")


def _draw_legend(axes: Axes, y: float) -> None:
    axes.plot([10, PICTURE_WIDTH - 10], [y - 14, y - 14], color="#d8d8d8", linewidth=0.8)
    x = 10.0
    _text(axes, x, y, "mismatch", 10)
    x += 54
    for code in (1, 2, 3, 4):
        axes.add_patch(Rectangle((x, y - 6), 12, 12, facecolor=_BASE_COLOURS[code], linewidth=0))
        _text(axes, x + 6, y, LETTER_OF_CODE[code], 9.5, ha="center", color="white", weight="bold")
        x += 14
    x += 12
    _text(axes, x, y, "match", 10)
    x += 38
    for code in (1, 2, 3, 4):
        colour = 1 - _MATCH_STRENGTH[1] * (1 - _RGB[code] / 255)
        axes.add_patch(Rectangle((x, y - 6), 12, 12, facecolor=tuple(colour), linewidth=0))
        _text(axes, x + 6, y, LETTER_OF_CODE[code], 9.5, ha="center")
        x += 14
    x += 16
    _text(axes, x, y, f"base quality {_LOW_QUALITY}", 10)
    x += 84
    steps = np.linspace(0, 1, 60)[None, :, None] * np.ones((12, 1, 1))
    strength = _MISMATCH_STRENGTH[0] + steps * (_MISMATCH_STRENGTH[1] - _MISMATCH_STRENGTH[0])
    _image(axes, (255 * (1 - strength) + _RGB[4] * strength).round().astype(np.uint8), int(x), int(y - 6))
    x += 65
    _text(axes, x, y, f"{_HIGH_QUALITY}", 10)
    x += 34
    axes.plot([x, x + 26], [y, y], color=tuple(v / 255 for v in _DELETION_RGB), linewidth=1.5)
    _text(axes, x + 32, y, "deleted in the read", 10)
    x += 150
    axes.add_patch(Rectangle((x, y - 7), 26, 14, facecolor=tuple(v / 255 for v in _INSERTION_TINT), linewidth=0))
    axes.plot([x, x + 26], [y, y], color=tuple(v / 255 for v in _PASSED_RGB), linewidth=0.8)
    _text(axes, x + 32, y, "column opened by an insertion (line: the read has none)", 10)

    x, y = 10.0, y + 22
    for name, colour, sign in (("forward", _FORWARD, 1), ("reverse", _REVERSE, -1)):
        centre = x + 5
        triangle = [(centre - 4 * sign, y - 5), (centre + 4 * sign, y), (centre - 4 * sign, y + 5)]
        axes.add_collection(PolyCollection([triangle], facecolors=colour))
        _text(axes, x + 15, y, name, 10)
        x += 68
    x += 10
    _text(axes, x, y, "MAPQ (right)", 10)
    x += 76
    for label, share, colour in (("0", 0.07, "#c0392b"), ("20", 0.33, "#d9a21b"), ("60", 1.0, "#5b8c5a")):
        axes.add_patch(Rectangle((x, y - 5), _MAPQ_WIDTH, 10, facecolor="#efefef", linewidth=0))
        axes.add_patch(Rectangle((x, y - 5), _MAPQ_WIDTH * share, 10, facecolor=colour, linewidth=0))
        _text(axes, x + _MAPQ_WIDTH + 4, y, label, 10)
        x += _MAPQ_WIDTH + 26
    x += 10
    axes.add_patch(Rectangle((x, y - 6), 16, 12, fill=False, edgecolor="black", linewidth=0.9))
    _text(axes, x + 22, y, "where ALT differs from REF", 10)
    x += 176
    triangle = [(x - 4, y - 4), (x + 4, y - 4), (x, y + 3)]
    axes.add_collection(PolyCollection([triangle], facecolors="black"))
    _text(axes, x + 9, y, "POS, the first base of REF", 10)
    explained = (
        "A read supports the allele whose sequence it shows over the allele and the repeat around it; neither: it does "
        "not span them, or fits no allele."
    )
    _text(axes, 10, y + 22, explained, 10)


def draw_allele(
    tensors: TensorBatch, index: int, out: str, facts: Sequence[str], alts: Sequence[str], more: dict[str, Any]
) -> dict[str, Any]:
    """Draws allele ``index`` to ``out`` (PNG) and says what it shows; ``facts`` stand below the title."""
    key = tensors.keys[index]
    example = tensors.example(index)
    support = {name: int((example["read_support"] == code).sum()) for name, code in _SUPPORT.items()}
    kind = VariantType(key.variant_type).name
    told = support["alt"] + support["ref"]
    fraction = f", ALT fraction {support['alt'] / told:.2f}" if told else ""
    ref, alt = (f"{a[:22]}… ({len(a)} bases)" if len(a) > 26 else a for a in (key.ref, key.alt))
    others = [other for other in alts if other != key.alt]
    lines = [f"{len(example['read_support'])} reads{fraction}", *(fact for fact in facts if fact)]
    if others:
        lines.append(f"other ALT: {listed(others)}")
    kind_text = kind if kind in ("SNV", "MNV") else kind.lower()
    show_tensor(
        tensors, index, out, f"{key.contig}:{key.start + 1:,}  {ref} > {alt}  ({kind_text})", "   ·   ".join(lines)
    )
    return {
        "out": out,
        "contig": key.contig,
        "pos": key.start + 1,
        "ref": key.ref,
        "alt": key.alt,
        "alts": list(alts),
        "type": kind,
        "reads": len(example["read_support"]),
        "support": support,
        **more,
    }
