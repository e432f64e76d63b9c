"""Tables as text: aligned columns for people, TSV for programs."""

from __future__ import annotations

from collections.abc import Sequence

Value = float | int | None


def format_value(value: Value) -> str:
    """A number for people: three decimals for a ratio, thousands separated for a count, ``-`` for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def format_interval(low: Value, high: Value) -> str:
    """An interval for people: ``0.912-0.934``, with signs if ``low`` is below 0, ``-`` if an end is None."""
    if low is None or high is None:
        return "-"
    return f"{low:.3f}-{high:.3f}" if low >= 0 else f"{low:+.3f} to {high:+.3f}"


def format_rows(rows: Sequence[Sequence[str | Value]], n_left: int = 1) -> str:
    """Formats a table with aligned columns.

    Args:
        rows: the headings first; numbers are formatted by :func:`format_value`. All rows are equally long.
        n_left: how many columns, from the first, are aligned left; the others are aligned right.

    Returns:
        The lines, without a line end after the last.
    """
    texts = [[cell if isinstance(cell, str) else format_value(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    lines = []
    for row in texts:
        left = [cell.ljust(width) for cell, width in zip(row[:n_left], widths[:n_left], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[n_left:], widths[n_left:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return "\n".join(lines)


def tsv(columns: Sequence[str], rows: Sequence[Sequence[str | Value]]) -> str:
    """Formats a table as tab-separated values.

    Args:
        columns: the headings.
        rows: floats are written with six significant digits, None as ``NA``.

    Returns:
        The lines, each with its line end.
    """

    def text(cell: str | Value) -> str:
        if cell is None:
            return "NA"
        # A score's name comes from a file; a tab in it would make one more column.
        return f"{cell:.6g}" if isinstance(cell, float) else " ".join(str(cell).split())

    return "\n".join("\t".join(map(text, row)) for row in [columns, *rows]) + "\n"
