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
    choices = []
    for name in SHAPING:
        parameter, usual = parameters.get(name), getattr(TrialConfig(), name)
        found = () if parameter is None else tuple(parameter.choices or ())
        # What isn't there, or not under all conditions, has its default value.
        is_sometimes_left_out = parameter is None or bool(parameter.when)
        choices.append(dict.fromkeys((*found, usual) if is_sometimes_left_out else found))
    shapes: dict[str, TrialConfig] = {}
    for values in itertools.product(*choices):
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
    """Measure each shape of a space, as JSON values."""
    shapes = find_shapes(config)
    costs = measure_shapes(list(shapes.values()), data, config.encoder)
    return {key: dataclasses.asdict(cost) for key, cost in zip(shapes, costs, strict=True)}


def check_limits(config: StudyConfig, costs: Mapping[str, Mapping[str, float]]) -> None:
    """Make sure that some shape keeps within the study's limits.

    Raises:
        ValueError: with the smallest.
    """
    reasons = [over_limit(config, ShapeCost(**cost)) for cost in costs.values()]
    if None not in reasons:
        least = min(costs.values(), key=lambda cost: cost["latency_ms"])
        raise ValueError(
            f"no model of the space keeps within the limits; the fastest takes "
            f"{least['latency_ms']:.2f} ms and {least['size_mb']:.1f} MB; raise "
            "search.max_latency_ms or max_size_mb, or let space.encoder_layers be fewer"
        )


def read_costs(ledger: Ledger) -> Mapping[str, ShapeCost]:
    """Return what was measured when a study began."""
    return {key: ShapeCost(**cost) for key, cost in ledger.fact(SHAPE_COSTS_FACT, {}).items()}


def over_limit(config: StudyConfig, cost: ShapeCost) -> str | None:
    """Say which limit a shape exceeds; None if it keeps within."""
    search = config.search
    if search.max_latency_ms is not None and cost.latency_ms > search.max_latency_ms:
        return f"{cost.latency_ms:.2f} ms is above search.max_latency_ms {search.max_latency_ms:g}"
    if search.max_size_mb is not None and cost.size_mb > search.max_size_mb:
        return f"{cost.size_mb:.1f} MB is above search.max_size_mb {search.max_size_mb:g}"
    return None
