"""Scores in the callset: declarations in its header, values in its records' INFO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnspark._version import __version__
from cnnspark.formats.vcf import Record, VcfHeader, check_header_field
from cnnspark.models.card import Card
from cnnspark.scoring.cascade import FirstStage, header_with_stages
from cnnspark.variants.score_fields import ALT_SCORES, FORMAT_KEY, STAGE, format_score, has_sample_scores, stages_text

if TYPE_CHECKING:
    from cnnspark.tensors.schema import TensorBatch


def score_header(
    header: VcfHeader, path: str, card: Card, first: FirstStage | None = None, of_whom: str = ""
) -> VcfHeader:
    """The callset's header with the declarations of a scored one.

    Args:
        header: the callset's.
        path: the callset's, for messages.
        card: the model's.
        first: the first model of a cascade.
        of_whom: added to the description of the score.

    Raises:
        InputError: the callset declares one of the fields as something else.
    """
    key = card.score_key
    check_header_field(header, path, key, "1", "Float")
    check_header_field(header, path, ALT_SCORES, "A", "Float")
    digest = card.sha256[:16]
    lines = [
        f"##INFO=<ID={key},Number=1,Type=Float,Description=\"Natural log of the odds that the record's best ALT is a "
        f"true variant{of_whom}, between -16.118 and 16.118, higher is more likely true; cnnspark "
        f'{__version__}, model {card.model}, SHA-256 {digest}">',
        f'##INFO=<ID={ALT_SCORES},Number=A,Type=Float,Description="{key} of each ALT, missing where not scored">',
        f"##cnnspark_model=<ID={key},Version={__version__},Model={card.model},ModelSHA256={card.sha256}>",
    ]
    for kind, by_group in (("Precision", card.thresholds), ("Sensitivity", card.sensitivity_thresholds)):
        for group, by_share in sorted(by_group.items()):
            for share, threshold in sorted(by_share.items()):
                if threshold is not None:
                    lines.append(
                        f"##cnnspark_threshold=<ID={key}_{group}_{kind.lower()}_{share},Key={key},Group={group},"
                        f"{kind}={share},Value={threshold:.3f}>"
                    )
    old = [f"##cnnspark_model=<ID={key},", f"##cnnspark_threshold=<ID={key}_"]
    if has_sample_scores(header) and not of_whom:
        old.append(f"##FORMAT=<ID={FORMAT_KEY},")  # of an earlier run; its values leave the records as well
    of_carriers = " in one of its carriers or more" if of_whom else ""
    return header_with_stages(header.without_lines(old).with_lines(lines), path, first, card, key, of_carriers)


def annotate(
    records: Sequence[Record], tensors: TensorBatch, scores: np.ndarray, key: str, stages: np.ndarray | None = None
) -> None:
    """Writes each allele's score into its record: the best under ``key``, all under CNN_ALT_SCORES, and its stage.

    Scores of another run are removed from records that have none now.

    Args:
        records: the block's; they are changed.
        tensors: the scored alleles' tensors, n of them.
        scores: float64 (n,).
        key: the INFO key of the best.
        stages: int8 (n,), of a cascade.
    """
    by_record: dict[int, dict[int, float]] = {}
    for allele, value in zip(tensors.keys, scores, strict=True):
        by_record.setdefault(allele.record_index, {})[allele.alt_index] = float(value)
    stage_of = (
        {} if stages is None else {(a.record_index, a.alt_index): s for a, s in zip(tensors.keys, stages, strict=True)}
    )
    for record in records:
        found = by_record.get(record.index)
        if not found:
            if f"{key}=" in record.info:
                record.drop_info((key, ALT_SCORES))
            continue
        each = [found.get(i) for i in range(1, len(record.alts) + 1)]
        values = {key: format_score(max(found.values())), ALT_SCORES: ",".join(map(format_score, each))}
        if stage_of:
            values[STAGE] = stages_text([stage_of.get((record.index, i)) for i in range(1, len(record.alts) + 1)])
        record.set_info(values)


def drop_stages(records: Iterable[Record]) -> None:
    """Removes an earlier run's stages from the records."""
    for record in records:
        if f"{STAGE}=" in record.info:
            record.drop_info((STAGE,))
