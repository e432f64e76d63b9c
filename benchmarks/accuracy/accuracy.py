"""The table of models: trained on the same alleles, measured on the same alleles, with paired intervals.

    python -m benchmarks.accuracy.accuracy train --work DIR --on draws --model reads --epochs 6
    python -m benchmarks.accuracy.accuracy measure --work DIR --on draws --baseline features-1

``train`` builds the datasets it needs (once, in ``--work``), trains one model and keeps the scores that it gives to the
test alleles; ``trees`` is scikit-learn's gradient boosting on site features and annotations (without these by ``--set
train.use_annotations=false``, like a network). ``measure`` makes the table of all models that were trained on that set,
for SNP and INDEL separately: the difference to a baseline by a paired bootstrap over 40 kb stretches of the genome,
false alleles by mechanism if these are known, and what each training took.

Sets: ``freebayes`` and ``bcftools`` are the simulated callsets with real sequence, the first 60 % of each contig's
labelled alleles against the last 40 %; ``draws`` are the samples of ``benchmarks.training.draws``; ``all`` trains on
both simulated callsets as well, whole, like the bundled models.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.scoring import sim
from benchmarks.support.callsets import labelled_paths
from benchmarks.support.command import DATA, machine, table, write_results
from benchmarks.support.scoring_task import logits_of
from benchmarks.training import draws
from cnnspark import stages
from cnnspark.common.log import progress
from cnnspark.config import InputPaths, load_config
from cnnspark.errors import UsageError
from cnnspark.evaluation.calibration import calibration_figures
from cnnspark.evaluation.metrics import AlleleScores, evaluate_scores
from cnnspark.evaluation.score_reader import metrics_by_cause
from cnnspark.execution.session import spark_session
from cnnspark.filtering.score_distribution import ScoreCounts, fdr_threshold
from cnnspark.models.card import read_card
from cnnspark.models.names import MODELS
from cnnspark.models.summary import bundle_summary
from cnnspark.tensors.dataset import Dataset, decode
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.training import train as train_model
from cnnspark.training.warm_start import arranged
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.label_tables import read_causes
from cnnspark.variants.score_fields import SCORE_DIGITS

TREES = "trees"
# More than scikit-learn's 100 if there is enough data: it stops by itself on a tenth of the training alleles.
MOST_TREES = 2000
# How tensors are built for a model: a folder's suffix, whether with reads, and settings.
KINDS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "reference": ("windows", False, ()),
    "gatk_1d": ("gatk-windows", False, ("tensors.encoding=gatk",)),
    "gatk_2d": ("gatk", True, ("tensors.encoding=gatk",)),
}
USUAL_KIND = ("tensors", True, ())
KEYS = ["contig", "start", "ref", "alt", "variant_type", "label"]


@dataclass(frozen=True)
class Part:
    """Labelled alleles of one callset, and where their tensors are kept."""

    name: str
    inputs: dict[str, Any]
    regions: tuple[str, ...] = ()
    min_qual: float | None = None  # alleles with less are not measured
    causes: str | None = None


def training_parts(data: str, work: str, on: str, limit: int) -> list[Part]:
    """The parts to train on; of the draws the first ``limit``, or all if it is 0."""
    if on in sim.CALLSETS:
        return [sim_part(data, on, "first")]
    chosen = [draw_part(data, work, draw.name) for draw in draws.TRAINING[: limit or None]]
    return chosen + [Part(caller, labelled_paths(data, "sim", caller)) for caller in sim.CALLSETS if on == "all"]


def tested_parts(data: str, work: str, on: str) -> list[Part]:
    """The parts to measure on, of which no allele is trained on."""
    if on in sim.CALLSETS:
        return [sim_part(data, on, "rest")]
    parts = [draw_part(data, work, draw.name) for draw in draws.EVALUATION]
    called = draws.call_with_bcftools(str(Path(data, draws.REFERENCE)), work)
    if called:
        folder = f"{work}/mechanisms"
        files = {"vcf": called, "reads": f"{folder}/reads.bam", "truth": f"{folder}/truth.vcf.gz"}
        files |= {"bed": f"{folder}/confident.bed", "reference": str(Path(data, draws.REFERENCE))}
        parts.append(Part("bcftools-calls", files, causes=f"{folder}/causes.tsv"))
    return parts


def chosen_tests(options: argparse.Namespace) -> list[Part]:
    """The parts of :func:`tested_parts` that the command line names, or all."""
    parts = tested_parts(options.data, options.work, options.on)
    return [part for part in parts if not options.tests or part.name in options.tests]


def draw_part(data: str, work: str, name: str) -> Part:
    """A simulated sample of ``benchmarks.training.draws``."""
    files = {"vcf": "callset.vcf.gz", "reads": "reads.bam", "labels": "labels.tsv"}
    inputs = {key: f"{work}/{name}/{file}" for key, file in files.items()}
    return Part(
        name, inputs | {"reference": str(Path(data, draws.REFERENCE))}, causes=f"{work}/{name}/causes.tsv"
    )  # fmt: skip


def sim_part(data: str, caller: str, part: str) -> Part:
    """The ``first`` or the ``rest`` of a simulated callset's labelled alleles."""
    regions = sim.parts(data, caller)[part]
    return Part(f"{caller}-{part}", labelled_paths(data, "sim", caller), regions, sim.CALLSETS[caller])


def require_current(path: str, feature_names: Sequence[str]) -> None:
    """Refuses kept tensors with other site features than those that are built today; GATK's encoding has none.

    Raises:
        UsageError: If the site features differ.
    """
    if tuple(feature_names) not in ((), SITE_FEATURES):
        raise UsageError(f"{path} has the site features of another version; remove it, or choose another folder")


def dataset_of(part: Part, model: str, work: str, more: Sequence[str] = ()) -> str:
    """The tensors of a part as a model takes them, with ``more`` settings, built unless they are there.

    Raises:
        UsageError: If another version built those that are there.
    """
    suffix, with_reads, settings = KINDS.get(model, USUAL_KIND)
    out = f"{work}/{part.name}.{suffix}"
    if not Path(out, "_SUCCESS").exists():
        inputs = {key: path for key, path in part.inputs.items() if with_reads or key != "reads"}
        config = load_config(None, [*draws.SETTINGS, *settings, *more])
        paths = InputPaths(**inputs, regions=part.regions)
        stages.build_dataset(spark_session("accuracy", "local[*]"), paths, out, config, if_exists="resume")
    else:
        require_current(out, Dataset(out).feature_names)
    return out


def row_groups(dataset: Dataset, columns: Sequence[str] | None = None) -> Iterator[dict[str, np.ndarray]]:
    """All row groups of a dataset in the files' order."""
    return dataset.read([block["block"] for block in dataset.blocks], columns)


def tabled(dataset: Dataset, with_annotations: bool = True) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Key columns (n,), and the columns of numbers (n,) by name: annotations and then site features, NaN if missing.

    ``with_annotations=False`` leaves the annotations out.
    """
    parts = list(row_groups(dataset, [*KEYS, "annotations", "site_features"]))
    keys = {name: np.concatenate([part[name] for part in parts]) for name in KEYS}
    values = [
        np.concatenate([np.stack(list(part[name])) for part in parts]) for name in ("annotations", "site_features")
    ]
    names = (*dataset.annotation_names, *dataset.feature_names)
    columns = dict(zip(names, np.concatenate(values, axis=1).T, strict=True))
    return keys, columns if with_annotations else {name: columns[name] for name in dataset.feature_names}


def tree_scores(train: Sequence[str], tests: Sequence[str], seed: int, with_annotations: bool) -> list[np.ndarray]:
    """The log odds of each test dataset's alleles by trees grown on the training datasets together."""

    tables = [tabled(Dataset(path), with_annotations) for path in train]
    names = list(dict.fromkeys(name for _, values in tables for name in values))

    def matrix(values: dict[str, np.ndarray]) -> np.ndarray:
        n = len(next(iter(values.values())))
        return np.stack([values.get(name, np.full(n, np.nan, np.float32)) for name in names], axis=1)

    trees = HistGradientBoostingClassifier(random_state=seed, max_iter=MOST_TREES if len(tables) > 1 else 100)
    trees.fit(
        np.concatenate([matrix(values) for _, values in tables]), np.concatenate([keys["label"] for keys, _ in tables])
    )
    progress(f"{trees.n_iter_} trees")
    return [np.asarray(trees.decision_function(matrix(tabled(Dataset(path))[1]))) for path in tests]


def network_scores(bundle_path: str, dataset_path: str) -> np.ndarray:
    """The logits of a bundle on a dataset's alleles, float64 (n,), in the files' order."""
    from cnnspark.models.bundle import load_bundle

    bundle, dataset, scores = load_bundle(bundle_path), Dataset(dataset_path), []
    # Of another caller: the annotations that it has in common, the rest missing.
    columns = [dataset.annotation_names.index(n) if n in dataset.annotation_names else -1
               for n in bundle.card.annotation_names]  # fmt: skip
    of_features = [dataset.feature_names.index(name) for name in bundle.card.feature_names]
    for values in row_groups(dataset):
        tensors = decode(values)
        tensors.annotations = arranged(tensors.annotations, columns)
        tensors.site_features = arranged(tensors.site_features, of_features)
        scores.append(logits_of(bundle, tensors))
    return np.concatenate(scores)


def train(options: argparse.Namespace) -> None:
    """Trains one model and keeps the scores of the test alleles, and how long each took."""
    name = options.name or f"{options.model}-{options.seed}"
    kept = Path(options.work, options.on, name)
    if options.on not in sim.CALLSETS:
        draws.make_samples(draws.DRAWS, str(Path(options.data, draws.REFERENCE)), options.work)
    parts = training_parts(options.data, options.work, options.on, options.limit)
    tests = chosen_tests(options)
    paths = [dataset_of(part, options.model, options.work) for part in parts]
    tested = [dataset_of(part, options.model, options.work) for part in tests]
    kept.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"model": options.model, "seed": options.seed, "machine": machine()}
    started = time.monotonic()
    if options.model == TREES:
        with_annotations = load_config(None, options.settings).train.use_annotations
        scores = tree_scores(paths, tested, options.seed, with_annotations)
        facts["train_seconds"] = time.monotonic() - started
    else:
        given = [f"train.model={options.model}", f"train.epochs={options.epochs}", f"train.seed={options.seed}",
                 f"train.replicas={options.replicas}", f"train.validation={options.validation}"]  # fmt: skip
        settings = load_config(None, [*given, *options.settings]).train
        bundle = f"{kept}/bundle"
        result = train_model(spark_session("accuracy", "local[*]"), paths, bundle, settings, progress)
        facts |= {"train_seconds": time.monotonic() - started, "epochs": options.epochs, "replicas": options.replicas}
        facts |= {"settings": options.settings, "best_epoch": result.best_epoch}
        started = time.monotonic()
        scores = [network_scores(bundle, path) for path in tested]
        facts["score_rate"] = sum(map(len, scores)) / (time.monotonic() - started)
    for part, values in zip(tests, scores, strict=True):
        np.save(kept / f"{part.name}.npy", values)
    facts["alleles"] = sum(Dataset(path).card["tensors"] for path in paths)
    (kept / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def kept_scores(part: Part, options: argparse.Namespace, name: str) -> np.ndarray:
    """The scores (n,) of a training; computed now if the part was not measured then."""
    folder = Path(options.work, options.on, name)
    kept = folder / f"{part.name}.npy"
    if not kept.exists():
        model = json.loads((folder / "facts.json").read_text())["model"]
        np.save(kept, network_scores(f"{folder}/bundle", dataset_of(part, model, options.work)))
    return np.load(kept)


def alleles_of(part: Part, options: argparse.Namespace, names: Sequence[str]) -> AlleleScores:
    """The test alleles of a part with the kept scores of the named trainings."""
    dataset = Dataset(dataset_of(part, "features", options.work))
    keys, values = tabled(dataset)
    causes = read_causes(part.causes) if part.causes else {}
    key_list = list(zip(keys["contig"], keys["start"].tolist(), keys["ref"], keys["alt"], strict=True))
    scores = {"QUAL": values["QUAL"].astype(np.float64)}
    scores |= {name: kept_scores(part, options, name) for name in names}
    scores |= {" + ".join(some): np.mean([scores[name] for name in some], axis=0) for some in options.average}
    alleles = AlleleScores(
        contig=keys["contig"].astype(np.str_),
        start=keys["start"],
        variant_type=keys["variant_type"],
        label=keys["label"],
        scores=scores,
        cause=np.array([causes.get(key, "") for key in key_list], dtype=np.str_),
    )
    return alleles if part.min_qual is None else alleles.select(values["QUAL"] >= part.min_qual)


def kept_promises(alleles: AlleleScores, name: str, bundle: str) -> dict[str, Any]:
    """How well a card's calibration and thresholds hold on alleles that training never saw."""
    card = read_card(bundle)
    logits, is_true = card.calibration(alleles.scores[name]), alleles.label == 1
    chances = 1 / (1 + np.exp(-logits))
    row: dict[str, Any] = {"scores": name, "calibration error": f"{calibration_figures(is_true, chances)[1]:.4f}"}
    is_indel = np.array([VariantType(kind).is_indel for kind in alleles.variant_type])
    promises = (card.thresholds, "0.99", "precision"), (card.sensitivity_thresholds, "0.999", "sensitivity")
    for by_share, share, of in promises:
        thresholds = [by_share[group].get(share) for group in ("INDEL", "SNP")]
        if None not in thresholds:
            kept = logits >= np.where(is_indel, *thresholds)
            found = is_true[kept].mean() if of == "precision" else kept[is_true].mean()
            row[f"{of} at the threshold for {share}"] = f"{found:.4f}"
    passed = passed_by_fdr(logits, is_indel, 0.01)
    row["precision by --fdr 0.01"] = f"{is_true[passed].mean():.4f}" if passed.any() else ""
    row["recall by it"] = f"{passed[is_true].mean():.4f}"
    return row


def passed_by_fdr(logits: np.ndarray, is_indel: np.ndarray, wanted: float) -> np.ndarray:
    """Which alleles (n,) pass ``cnnspark filter --fdr``: its thresholds are the callset's own for each type."""
    scores, passed = np.round(logits, SCORE_DIGITS), np.zeros(len(logits), bool)
    for group in (is_indel, ~is_indel):
        threshold = fdr_threshold(ScoreCounts.of(scores[group]), wanted)
        if threshold is not None:
            passed |= group & (scores >= threshold)
    return passed


def cost(name: str, bundle: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What a training took, and what its network costs; ``alleles/s`` is the rate of scoring tensors on disk."""
    row = {"scores": name, "model": facts["model"], "trained on": facts["alleles"], "epochs": facts.get("epochs", "")}
    row["training s"] = f"{facts['train_seconds']:,.0f}"
    row["MMAC"] = f"{bundle_summary(bundle)['mmac']:.2f}" if Path(bundle).exists() else ""
    row["alleles/s"] = f"{facts['score_rate']:,.0f}" if "score_rate" in facts else ""
    return row


def metric_rows(measured: dict[str, Any], baseline: str) -> list[dict[str, str]]:
    """The table of AUPRC, AUROC and recall by type, with each score's gain over the baseline."""
    rows = []
    for group in ("ALL", "SNP", "INDEL"):
        for name, values in measured[group].items():
            gain = values.get("auprc_gain")
            rows.append({
                "scores": name, "type": group,
                "AUPRC": f"{values['auprc']:.4f} ({values['auprc_low']:.4f}-{values['auprc_high']:.4f})",
                "AUROC": f"{values['auroc']:.4f}",
                "R@P.99": f"{values['recall_at_precision_0.99'] or 0:.4f}",
                f"AUPRC - {baseline}": "" if gain is None else
                f"{gain:+.4f} ({values['auprc_gain_low']:+.4f} to {values['auprc_gain_high']:+.4f})",
            })  # fmt: skip
    return rows


def cause_rows(by_cause: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of each cause's false alleles against all true ones."""
    return [
        {"cause": cause, "false": by_score["QUAL"]["n_false"]}
        | {name: f"{by_score[name]['auroc']:.4f}" for name in by_score}
        for cause, by_score in by_cause.items()
    ]


def measure_part(part: Part, options: argparse.Namespace, names: Sequence[str], bundles: dict[str, str]) -> dict:
    """Prints the tables of one part; returns its results."""
    alleles = alleles_of(part, options, names)
    measured = evaluate_scores(alleles, baseline=options.baseline)
    promised = [kept_promises(alleles, name, bundle) for name, bundle in bundles.items()]
    true = int((alleles.label == 1).sum())
    print(f"\n{part.name}: {len(alleles.label)} alleles, {true} true\n{table(metric_rows(measured, options.baseline))}")
    if promised:
        print(f"\nwhat the cards promise\n{table(promised)}")
    results: dict[str, Any] = {"metrics": measured, "promised": promised}
    if part.causes:
        results["by_cause"] = metrics_by_cause(alleles)
        print(f"\nAUROC against all true alleles\n{table(cause_rows(results['by_cause']))}")
    return results


def measure(options: argparse.Namespace) -> None:
    """Prints the tables of all models that were trained on the set."""
    folder = Path(options.work, options.on)
    names = options.names or sorted(path.parent.name for path in folder.glob("*/facts.json"))
    if not names:
        raise SystemExit(f"nothing was trained in {folder}; run the command 'train' first")
    facts = {name: json.loads((folder / name / "facts.json").read_text()) for name in names}
    bundles = {name: f"{folder}/{name}/bundle" for name in names}
    print(table([cost(name, bundles[name], facts[name]) for name in names]))
    bundles = {name: bundle for name, bundle in bundles.items() if Path(bundle).exists()}
    parts = {part.name: measure_part(part, options, names, bundles) for part in chosen_tests(options)}
    write_results(options, {"facts": facts, **parts})


def names_of(text: str) -> list[str]:
    """Splits names at commas."""
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training_parser, measuring = commands.add_parser("train"), commands.add_parser("measure")
    for command, run in ((training_parser, train), (measuring, measure)):
        command.set_defaults(run=run)
        command.add_argument("--data", default=DATA)
        command.add_argument("--work", required=True, help="folder for samples, tensors, models and scores")
        command.add_argument("--on", choices=[*sim.CALLSETS, "draws", "all"], required=True)
        command.add_argument("--tests", type=names_of, help="parts of the set to measure [all]")
    training_parser.add_argument("--model", choices=[*MODELS, TREES], required=True)
    training_parser.add_argument("--name", help="name of the training [MODEL-SEED]")
    training_parser.add_argument("--limit", type=int, default=0, help="number of draws to train on [all]")
    training_parser.add_argument("--epochs", type=int, default=10)
    training_parser.add_argument("--replicas", type=int, default=1)
    training_parser.add_argument("--seed", type=int, default=1)
    training_parser.add_argument("--validation", default="0.1")
    training_parser.add_argument("--set", dest="settings", action="append", default=[])
    measuring.add_argument("--baseline", default=f"{TREES}-1", help="what the others are compared with")
    measuring.add_argument("--average", type=names_of, action="append", default=[], metavar="NAME,NAME",
                           help="also their mean log odds")  # fmt: skip
    measuring.add_argument("--json", metavar="FILE")
    measuring.add_argument("names", nargs="*", help="which trainings [all]")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
