"""What the networks cost, and what a trained one was made from: the tables of ``cnnspark model-summary``.

Keras is loaded only to build or load a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspark.common.log import quiet_stderr
from cnnspark.common.storage import size
from cnnspark.models.bundle_files import NETWORK_FILE, bundle_location
from cnnspark.models.card import Card, read_card
from cnnspark.models.names import GATK_MODELS, MODELS
from cnnspark.models.spec import BINS, ModelSpec
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants.annotations import GATK_ANNOTATIONS, KNOWN

if TYPE_CHECKING:
    import keras

# Inputs that belong together, by the name that users know.
INPUTS = (
    ("reads", ("read_bases", "read_quals", "read_flags", "read_mapqs", "read_support")),
    ("reference", ("reference",)),
    ("alternate", ("alternate",)),
    ("annotations", ("annotations",)),
    ("site features", ("site_features",)),
)


def usual_spec(name: str) -> ModelSpec:
    """A spec with the annotations that cnnspark knows, or those of GATK's networks, and all site features."""
    names = GATK_ANNOTATIONS if name in GATK_MODELS else KNOWN
    # Any ascending quantiles: their values change no shape.
    edges = tuple(float(edge) for edge in range(BINS + 1))
    return ModelSpec(tuple(names), SITE_FEATURES, (edges,) * len(names), (edges,) * len(SITE_FEATURES))


def models_summary(names: Sequence[str] = (), rows: int = 32, layers: bool = False) -> dict[str, Any]:
    """The cost of untrained networks with the usual inputs.

    Args:
        names: Networks; all if there are no names.
        rows: Number of reads of the allele.
        layers: Whether each layer is listed.

    Returns:
        ``rows``, and ``models``: :func:`network_cost` by name.

    Raises:
        UsageError: if there is no such network, or ``rows`` is below the least number that a network runs on.
    """
    with quiet_stderr():
        from cnnspark.models.networks.registry import build_model

        costs = {name: network_cost(build_model(name, usual_spec(name)), rows, layers) for name in names or MODELS}
    return {"rows": rows, "models": costs}


def network_cost(model: keras.Model, rows: int, layers: bool = False) -> dict[str, Any]:
    """A network's inputs with their sizes, its parameters, MMAC for one allele with ``rows`` reads, and its layers."""
    from cnnspark.models.networks.registry import layer_costs

    costs = layer_costs(model, rows)
    shapes = {tensor.name: tensor.shape for tensor in model.inputs}
    inputs = {}
    for what, members in INPUTS:
        if any(name in shapes for name in members):
            counted = what in ("annotations", "site features")
            inputs[what] = int(shapes[members[0]][1]) if counted else None
    cost: dict[str, Any] = {
        "inputs": inputs,
        "parameters": sum(c.parameters for c in costs),
        "mmac": sum(c.macs for c in costs) / 1e6,
    }
    if layers:
        cost["layers"] = [
            {"name": c.name, "kind": c.kind, "output": list(c.output), "parameters": c.parameters, "mmac": c.macs / 1e6}
            for c in costs
        ]
    return cost


def bundle_summary(path: str | Path, rows: int = 32, layers: bool = False) -> dict[str, Any]:
    """The main facts of a bundle's card and the cost of its network.

    Args:
        path: A folder, an address on a store, or a bundled model.
        rows: Number of reads of the allele.
        layers: Whether each layer is listed.

    Raises:
        InputError: if it is not a bundle, or is damaged.
        UsageError: if ``rows`` is below the least number that a network runs on.
    """
    card = read_card(path)
    with quiet_stderr():
        from cnnspark.models.bundle import load_bundle

        cost = network_cost(load_bundle(path).model, rows, layers)
    missing = {r.name: r.missing_share for r in card.ranges}
    return {
        "bundle": str(path),
        "model": card.model,
        "sha256": card.sha256,
        "network_bytes": size(bundle_location(path) / NETWORK_FILE),
        "rows": rows,
        **cost,
        "trained_on": _trained_on(card),
        "thresholds": card.thresholds,
        "sensitivity_thresholds": card.sensitivity_thresholds,
        "calibration": asdict(card.calibration),
        "metrics": card.metrics,
        "missing_shares": missing,
        "versions": card.versions,
        **({"cascade": asdict(card.cascade)} if card.cascade else {}),
    }


def _trained_on(card: Card) -> dict[str, Any]:
    names = ("path", "train", "train_true", "train_false", "validation", "sha256")
    facts = {name: card.data[name] for name in names if name in card.data}
    more = ("imported_from", "objective", "init_sha256", "epochs", "best_epoch", "loss", "seed")
    return facts | {name: card.training[name] for name in more if name in card.training}


def models_text(summary: Mapping[str, Any]) -> str:
    """The table of :func:`models_summary` for a terminal."""
    rows = [("model", "inputs", "parameters", f"MMAC at {summary['rows']} reads")]
    for name, cost in summary["models"].items():
        rows.append((name, _inputs_text(cost["inputs"]), f"{cost['parameters']:,}", _mmac(cost["mmac"])))
    texts = [_table(rows, right=2)]
    for name, cost in summary["models"].items():
        if "layers" in cost:
            texts.append(f"{name}\n{_layers_table(cost['layers'])}")
    return "\n\n".join(texts)


def bundle_text(summary: Mapping[str, Any]) -> str:
    """The facts of :func:`bundle_summary` for a terminal."""
    trained = summary["trained_on"]
    lines = [
        f"{summary['bundle']}: {summary['model']}, SHA-256 {summary['sha256'][:16]}",
        f"network      {summary['parameters']:,} parameters, {_mmac(summary['mmac'])} MMAC at {summary['rows']} reads",
        f"inputs       {_inputs_text(summary['inputs'])}",
    ]
    if "imported_from" in trained:
        lines.append(f"weights      imported from {trained['imported_from']}")
    pretrained = trained.get("objective") == "pretrain"
    if pretrained:
        lines.append(
            f"pre-trained  on {trained.get('train', 0):,} alleles of {trained.get('path', 'an unnamed dataset')}, "
            f"best epoch {trained.get('best_epoch', '?')} of {trained.get('epochs', '?')}; "
            "'cnnspark train --init' finishes it"
        )
    elif "train" in trained:
        lines.append(
            f"trained on   {trained['train']:,} alleles ({trained.get('train_true', 0):,} true, "
            f"{trained.get('train_false', 0):,} false) of {trained.get('path', 'an unnamed dataset')}, "
            f"best epoch {trained.get('best_epoch', '?')} of {trained.get('epochs', '?')}"
        )
    calibration = summary["calibration"]
    if not pretrained:
        lines.append(f"calibration  log odds = {calibration['slope']:.4f} x logit {calibration['intercept']:+.4f}")
    if cascade := summary.get("cascade"):
        share, when = (
            cascade["passed_on"] / max(1, cascade["alleles"]),
            "" if cascade["by_default"] else ", if asked to",
        )
        lines.append(
            f"cascade      a first model scores all{when}; probabilities from {cascade['band']['low']:g} to "
            f"{cascade['band']['high']:g} go on, {share:.1%} of {cascade['alleles']:,} validation alleles"
        )
    lines.append(f"made by      {', '.join(f'{name} {version}' for name, version in summary['versions'].items())}")
    sections = ["\n".join(lines)]
    if summary["metrics"]:
        sections.append(_metrics_table(summary["metrics"]))
    for kind, name in (("precision", "thresholds"), ("sensitivity", "sensitivity_thresholds")):
        if summary[name]:
            sections.append(_thresholds_table(kind, summary[name]))
    missing = sorted(((share, name) for name, share in summary["missing_shares"].items() if share), reverse=True)
    if summary["missing_shares"]:
        text = ", ".join(f"{name} {share:.0%}" for share, name in missing) or "none"
        sections.append(f"annotations missing in training: {text}")
    if "layers" in summary:
        sections.append(_layers_table(summary["layers"]))
    return "\n\n".join(sections)


def _inputs_text(inputs: Mapping[str, int | None]) -> str:
    return ", ".join(name if count is None else f"{count} {name}" for name, count in inputs.items())


def _mmac(value: float) -> str:
    return f"{value:,.1f}" if value >= 1 else f"{value:.2f}"


def _metrics_table(metrics: Mapping[str, float]) -> str:
    """The card's metrics, a row for each and a column for each group ("AUPRC SNP": row AUPRC, column SNP)."""
    groups = ("ALL", "SNP", "INDEL")
    names = dict.fromkeys(name.rpartition(" ")[0] for name in metrics if name.rpartition(" ")[2] in groups)
    rows = [["on validation", *groups]]
    for name in names:
        values = [metrics.get(f"{name} {group}") for group in groups]
        count = name in ("alleles", "true")
        rows.append([name, *("" if v is None else f"{v:,.0f}" if count else f"{v:.4f}" for v in values)])
    return _table(rows, right=1)


def _thresholds_table(kind: str, thresholds: Mapping[str, Mapping[str, float | None]]) -> str:
    shares = sorted({share for by_share in thresholds.values() for share in by_share}, key=float)
    rows = [(f"score for {kind}", *shares)]
    for group, by_share in thresholds.items():
        values = (by_share.get(share) for share in shares)
        rows.append((group, *("-" if value is None else f"{value:.3f}" for value in values)))
    return _table(rows, right=1)


def _layers_table(layers: Sequence[Mapping[str, Any]]) -> str:
    rows = [("layer", "kind", "output", "parameters", "MMAC")]
    for layer in layers:
        shape = " x ".join(map(str, layer["output"])) or "1"
        rows.append((layer["name"], layer["kind"], shape, f"{layer['parameters']:,}", f"{layer['mmac']:.3f}"))
    return _table(rows, right=2)


def _table(rows: Sequence[Sequence[str]], right: int) -> str:
    """Columns of equal width, flush right from the column ``right`` on."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (c.ljust(w) if i < right else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
