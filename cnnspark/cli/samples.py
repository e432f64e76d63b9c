"""Commands that make samples, callsets and tensors. Heavy packages are imported inside them."""

from __future__ import annotations

from typing import Any

import click

from cnnspark.cli.options import (
    common_options,
    config_options,
    exists_option,
    local_option,
    output_options,
    reads_option,
    reference_option,
    region_option,
    replace_option,
    sample_option,
    sheet_options,
    truth_options,
    vcf_option,
)
from cnnspark.cli.run import Run, common_values


@click.command()
@click.option("--out", required=True, metavar="DIR", help="Folder for the files.")
@reference_option
@region_option
@click.option("--seed", type=int, metavar="N", help="Another seed, another sample [1].")
@click.option("--length", type=int, metavar="BASES", help="Size of the genome that is made up without --reference.")
@click.option("--coverage", type=float, metavar="X", help="Mean read depth [30].")
@click.option("--read-length", type=int, metavar="BASES", help="100, 150 or 250 [150].")
@click.option("--profile", metavar="NAME", help="Base qualities: hiseq or novaseq (binned) [hiseq].")
@click.option(
    "--mechanisms",
    multiple=True,
    metavar="NAME=SHARE",
    help="How much of a cause of false alleles: 1 as usual, 0 nothing.",
)
@config_options
@output_options
def simulate(out: str, mechanisms: tuple[str, ...], reference: str, regions: tuple[str, ...], **options: Any) -> None:
    """Make a sample's reads, truth and a callset with plenty of false positives, each of known cause.

    On sequence of --reference, or on a small genome of its own.
    """
    import dataclasses

    from cnnspark.common.storage import local_folder
    from cnnspark.simulation import simulate as make
    from cnnspark.variants.label_tables import counts_by_cause

    run = Run({"conf_spark": (), **common_values(options)})
    chosen = dataclasses.replace(
        run.config.simulate,
        mechanisms=run.config.simulate.mechanisms.changed(mechanisms),
        **{name: value for name, value in options.items() if value is not None},
    )
    paths = run.paths(reference=reference, regions=regions)
    files = make(
        local_folder(out), chosen, reference=paths.reference, regions=paths.regions, candidates=run.config.candidates
    )
    result = {name: str(path) for name, path in dataclasses.asdict(files).items()}
    by_cause = counts_by_cause(result["causes"])
    text = "\n".join(f"{name:12} {path}" for name, path in result.items())
    counts = ", ".join(f"{n} {cause}" for cause, n in by_cause.items())
    run.show({**result, "alleles": by_cause}, f"{text}\n{'alleles':12} {counts}")


@click.command()
@reads_option
@reference_option
@click.option("--out", required=True, metavar="VCF", help="Callset to write, .vcf.gz or .bcf.")
@region_option
@sample_option
@replace_option
@local_option
@common_options
def candidates(
    reads: str, reference: str, out: str, regions: tuple[str, ...], sample: str, if_exists: str, **options: Any
) -> None:
    """Call every candidate allele from the reads alone: a start without a caller."""
    run = Run(common_values(options))
    from cnnspark import stages

    paths = run.paths(reads=reads, reference=reference, regions=regions, sample=sample)
    result = stages.call_candidates(run.session("candidates"), paths, out, run.config, if_exists == "overwrite")
    run.show(result, f"{result['records']} candidate alleles: {out}")


@click.command()
@vcf_option
@reads_option
@reference_option
@truth_options
@click.option("--out", required=True, metavar="DIR", help="Folder for the dataset.")
@region_option
@sample_option
@sheet_options
@exists_option
@common_options
def tensors(out: str, if_exists: str, **options: Any) -> None:
    """Build labelled tensors of a callset, or of a sheet's, and write them to Parquet through Petastorm."""
    run = Run(common_values(options))
    if given := run.sheet(options):
        from cnnspark.stages.sheet_stages import tensors_sheet

        sheet, cohort = given
        paths = run.paths(**options)
        run.show_sheet(tensors_sheet(run.spark("tensors"), sheet, paths, out, run.config, if_exists, cohort))
        return
    from cnnspark import stages

    result = stages.build_dataset(run.spark("tensors"), run.paths(**options), out, run.config, if_exists)
    labels = result["labels"]
    run.show(result, f"{result['tensors']} tensors ({labels['true']} true, {labels['false']} false): {out}")
