"""Which shapes of model a space has, and what each costs: latency and size, measured once."""

import dataclasses
import itertools
import json
from collections.abc import Mapping

from search.ledger import Ledger
from search.study_config import StudyConfig
from spaces.trial_config import TrialConfig
from trainables.compression.untrained import ShapeCost, measure_shapes
from trainables.data.prepared import PreparedData

SHAPE_COSTS_FACT = "shape_costs"
"""Of a study's ledger: what each shape costs, by :func:`shape_key`."""
SHAPING = ("inputs", "architecture", "encoder_layers")
"""Hyperparameters that change how large a model is. ``field_units`` changes it by kilobytes."""
MAX_SHAPES = 24
"""Shapes that are measured; each takes some 20 seconds."""


def shape_key(trial: TrialConfig) -> str:
    """Name the shape of a trial's model."""
    layers = None if trial.inputs == "fields" else trial.encoder_layers
    return json.dumps([trial.inputs, trial.architecture, layers])


def find_shapes(config: StudyConfig) -> dict[str, TrialConfig]:
    """Return a trial of each shape that the space has.

    Raises:
        ValueError: if there are more than :data:`MAX_SHAPES`.
    """
    parameters = config.space.parameters
    choices = [
        parameters[name].choices if name in parameters else (getattr(TrialConfig(), name),)
        for name in SHAPING
    ]
    shapes: dict[str, TrialConfig] = {}
    for values in itertools.product(*(found or () for found in choices)):
        given = dict(zip(SHAPING, values, strict=True))
        loss = "in_batch" if given["architecture"] == "two_tower" else "pointwise"
        trial = TrialConfig(**given, loss=loss)  # type: ignore[arg-type]
        shapes.setdefault(shape_key(trial), trial)
    if len(shapes) > MAX_SHAPES:
        raise ValueError(
            f"search.objectives or its limits need the latency and size of {len(shapes)} shapes of "
            f"model ({', '.join(SHAPING)}), and at most {MAX_SHAPES} are measured; let the space "
            "have fewer"
        )
    return shapes


def measured_costs(config: StudyConfig, data: PreparedData) -> dict[str, dict[str, float]]:
    """Measure each shape of a space, as JSON values; nothing where the study doesn't ask."""
    if not config.search.needs_shape_costs:
        return {}
    shapes = find_shapes(config)
    costs = measure_shapes(list(shapes.values()), data, config.encoder)
    return {key: dataclasses.asdict(cost) for key, cost in zip(shapes, costs, strict=True)}


def read_costs(ledger: Ledger) -> Mapping[str, ShapeCost]:
    """Return what was measured when a study began."""
    return {key: ShapeCost(**cost) for key, cost in ledger.fact(SHAPE_COSTS_FACT, {}).items()}


def over_limit(config: StudyConfig, cost: ShapeCost | None) -> str | None:
    """Say which limit a shape exceeds; None if it keeps within."""
    search = config.search
    if cost is None:
        return None
    if search.max_latency_ms is not None and cost.latency_ms > search.max_latency_ms:
        return f"{cost.latency_ms:.2f} ms is above search.max_latency_ms {search.max_latency_ms:g}"
    if search.max_size_mb is not None and cost.size_mb > search.max_size_mb:
        return f"{cost.size_mb:.1f} MB is above search.max_size_mb {search.max_size_mb:g}"
    return None
