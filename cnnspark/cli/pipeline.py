"""Commands that run all steps. Heavy packages are imported inside them."""

from __future__ import annotations

from typing import Any

import click

from cnnspark.cli.options import (
    cascade_option,
    common_options,
    exists_option,
    local_option,
    reads_option,
    reference_option,
    region_option,
    sample_option,
    sheet_options,
    strict_option,
    truth_options,
    vcf_option,
)
from cnnspark.cli.run import Run, common_values, with_setting


@click.command("run")
@vcf_option
@reads_option
@reference_option
@truth_options
@click.option("--model", metavar="DIR|NAME", help="As for 'cnnspark score' [trained on --truth, if there is one].")
@click.option("--out", required=True, metavar="DIR", help="Folder for everything.")
@region_option
@sample_option
@sheet_options
@cascade_option
@strict_option
@exists_option
@local_option
@common_options
def run_(out: str, model: str | None, cascade: bool | None, strict: bool, if_exists: str, **options: Any) -> None:
    """Do all of it, from a YAML or flags, for one callset or for a sheet's.

    Candidates without --vcf, tensors and train without --model, score, filter, and evaluate with --truth.
    """
    run = Run(with_setting(common_values(options), "score.cascade", cascade))
    given = run.sheet(options)
    from cnnspark.stages import RunRequest, pipeline

    request = RunRequest(run.paths(**options), out, run.config, model, if_exists, strict)
    if given:
        from cnnspark.stages.sheet_stages import run_sheet

        sheet, settings = given
        run.show_sheet(run_sheet(run.spark("run"), sheet, request, settings))
        return
    result = pipeline.run_all(run.session("run"), request)
    run.show(result.to_dict(), result.text())


@click.command()
@click.option("--out", default="demo-out", show_default=True, metavar="DIR", help="Folder for everything.")
@click.option("--seed", default=1, show_default=True, help="Seed of the simulated sample.")
@click.option("--length", default=800_000, show_default=True, help="Bases of the simulated genome.")
@exists_option
@common_options
def demo(out: str, seed: int, length: int, if_exists: str, **options: Any) -> None:
    """Run everything on a simulated sample: a few minutes on two cores."""
    run = Run(common_values(options))
    from cnnspark.stages import pipeline

    result = pipeline.demo(run.spark("demo"), out, run.config, seed, length, if_exists)
    run.show(result.to_dict(), result.text())


@click.command("compile-kernels")
@common_options
def compile_kernels(**options: Any) -> None:
    """Compile the tensor code now, and not in the first run: when an image or an environment is made.

    The compiled code is kept beside the package, or in NUMBA_CACHE_DIR.
    """
    run = Run(common_values(options))
    from cnnspark.stages.kernels import compile_kernels

    seconds = compile_kernels()
    run.show({"seconds": round(seconds, 1)}, f"kernels compiled in {seconds:.0f} s")
