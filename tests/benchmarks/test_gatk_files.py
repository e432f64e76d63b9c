"""GATK's published files of weights give NVScoreVariants' scores, and two scores are compared as they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.scoring.gatk_files import COMPARED, FILES, compared, oracle, scores_of
from cnnspark.models.gatk_weights.importer import import_weights


def test_pairs_that_are_ranked_the_other_way_round_are_counted() -> None:
    found = {("1", "A", "C"): 1.0, ("2", "A", "C"): 2.0, ("3", "A", "C"): 3.0, ("4", "A", "C"): 3.0}
    other = {("4", "A", "C"): 9.0, ("3", "A", "C"): 0.5, ("1", "A", "C"): 1.0, ("2", "A", "C"): 2.0}
    row = compared("a", found, "b", other)
    # 3 is below 1 and 2; between 3 and 4 the first says nothing.
    assert (row["records"], row["largest difference"], row["reversed pairs"]) == (4, "6.0000", "2 of 6")
    with pytest.raises(SystemExit, match="the records are not those of b"):
        compared("a", found, "b", {("1", "A", "C"): 1.0})


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "beside"), FILES[:4])
def test_a_published_file_gives_nvscorevariants_scores(
    data: Path, tmp_path: Path, name: str, kind: str, beside: str
) -> None:
    """Oracle: NVScoreVariants itself, of GATK 4.6.2.0."""
    weights = os.environ.get("CNNSPARK_GATK_WEIGHTS")
    if weights is None:
        pytest.skip("GATK's weights are not there; set CNNSPARK_GATK_WEIGHTS to the folder with the files of its jars")
    import_weights(str(Path(weights) / name), kind, str(tmp_path / "model"))
    found = scores_of(str(data), COMPARED, tmp_path / "model", kind, tmp_path / "out")
    assert found == pytest.approx(oracle(str(data), beside[-2:].lower()), abs=0.0011)
