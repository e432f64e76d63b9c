"""Figures as text: for people, columns side by side; for programs, a TSV."""

from __future__ import annotations

from collections.abc import Sequence

Value = float | int | None


def format_value(value: Value) -> str:
    """Three decimals for a ratio, thousands separated for a count, ``-`` for what is not defined."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def format_interval(low: Value, high: Value) -> str:
    """``0.912-0.934``, with signs where an end is below 0; ``-`` where there is none."""
    if low is None or high is None:
        return "-"
    return f"{low:.3f}-{high:.3f}" if low >= 0 else f"{low:+.3f} to {high:+.3f}"


def format_rows(rows: Sequence[Sequence[str | Value]], n_left: int = 1) -> str:
    """A plain-text table, the first row its headings; the first ``n_left`` columns are set left, the others right."""
    texts = [[cell if isinstance(cell, str) else format_value(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    lines = []
    for row in texts:
        left = [cell.ljust(width) for cell, width in zip(row[:n_left], widths[:n_left], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[n_left:], widths[n_left:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return "\n".join(lines)


def tsv(columns: Sequence[str], rows: Sequence[Sequence[str | Value]]) -> str:
    """A table of tab-separated values, floats with six significant digits, ``NA`` for what is not defined."""

    def text(cell: str | Value) -> str:
        if cell is None:
            return "NA"
        # A score's name comes from a file; a tab in it would be a column more.
        return f"{cell:.6g}" if isinstance(cell, float) else " ".join(str(cell).split())

    return "\n".join("\t".join(map(text, row)) for row in [columns, *rows]) + "\n"
