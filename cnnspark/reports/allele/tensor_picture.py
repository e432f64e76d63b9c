"""An allele's tensor as a picture that a geneticist understands at a glance: laid out like a genome browser.

From top to bottom a ruler, the coverage, the reference, the alternate sequence and the reads, grouped by what they
support; in the margins strand and mapping quality. Everything comes from the tensor, nothing from the files it was
built from: the picture shows what the network sees. All sizes are in pixels.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnspark.common.log import listed
from cnnspark.errors import UsageError
from cnnspark.formats.vcf import Record
from cnnspark.reports.allele.picture_legend import LEGEND_HEIGHT, draw_legend
from cnnspark.reports.allele.picture_style import (
    COLUMN_WIDTH,
    COLUMNS_LEFT,
    COLUMNS_RIGHT,
    DPI,
    FAINT,
    GREY,
    PICTURE_WIDTH,
    draw_text,
)
from cnnspark.reports.allele.picture_tracks import (
    COVERAGE_HEIGHT,
    SEQUENCE_ROW,
    ReadGroup,
    draw_coverage,
    draw_reads,
    draw_ruler,
    draw_sequences,
)
from cnnspark.reports.allele.tensor_columns import allele_columns
from cnnspark.tensors.schema import NEITHER, SUPPORTS_ALT, SUPPORTS_OTHER, SUPPORTS_REF, TensorBatch
from cnnspark.variants.alleles import VariantType, trim

_SUPPORT = {"alt": SUPPORTS_ALT, "ref": SUPPORTS_REF, "other_alt": SUPPORTS_OTHER, "neither": NEITHER}
_COVERAGE_TOP = 66
_SEQUENCES_TOP = _COVERAGE_TOP + COVERAGE_HEIGHT + 10
_READS_TOP = _SEQUENCES_TOP + 2 * (SEQUENCE_ROW + 2) + 8
# A row of a read is as high as fits in _ROWS_HEIGHT, within these bounds.
_ROW_MIN, _ROW_MAX, _ROWS_HEIGHT = 6, 13, 860
_GROUP_GAP = 9
_LABEL_HEIGHT = 40  # of a group's label, which may be higher than the group's rows
_SHORT = 6  # letters of an allele that a label has room for


def draw_allele(
    tensors: TensorBatch, index: int, out: str, facts: Sequence[str], alts: Sequence[str], more: dict[str, Any]
) -> dict[str, Any]:
    """Draws an allele with a title made of what is known about it.

    Args:
        tensors: The allele's batch.
        index: Its number in the batch.
        out: The PNG to write.
        facts: Shown below the title, after the number of reads.
        alts: All ALTs at the position.
        more: Further values for the result.

    Returns:
        What the picture shows, as plain values: position, alleles, type, reads, and reads by support.

    Raises:
        UsageError: If the picture cannot be written.
    """
    key = tensors.keys[index]
    example = tensors.example(index)
    support = {name: int((example["read_support"] == code).sum()) for name, code in _SUPPORT.items()}
    kind = VariantType(key.variant_type).name
    of_both = support["alt"] + support["ref"]
    fraction = f", ALT fraction {support['alt'] / of_both:.2f}" if of_both else ""
    ref, alt = (f"{a[:22]}… ({len(a)} bases)" if len(a) > 26 else a for a in (key.ref, key.alt))
    others = [other for other in alts if other != key.alt]
    lines = [f"{len(example['read_support'])} reads{fraction}", *(fact for fact in facts if fact)]
    if others:
        lines.append(f"other ALT: {listed(others)}")
    kind_text = kind if kind in ("SNV", "MNV") else kind.lower()
    title = f"{key.contig}:{key.start + 1:,}  {ref} > {alt}  ({kind_text})"
    show_tensor(tensors, index, out, title, "   ·   ".join(lines))
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


def record_facts(sample: str, record: Record) -> list[str]:
    """The facts of a record that stand below a picture's title: sample, QUAL and FILTER."""
    return [sample, *(f"{n} {v}" for n, v in (("QUAL", record.qual), ("FILTER", record.filter)) if v != ".")]


def show_tensor(tensors: TensorBatch, index: int, out_png: str | Path, title: str = "", subtitle: str = "") -> None:
    """Draws an allele's tensor, 1,200 pixels wide and as high as its reads need.

    The same tensor and titles give the same bytes (with the same version of matplotlib).

    Args:
        tensors: The allele's batch.
        index: Its number in the batch.
        out_png: The PNG to write.
        title: Above the picture; position and alleles if empty.
        subtitle: Below the title.

    Raises:
        UsageError: If the picture cannot be written.
    """
    example = tensors.example(index)
    key = tensors.keys[index]
    groups = (
        ReadGroup(SUPPORTS_ALT, f"ALT {_change(key.ref, key.alt)}", "#b2182b"),
        ReadGroup(SUPPORTS_REF, f"REF {key.ref if len(key.ref) <= _SHORT else ''}", "#3a3a3a"),
        ReadGroup(SUPPORTS_OTHER, "other ALT", "#c77714"),
        ReadGroup(NEITHER, "neither", "#8a8a8a"),
    )
    title = title or f"{key.contig}:{key.start + 1:,} {key.ref[:40]} > {key.alt[:40]}"
    rows = [np.flatnonzero(example["read_support"] == group.support) for group in groups]
    row_px = int(np.clip(_ROWS_HEIGHT // max(1, len(example["read_bases"])), _ROW_MIN, _ROW_MAX))
    heights = [max(len(r) * row_px, _LABEL_HEIGHT) + _GROUP_GAP if len(r) else 0 for r in rows]
    height = _READS_TOP + max(sum(heights), 40) + LEGEND_HEIGHT

    # A user's own matplotlibrc must not change the picture.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(PICTURE_WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, PICTURE_WIDTH)
        axes.set_ylim(height, 0)
        axes.axis("off")
        draw_text(axes, 10, 17, title, 16, weight="bold")
        draw_text(axes, 10, 36, subtitle, 11, color=GREY)
        draw_ruler(axes, example["reference"], key.start)
        draw_coverage(axes, example, _COVERAGE_TOP)
        draw_sequences(axes, example["reference"], example["alternate"], _SEQUENCES_TOP)
        y = _READS_TOP
        for group, chosen, taken in zip(groups, rows, heights, strict=True):
            if len(chosen):
                draw_reads(axes, example, chosen, group, y, row_px)
            y += taken
        if not len(example["read_bases"]):
            middle = (COLUMNS_LEFT + COLUMNS_RIGHT) / 2
            draw_text(axes, middle, _READS_TOP + 18, "no usable read overlaps REF", 12, color=FAINT, ha="center")
        first, last = allele_columns(example["reference"], example["alternate"])
        outline = Rectangle(
            (COLUMNS_LEFT + first * COLUMN_WIDTH - 0.5, _SEQUENCES_TOP - 2),
            (last - first) * COLUMN_WIDTH,
            y - (_SEQUENCES_TOP - 2) - _GROUP_GAP + 2,
            fill=False,
            edgecolor="black",
            linewidth=0.9,
        )
        axes.add_patch(outline)
        draw_legend(axes, height - LEGEND_HEIGHT + 18)
        _save(figure, Path(out_png))


def _change(ref: str, alt: str) -> str:
    """What ALT does, in a few letters: the base itself, what it inserts, how much it deletes."""
    _, removed, added = trim(ref.upper(), alt.upper())
    if removed and added:
        return alt if len(alt) <= _SHORT else ""
    sign = "+" if added else "−"
    changed = added or removed
    return f"{sign}{changed}" if len(changed) <= _SHORT else f"{sign}{len(changed)} bases"


def _save(figure: Figure, target: Path) -> None:
    """Writes the PNG whole or not at all, without the name of the program that made it."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".png", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise UsageError(f"{target} cannot be written ({error.strerror}); choose another --out") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
