"""GATK's five published files of weights: their scores beside NVScoreVariants' own, or beside each other.

    python -m benchmarks.scoring.gatk_files --data ../shared/data --weights DIR

DIR holds the files as GATK's jars have them, under `large/nvscorevariants` (4.6.2.0) and `large/cnn_score_variants`
(4.5.0.0). Each is imported and scores HaplotypeCaller's callset of HG002. NVScoreVariants has no scores by
2d_cnn_mix_train, which it does not come with: that network stands beside small_2d's scores, with another meaning of
its figures, and beside the labels of a second callset.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.command import arguments, finish, use_one_core
from cnnspark import stages
from cnnspark.config import Config, InputPaths
from cnnspark.evaluation.metrics import auprc
from cnnspark.execution.tasks import LocalSession
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.models.gatk_weights.importer import import_weights
from cnnspark.stages.requests import ScoreRequest

# File, --kind, and what its scores stand beside.
FILES = (
    ("1d_cnn_mix_train_full_bn.pt", "1d", "NVScoreVariants 1D"),
    ("1d_cnn_mix_train_full_bn.hd5", "1d", "NVScoreVariants 1D"),
    ("small_2d.pt", "2d", "NVScoreVariants 2D"),
    ("small_2d.hd5", "2d", "NVScoreVariants 2D"),
    ("2d_cnn_mix_train.hd5", "2d_mix", "NVScoreVariants 2D"),
)
PAIRS = ((0, 1), (2, 3))
# Callsets of HaplotypeCaller: one with the oracle's scores, one with labels.
COMPARED, LABELLED = "HG002/HG002", "HG002x/HG002x"
READS = {COMPARED: "HG002/HG002.20.bam", LABELLED: "HG002x/HG002x.30x.bam"}


def paths_of(data: str, callset: str, with_reads: bool) -> InputPaths:
    """The files of a callset of HaplotypeCaller."""
    real = Path(data).absolute() / "real"
    return InputPaths(
        vcf=str(real / f"{callset}.haplotypecaller.vcf.gz"),
        reads=str(real / READS[callset]) if with_reads else None,
        reference=str(real / Path(callset).parent / "ref.b37.20.fa.gz"),
    )


def scores_of(data: str, callset: str, model: Path, kind: str, out: Path) -> dict[tuple[str, str, str], float]:
    """The score of each record by POS, REF and ALTs."""
    request = ScoreRequest(paths_of(data, callset, kind != "1d"), str(model), str(out), Config())
    found = stages.score_callset(LocalSession(), request)
    with VcfSource(found["merged"]) as merged:
        records = [record for contig in merged.contigs for record in merged.records(Region(contig))]
    return {(str(r.start + 1), r.ref, ",".join(r.alts)): float(r.info_value(found["key"]) or "nan") for r in records}


def oracle(data: str, key: str) -> dict[tuple[str, str, str], float]:
    """NVScoreVariants' scores by POS, REF and ALTs."""
    path = Path(data) / "oracle" / f"HG002.haplotypecaller.nvscorevariants_{key}.tsv"
    with open(path, encoding="utf-8") as table:
        return {(e["pos"], e["ref"], e["alts"]): float(e["score"]) for e in csv.DictReader(table, delimiter="\t")}


def compared(name: str, found: dict[Any, float], beside: str, other: dict[Any, float]) -> dict[str, Any]:
    """A row: how far two scores of the same records are apart, and how many pairs they rank the other way round."""
    if found.keys() != other.keys():
        raise SystemExit(f"{name}: the records are not those of {beside}")
    x, y = (np.array([scores[key] for key in found]) for scores in (found, other))
    order = np.sign(x[:, None] - x[None]) * np.sign(y[:, None] - y[None])
    ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
    return {
        "file": name,
        "beside": beside,
        "records": len(x),
        "largest difference": f"{np.abs(x - y).max():.4f}",
        "reversed pairs": f"{int((order < 0).sum()) // 2} of {len(x) * (len(x) - 1) // 2}",
        "rank correlation": f"{np.corrcoef(np.array(ranks, np.float64))[0, 1]:.3f}",
    }


def labelled_row(data: str, name: str, found: dict[tuple[str, str, str], float]) -> dict[str, Any]:
    """A row: AUPRC on the labelled alleles."""
    with open(Path(data) / "real" / f"{LABELLED}.haplotypecaller.labels.tsv", encoding="utf-8") as table:
        label = {(e["pos"], e["ref"], e["alt"]): e["label"] for e in csv.DictReader(table, delimiter="\t")}
    alleles = [
        (label[pos, ref, alt], score)
        for (pos, ref, alts), score in found.items()
        for alt in alts.split(",")
        if label.get((pos, ref, alt)) in ("TP", "FP") and np.isfinite(score)
    ]
    true = np.array([each == "TP" for each, _ in alleles])
    area = auprc(true, np.array([score for _, score in alleles]))
    return {"file": name, "true": int(true.sum()), "false": int((~true).sum()), "AUPRC": f"{area:.4f}"}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--weights", required=True, metavar="DIR", help="the five files")
    options = parser.parse_args()
    use_one_core()
    oracles = {f"NVScoreVariants {key.upper()}": oracle(options.data, key) for key in ("1d", "2d")}
    rows, labelled, scores = [], [], []
    with tempfile.TemporaryDirectory() as work:
        for number, (name, kind, beside) in enumerate(FILES):
            model = Path(work) / f"model{number}"
            import_weights(str(Path(options.weights) / name), kind, str(model))
            scores.append(scores_of(options.data, COMPARED, model, kind, Path(work) / f"scores{number}"))
            rows.append(compared(name, scores[-1], beside, oracles[beside]))
            again = scores_of(options.data, LABELLED, model, kind, Path(work) / f"labelled{number}")
            labelled.append(labelled_row(options.data, name, again))
    rows += [compared(FILES[b][0], scores[b], FILES[a][0], scores[a]) for a, b in PAIRS]
    by_file = {row["file"]: row for row in labelled}
    for row in rows:
        row["AUPRC on HG002x"] = by_file[row["file"]]["AUPRC"]
    finish(options, rows, labelled=labelled)


if __name__ == "__main__":
    main()
