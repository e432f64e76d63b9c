"""``cnnspark explain``: why an allele has its score, as one page."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pysam

from cnnspark.common.dataclass_settings import build
from cnnspark.common.log import listed
from cnnspark.common.storage import is_url, location, read_json
from cnnspark.config import Config, InputPaths
from cnnspark.errors import CnnsparkError, InputError, UsageError
from cnnspark.execution.run_folder import MANIFEST
from cnnspark.formats.htslib import for_htslib
from cnnspark.models.bundle_files import BUNDLED, PREFIX, chosen_model
from cnnspark.models.card import read_card
from cnnspark.models.selection import select_model
from cnnspark.reports.allele.explanation import explain_site
from cnnspark.reports.allele.page import write_page
from cnnspark.reports.allele.sentences import sentences
from cnnspark.reports.allele.site import find_site, model_digest
from cnnspark.reports.allele.tensor_picture import draw_allele, record_facts
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.stages import merged_callset
from cnnspark.stages.inputs import checked_inputs, require_reads
from cnnspark.stages.show import check_folder_of
from cnnspark.variants.labeller import required


def of_the_run(paths: InputPaths, model: str | None, config: Config) -> tuple[InputPaths, str | None, Config]:
    """Fills in what a finished scoring run knows: its merged callset, and its inputs and model if none are given.

    Raises:
        InputError: the folder is not one of a finished scoring run.
    """
    vcf = required(paths.vcf, "--vcf")
    if is_url(vcf) or not Path(vcf).is_dir():
        return paths, model, config
    folder = location(vcf)
    manifest = read_json(folder / MANIFEST, "the folder of a finished scoring run")
    try:
        of_run = build(Config, manifest["config"])
    except (KeyError, TypeError, CnnsparkError):
        raise InputError(
            f"{folder / MANIFEST} does not say what was scored; give the scored VCF itself, --reads and --reference"
        ) from None
    of_run_inputs = of_run.inputs
    given: dict[str, Any] = {"vcf": merged_callset(vcf), "regions": ()}
    given |= {name: getattr(paths, name) or getattr(of_run_inputs, name) for name in ("reads", "reference", "sample")}
    members = paths.members or (() if paths.reads else of_run_inputs.members)
    chosen = dataclasses.replace(paths, **given, members=members)
    if config == Config():
        config = dataclasses.replace(of_run, inputs=config.inputs)
    return chosen, model or of_run.model, config


def of_one_member(paths: InputPaths) -> InputPaths:
    """The paths of one sample, out of a run on several.

    Raises:
        UsageError: several samples were scored and none is named, or the named one has no reads.
    """
    if not paths.members:
        return paths
    names = [member.sample for member in paths.members]
    if paths.sample is None and len(names) > 1:
        raise UsageError(f"the callset was scored in {listed(names)}; choose one with --sample")
    sample = paths.sample or names[0]
    reads = next((member.reads for member in paths.members if member.sample == sample), None)
    if reads is None:
        raise UsageError(f"sample '{sample}' has no reads among those of {listed(names)}; choose one of them")
    return dataclasses.replace(paths, reads=reads or None, sample=sample, members=())


def scored_with(vcf: str, has_reads: bool) -> str:
    """The bundled model that scored the callset, or the default one if the callset has no scores.

    Raises:
        UsageError: the callset was scored by a model of the user's.
    """
    digest = model_digest(_header_of(vcf))
    if digest is None:
        return chosen_model(None, has_reads)
    for name in BUNDLED:
        if read_card(PREFIX + name).sha256 == digest:
            return PREFIX + name
    raise UsageError(f"{vcf} was scored with a model of your own (SHA-256 {digest[:16]}); give it with --model")


def _header_of(vcf: str) -> Sequence[str]:
    """The header's lines; empty if the file cannot be read, which is reported when it is opened."""
    verbosity = pysam.set_verbosity(0)  # what htslib thinks of a header is no concern here
    try:
        with pysam.VariantFile(for_htslib(vcf)) as file:
            return str(file.header).splitlines()
    except (OSError, ValueError):
        return ()
    finally:
        pysam.set_verbosity(verbosity)


def explain(
    paths: InputPaths, model: str | None, at: str, alt: str | None, out: str, config: Config | None = None
) -> dict[str, Any]:
    """Explains one allele of a callset on a page, and returns what the page shows as plain values.

    Args:
        paths: the callset, or the folder of a scoring run; then reads, reference, sample and model are that run's
            unless others are given.
        model: a bundle or the name of a bundled model; None for the one that scored the callset.
        at: the record's position, ``chr20:10000117`` (1-based).
        alt: which ALT; None takes the first that can be scored.
        out: the page to write, ``.html``.
        config: all settings.

    Raises:
        UsageError: what was asked for cannot be explained.
        InputError: the callset has nothing at the position, or the inputs do not fit together.
    """
    if not out.lower().endswith((".html", ".htm")):
        raise UsageError(f"{out} must end in .html; the explanation is one page")
    check_folder_of(out)
    paths, model, config = of_the_run(paths, model, config or Config())
    paths = of_one_member(paths)
    required(paths.vcf, "--vcf")
    name = model if model is not None else scored_with(str(paths.vcf), paths.has_reads)
    selected = select_model(name, paths.has_reads)
    if selected.needs_reads:
        require_reads(paths.reads, selected.path)
    # Of the whole callset one allele counts: a REF that is not the reference's is an error at this one only.
    lenient = dataclasses.replace(config.tensors, on_ref_mismatch="skip")
    config = dataclasses.replace(config, tensors=lenient)
    plan = ScoringPlan.of(selected, lenient, config.score)
    with tempfile.TemporaryDirectory(prefix="cnnspark-explain-") as folder:
        place = location(folder) / "callset"
        of_model, whole = dataclasses.replace(config, tensors=plan.tensors), plan.card.scores_whole_records
        with checked_inputs(paths.absolute(), of_model, place, selected.needs_reads, True, whole) as checked:
            site = find_site(checked.inputs, str(paths.vcf), plan, at, alt)
        found = explain_site(site, plan)
        picture = Path(folder) / "tensor.png"
        drawn = draw_allele(
            site.tensors, site.index, str(picture), record_facts(site.sample, site.record), site.alts, {}
        )
        found = {"out": out, "sample": site.sample, **{k: drawn[k] for k in ("reads", "support")}, **found}
        found["summary"] = sentences(found)
        write_page(out, found, picture.read_bytes())
    return found
