"""The kinds of trial of a study that differ in what they cost, and how often each comes."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from search.study_config import StudyConfig
from spaces.parameters import Value
from spaces.space import Space
from spaces.trial_config import TrialConfig

MOST_SIZES, MOST_DRAWS = 4_096, 100
"""Sizes of a batch, and points, that are tried for the smallest and the largest size that
constraints allow."""

NUM_DRAWS = 500
"""Points that stand for the space; what is rarer than one in this many is not seen."""


def trial_kinds(config: StudyConfig) -> dict[TrialConfig, float]:
    """Reduce a study's trials to what memory and time depend on.

    Returns:
        A trial of each kind and batch size, to the share of the space's points that are like it.
        All of a kind have the largest rank and dropout of the space.
    """
    rng = random.Random(0)
    draws = [config.space.sample(rng) for _ in range(NUM_DRAWS)]
    for name in ("batch_size", "batch_tokens"):
        if name in config.space.parameters:
            draws += _ends(config.space, name, [point for point in draws if name in point])
    counts = Counter(_kind(point, config) for point in draws)
    return {kind: count / len(draws) for kind, count in counts.items()}


def _ends(
    space: Space, name: str, having: Sequence[dict[str, Value]]
) -> Iterator[dict[str, Value]]:
    """Return points with the smallest and the largest size that constraints allow."""
    sizes = space.parameters[name].choices or space.parameters[name].extremes()
    for ordered in (sizes, reversed(sizes)):
        resized = (
            {**point, name: size}
            for size in itertools.islice(ordered, MOST_SIZES)
            for point in having[:MOST_DRAWS]
        )
        yield from itertools.islice(filter(space.allows, resized), 1)


def sizes_to_measure(kinds: Mapping[TrialConfig, float]) -> list[TrialConfig]:
    """Choose the batch sizes of each kind between which the others can be interpolated.

    They are the smallest and the largest, and where these are far apart one between; budgets of
    tokens are sizes as well.
    """
    sizes: dict[TrialConfig, list[int]] = {}
    for kind in kinds:
        sizes.setdefault(kind.with_batch(1), []).append(kind.batch)
    chosen = []
    for kind, found in sizes.items():
        least, most = min(found), max(found)
        ends = {least, most}
        if most > 4 * least:
            ends.add(min(found, key=lambda size: abs(size * size - least * most)))
        chosen += [kind.with_batch(size) for size in sorted(ends)]
    return chosen


def describe_kind(kind: TrialConfig) -> str:
    """Name a kind of trial as a study file would."""
    words = [f"{kind.batch_name} {kind.batch}", f"method {kind.method}"]
    if kind.encoder_layers is not None:
        words.append(f"encoder_layers {kind.encoder_layers}")
    if kind.tuned_layers is not None:
        words.append(f"tuned_layers {kind.tuned_layers}")
    if kind.inputs != "all":
        words.append(f"inputs {kind.inputs}")
    return ", ".join(words)


def _kind(point: Mapping[str, Value], config: StudyConfig) -> TrialConfig:
    trial = TrialConfig(**point)  # type: ignore[arg-type]
    kind = TrialConfig(
        # So small that no trial diverges under it.
        learning_rate=1e-6,
        # Where tokens decide, all have the same number of rows, which nobody looks at.
        batch_tokens=trial.batch_tokens,
        # Without text there is no encoder to tune.
        method="lora" if trial.inputs == "fields" else trial.method,
        encoder_layers=None if trial.inputs == "fields" else trial.encoder_layers,
        tuned_layers=None if trial.inputs == "fields" else trial.top_layers,
        inputs=trial.inputs,
        field_units=int(_largest(config, "field_units", trial.field_units)),
        lora_rank=int(_largest(config, "lora_rank", trial.lora_rank)),
        dropout=_largest(config, "dropout", trial.dropout),
        epochs=config.search.epochs,
    )
    return kind.with_batch(trial.batch)


def _largest(config: StudyConfig, name: str, otherwise: float) -> float:
    parameter = config.space.parameters.get(name)
    if parameter is None:
        return otherwise
    return max(value for value in parameter.extremes() if isinstance(value, int | float))
