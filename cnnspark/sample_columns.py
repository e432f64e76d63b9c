"""Editing one FORMAT field of a record's text; all other fields of all samples stay as they were."""

from __future__ import annotations

from collections.abc import Mapping

from cnnspark.vcf import Record


def set_sample_values(record: Record, key: str, values: Mapping[int, str]) -> None:
    """Gives samples (numbers of columns, from 0) their value of a FORMAT field, which becomes the last one.

    Values that were there before are taken away, and the key with them where ``values`` is empty. Columns of other
    samples are not touched: trailing fields may be left out, while those between are missing (``.``, VCF 4.3, 1.6.2).
    """
    if record.rest is None:
        return
    columns = record.rest.split("\t")
    keys = columns[0].split(":")
    if key in keys:
        at = keys.index(key)
        columns = [_without(column, at) for column in columns]
        keys.remove(key)
    elif not values:
        return
    if values:
        known = [] if keys in (["."], [""], []) else keys
        columns[0] = ":".join([*known, key])
        for number, value in values.items():
            fields = columns[number + 1].split(":") if known else []
            columns[number + 1] = ":".join([*fields, *["."] * (len(known) - len(fields)), value])
    record.rest = "\t".join(columns)


def _without(column: str, at: int) -> str:
    fields = column.split(":")
    del fields[at : at + 1]
    return ":".join(fields) or "."
