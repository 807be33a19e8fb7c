"""The choice among candidates: fast and small, within every limit, or none with a reason."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.compression.choice import (
    FINALIST_MARGIN,
    LATENCY_NOISE,
    choose,
    find_finalists,
)
from trainables.compression.config import CompressionConfig
from trainables.compression.report import Candidate

CANDIDATE = Candidate(
    keep_fraction=0.5,
    precision="int8",
    metrics={"roc_auc": 0.6},
    metric_drop=0.0,
    metric_drop_at_most=0.0,
    latency_ms=2.0,
    size_mb=20.0,
    shapes={"heads": [1], "widths": [16]},
    steps=(("uncompressed", {"roc_auc": 0.6}),),
)


def _candidates(*facts: tuple[float, float, float]) -> list[Candidate]:
    return [
        dataclasses.replace(
            CANDIDATE,
            metric_drop=drop,
            metric_drop_at_most=drop,
            latency_ms=latency,
            size_mb=size,
        )
        for drop, latency, size in facts
    ]


def test_the_fastest_within_the_limit_is_chosen() -> None:
    candidates = _candidates((0, 9, 90), (0.004, 3, 30), (0.006, 1, 10))

    chosen, reason = choose(candidates, CompressionConfig(), "roc_auc")

    assert chosen == 1
    assert "fastest of 2 candidates within the limits" in reason
    assert "0.0040 worse than uncompressed" in reason


def test_of_about_equally_fast_ones_the_smallest_is_chosen() -> None:
    candidates = _candidates((0, 2.00, 60), (0, 2.05, 20), (0, 2.5, 5))

    assert choose(candidates, CompressionConfig(), "roc_auc")[0] == 1


def test_finalists_are_those_that_may_have_been_timed_in_a_bad_moment() -> None:
    slow = 2.0 * (1 + FINALIST_MARGIN)
    candidates = _candidates((0, 2.0, 60), (0, slow - 0.1, 20), (0, slow + 0.1, 5), (0.1, 1, 1))

    # Also where the limit says that both are too slow: it is what they are timed for.
    assert find_finalists(candidates, CompressionConfig(max_latency_ms=1.0)) == [0, 1]
    assert find_finalists(_candidates((0.1, 1, 1)), CompressionConfig()) == []


def test_a_limit_of_latency_or_size_may_decide() -> None:
    candidates = _candidates((0, 2.0, 60), (0, 4.0, 20))

    assert choose(candidates, CompressionConfig(max_size_mb=30), "roc_auc")[0] == 1
    assert choose(candidates, CompressionConfig(max_latency_ms=3), "roc_auc")[0] == 0


def test_where_none_is_within_the_limits_the_nearest_is_named() -> None:
    candidates = _candidates((0.012, 2, 10), (0.030, 1, 5))

    chosen, reason = choose(candidates, CompressionConfig(), "roc_auc")

    assert chosen is None
    assert "none of 2 candidates is within the limits; nearest is 1 layer at 50%, int8" in reason
    assert "0.0120 worse" in reason
    assert "beyond max_metric_drop 0.005" in reason


def test_with_confidence_the_limit_is_about_what_may_be_lost() -> None:
    likely, sure = _candidates((0.002, 1, 10), (0.001, 2, 20))
    likely = dataclasses.replace(likely, metric_drop_at_most=0.006)

    chosen, reason = choose([likely, sure], CompressionConfig(confidence=0.95), "roc_auc")

    assert chosen == 1
    assert "0.0010 worse than uncompressed, at most 0.0010 worse with 95% confidence" in reason


def test_a_candidate_that_gives_no_number_is_never_chosen() -> None:
    candidates = _candidates((float("nan"), 1, 1), (0, 2, 2))

    assert choose(candidates, CompressionConfig(), "roc_auc")[0] == 1


facts = st.tuples(st.floats(-0.05, 0.05), st.floats(0.1, 50), st.floats(1, 500))
limits = st.none() | st.floats(0.1, 300)


@given(
    values=st.lists(facts, min_size=1, max_size=8),
    drop=st.floats(0, 0.05),
    latency=limits,
    size=limits,
)
def test_what_is_chosen_is_within_every_limit_and_none_is_clearly_faster(
    values: list[tuple[float, float, float]],
    drop: float,
    latency: float | None,
    size: float | None,
) -> None:
    candidates = _candidates(*values)
    config = CompressionConfig(max_metric_drop=drop, max_latency_ms=latency, max_size_mb=size)

    def within(candidate: Candidate) -> bool:
        return (
            candidate.metric_drop <= drop
            and (latency is None or candidate.latency_ms <= latency)
            and (size is None or candidate.size_mb <= size)
        )

    chosen, reason = choose(candidates, config, "roc_auc")

    assert reason
    if chosen is None:
        assert not any(within(candidate) for candidate in candidates)
        return
    assert within(candidates[chosen])
    fastest = min(c.latency_ms for c in candidates if within(c))
    assert candidates[chosen].latency_ms <= fastest * (1 + LATENCY_NOISE)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"max_metric_drop": 1.0}, r"max_metric_drop must be in \[0, 1\)"),
        ({"confidence": 0.4}, "confidence must be from 0.5 to 0.99"),
        ({"confidence": 0.999}, "confidence must be from 0.5 to 0.99"),
        ({"max_latency_ms": 0.0}, "max_latency_ms must be above 0 or null"),
        ({"max_size_mb": -1.0}, "max_size_mb must be above 0 or null"),
        ({"keep_fractions": ()}, "keep_fractions must list shares"),
        ({"layer_fractions": (1.5,)}, r"layer_fractions must list shares in \(0, 1\]"),
        ({"keep_fractions": (1.0, 0.0)}, "keep_fractions must list shares"),
        ({"max_size_mb": float("nan")}, "max_size_mb must be above 0 or null"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"recovery_epochs": -1}, "recovery_epochs must be at least 0"),
        ({"recovery_rows": 0}, "recovery_rows must be at least 1"),
        ({"importance_rows": 0}, "importance_rows must be at least 1"),
        ({"recovery_learning_rate": 0.0}, r"recovery_learning_rate must be in \(0, 1\]"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        CompressionConfig(**setting)  # type: ignore[arg-type]
