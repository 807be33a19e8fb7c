"""A bundle's model card: what it is for, how good it is, what it can't do, how to load it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainables.bundle.manifest import BundleManifest

_TEMPLATE = """\
# {name}

The probability that an impression is clicked, from {columns}. {model}, fine-tuned on a log of
impressions and clicks{kept}.

Stored as {precision} it takes {size:.1f} MB, and {latency:.2f} ms for one row on {threads} thread
({machine}).

## How good it is

On the validation split, after each step; the study chose by `{metric}`.

{steps}

{test}

## How to load it

```python
from trainables.bundle import Predictor

predictor = Predictor("path/to/this/folder", num_threads=1)
predictor.predict([{example}])
```

That needs `onnxruntime`, `tokenizers` and `numpy` besides ClickTune's own code, and no torch.
`clicktune bundle verify` checks the files and replays the {num_parity} rows in `manifest.json`.

## Intended use

Ranking and bidding on impressions like those it was trained on: the same placement, the same
market, the same way of logging clicks.

## Limits

- A probability is as well calibrated as the clicks of the validation rows; recalibrate it when the
  click rate moves, and train again when products or wording do.
- Clicks are what people were shown and chose to click. Where the log favours a position or a brand,
  so do the predictions.
- Text beyond {max_tokens} tokens isn't read, and text in another language than the encoder's is
  guesswork.
{precision_limit}
## Where it came from

| | |
| --- | --- |
{origin}
"""

_INT8_LIMIT = """\
- Activations are scaled by batch, so a row's log-odds change with the rows that it is predicted
  with: by up to {spread:.2g} on validation rows.
"""


def model_card(manifest: BundleManifest) -> str:
    """Write the card of a bundle, in Markdown."""
    precision = str(manifest.compression.get("precision"))
    limit = _INT8_LIMIT.format(spread=manifest.parity.batch_spread)
    return _TEMPLATE.format(
        name=manifest.name,
        columns=_sources(manifest.columns),
        model=_model(manifest),
        max_tokens=manifest.encoder.get("max_tokens"),
        kept=_kept(manifest),
        precision=precision,
        size=_model_megabytes(manifest),
        latency=manifest.latency.median_ms,
        threads=manifest.latency.num_threads,
        machine=manifest.latency.machine,
        metric=manifest.metric,
        steps=_steps(manifest),
        test=_test(manifest.test_metrics),
        example=repr(dict(manifest.parity.rows[0])),
        num_parity=len(manifest.parity.rows),
        precision_limit=limit if precision.startswith("int8") else "",
        origin=_origin(manifest),
    )


def _sources(columns: Mapping[str, tuple[str, ...]]) -> str:
    named = {
        "its text": columns["text"],
        "its fields": columns["fields"],
        "what columns share": columns["compared"],
    }
    return " and ".join(
        f"{what} ({', '.join(f'`{name}`' for name in names)})"
        for what, names in named.items()
        if names
    )


def _model(manifest: BundleManifest) -> str:
    if not manifest.columns["text"]:
        return "A small network over embedded categories and scaled numbers"
    encoder = manifest.encoder
    has_fields = bool(manifest.columns["fields"] or manifest.columns["compared"])
    tower = ", and a tower that joins its fields" if has_fields else ""
    return (
        f"A BERT encoder ({encoder.get('name')}, up to {encoder.get('max_tokens')} tokens) with a "
        f"linear head{tower}"
    )


def _kept(manifest: BundleManifest) -> str:
    """Say what was left out of an encoder."""
    share, shapes = (manifest.compression.get(name) for name in ("keep_fraction", "shapes"))
    if not shapes or not isinstance(share, int | float):
        return ""
    return (
        f", cut to {len(shapes['heads'])} layers with {share:.0%} of their attention heads and "
        "feed-forward units"
    )


def _model_megabytes(manifest: BundleManifest) -> float:
    return float(manifest.compression.get("size_mb", manifest.num_bytes() / 1e6))


def _steps(manifest: BundleManifest) -> str:
    names = list(dict.fromkeys(name for step in manifest.steps for name in step.metrics))
    lines = [_row(["step", *names]), _row(["---"] * (len(names) + 1))]
    for step in manifest.steps:
        values = (step.metrics.get(name) for name in names)
        lines.append(_row([step.name, *("" if v is None else f"{v:.4f}" for v in values)]))
    return "\n".join(lines)


def _test(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return "It has not been scored on the test split."
    lines = ["On the test split, scored once, after the bundle was chosen:", ""]
    for name, value in metrics.items():
        shown = f"{value:.4f}" if isinstance(value, float) else json.dumps(value)
        lines.append(f"- {name}: {shown}")
    return "\n".join(lines)


def _origin(manifest: BundleManifest) -> str:
    facts = {
        "created": manifest.created,
        "trial": json.dumps(manifest.trial),
        "config hash": manifest.config_hash,
        "data fingerprint": manifest.data_fingerprint,
        "encoder fingerprint": manifest.encoder.get("fingerprint"),
        "lineage": json.dumps(manifest.lineage),
        "libraries": ", ".join(f"{name} {v}" for name, v in manifest.libraries.items()),
    }
    return "\n".join(_row([name, str(value)]) for name, value in facts.items())


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
