"""Metrics agree with scikit-learn on the rows' single impressions."""

import time
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from trainables.metrics import METRICS, bootstrap_difference, bootstrap_interval
from trainables.task import TASK_METRICS, TaskKind

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def rows_with_both_outcomes(draw: st.DrawFn) -> Rows:
    # Few distinct probabilities, so that ties are common; 0 and 1 included.
    probability = st.sampled_from([0.0, 0.05, 0.2, 0.2000001, 0.5, 0.9, 1.0])
    row = st.tuples(probability, st.integers(0, 6), st.integers(0, 6))
    rows = np.array([*draw(st.lists(row, min_size=1, max_size=25)), (0.3, 1, 1)])
    clicks, others = rows[:, 1], rows[:, 2]
    return rows[:, 0], clicks, clicks + others


def expand(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities, clicks, impressions = rows
    labels = np.repeat([1, 0], len(clicks))
    return labels, np.tile(probabilities, 2), np.concatenate([clicks, impressions - clicks])


@given(rows=rows_with_both_outcomes())
def test_metrics_equal_scikit_learn_on_expanded_rows(rows: Rows) -> None:
    labels, probabilities, weights = expand(rows)
    kept = weights > 0
    labels, probabilities, weights = labels[kept], probabilities[kept], weights[kept]

    assert METRICS["roc_auc"].function(*rows) == pytest.approx(
        reference.roc_auc_score(labels, probabilities, sample_weight=weights), abs=1e-9
    )
    assert METRICS["pr_auc"].function(*rows) == pytest.approx(
        reference.average_precision_score(labels, probabilities, sample_weight=weights), abs=1e-9
    )
    assert METRICS["log_loss"].function(*rows) == pytest.approx(
        reference.log_loss(labels, probabilities, sample_weight=weights), rel=1e-9
    )


@given(rows=rows_with_both_outcomes(), order_seed=st.integers(0, 100))
def test_metrics_do_not_depend_on_row_order(rows: Rows, order_seed: int) -> None:
    order = np.random.default_rng(order_seed).permutation(len(rows[0]))

    for metric in METRICS.values():
        shuffled = metric.function(*(array[order] for array in rows))
        assert shuffled == pytest.approx(metric.function(*rows), rel=1e-9)


def test_normalized_entropy_of_the_base_rate_is_one() -> None:
    clicks, impressions = np.array([1.0, 4.0, 0.0]), np.array([10.0, 10.0, 5.0])

    value = METRICS["normalized_entropy"].function(np.full(3, 0.2), clicks, impressions)

    assert value == pytest.approx(1.0)


def test_roc_auc_of_constant_predictions_is_exactly_half() -> None:
    value = METRICS["roc_auc"].function(np.full(4, 0.1), np.ones(4), np.full(4, 3.0))

    assert value == 0.5


@pytest.mark.parametrize("name", ["roc_auc", "normalized_entropy"])
@pytest.mark.parametrize("clicks", [np.zeros(3), np.ones(3)])
def test_one_outcome_makes_a_metric_undefined(name: str, clicks: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"{name} is undefined: . clicks in 3 impressions"):
        METRICS[name].function(np.full(3, 0.5), clicks, np.ones(3))


def test_average_precision_without_clicks_is_undefined() -> None:
    with pytest.raises(ValueError, match=r"pr_auc is undefined.*needs at least one click"):
        METRICS["pr_auc"].function(np.full(3, 0.5), np.zeros(3), np.ones(3))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.1])
def test_values_that_are_no_probability_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="probability of row 1 is"):
        METRICS["log_loss"].function(np.array([0.5, wrong]), np.zeros(2), np.ones(2))


def test_arrays_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one length, got shapes \(2,\), \(3,\), \(3,\)"):
        METRICS["roc_auc"].function(np.full(2, 0.5), np.zeros(3), np.ones(3))


def test_more_clicks_than_impressions_are_refused() -> None:
    with pytest.raises(ValueError, match="clicks must be in"):
        METRICS["roc_auc"].function(np.full(2, 0.5), np.full(2, 2.0), np.ones(2))


def test_registry_and_tasks_name_the_same_metrics() -> None:
    named = {name for kind in get_args(TaskKind) for name in TASK_METRICS[kind]}

    assert named == set(METRICS)
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.fixture(scope="module")
def scored() -> Rows:
    rng = np.random.default_rng(3)
    probabilities = rng.uniform(0.05, 0.4, 2_000)
    impressions = rng.integers(1, 50, 2_000).astype(float)
    return probabilities, rng.binomial(impressions.astype(int), probabilities), impressions


@pytest.mark.parametrize("name", METRICS)
def test_interval_contains_the_metric_and_is_the_same_for_the_same_seed(
    scored: Rows, name: str
) -> None:
    groups = np.arange(2_000) // 2
    intervals = [
        bootstrap_interval(METRICS[name], *scored, groups, rng=np.random.default_rng(0))
        for _ in range(2)
    ]

    low, high = intervals[0]
    assert low < METRICS[name].function(*scored) < high
    assert intervals[0] == intervals[1]


def test_thousand_resamples_of_two_thousand_rows_take_less_than_a_second(scored: Rows) -> None:
    started = time.process_time()
    bootstrap_interval(METRICS["roc_auc"], *scored, np.arange(2_000), rng=np.random.default_rng(0))

    assert time.process_time() - started < 1


def test_blocks_of_resamples_give_what_single_resamples_give(
    scored: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tuple(array[:50] for array in scored)
    metric, groups = METRICS["roc_auc"], np.arange(50)
    at_once = bootstrap_interval(
        metric, *rows, groups, num_resamples=20, rng=np.random.default_rng(0)
    )
    monkeypatch.setattr("trainables.metrics.BLOCK_ELEMENTS", 1)

    one_by_one = bootstrap_interval(
        metric, *rows, groups, num_resamples=20, rng=np.random.default_rng(0)
    )

    assert one_by_one == pytest.approx(at_once)


def test_larger_groups_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    # Rows inside a group are copies, so a thousand rows hold only fifty independent ones.
    probabilities = np.repeat(rng.uniform(0.1, 0.9, 50), 20)
    clicks = np.repeat(rng.integers(0, 2, 50), 20)
    impressions = np.ones(1_000)
    metric = METRICS["roc_auc"]

    alone = bootstrap_interval(
        metric, probabilities, clicks, impressions, np.arange(1_000), rng=rng
    )
    grouped = bootstrap_interval(
        metric, probabilities, clicks, impressions, np.arange(1_000) // 20, rng=rng
    )

    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])


def test_paired_difference_of_a_model_with_itself_is_zero(scored: Rows) -> None:
    interval = bootstrap_difference(
        METRICS["roc_auc"],
        scored[0],
        *scored,
        np.arange(2_000),
        num_resamples=50,
        rng=np.random.default_rng(0),
    )

    assert interval == (0.0, 0.0)


def test_paired_difference_finds_the_better_model(scored: Rows) -> None:
    worse = np.clip(scored[0] + np.random.default_rng(1).normal(0, 0.1, 2_000), 0, 1)

    low, high = bootstrap_difference(
        METRICS["roc_auc"],
        scored[0],
        worse,
        *scored[1:],
        np.arange(2_000),
        rng=np.random.default_rng(0),
    )

    assert 0 < low < high


def test_one_group_gives_no_interval(scored: Rows) -> None:
    with pytest.raises(ValueError, match="at least 2 groups to draw from, got 1"):
        bootstrap_interval(
            METRICS["roc_auc"], *scored, np.zeros(2_000), rng=np.random.default_rng(0)
        )


@settings(max_examples=20)
@given(scale=st.floats(0.01, 100))
def test_a_common_factor_on_the_weights_changes_nothing(scale: float) -> None:
    probabilities = np.array([0.1, 0.4, 0.4, 0.8])
    clicks, impressions = np.array([0.0, 1.0, 0.0, 3.0]), np.array([2.0, 2.0, 1.0, 4.0])

    for metric in METRICS.values():
        assert metric.function(probabilities, clicks * scale, impressions * scale) == (
            pytest.approx(metric.function(probabilities, clicks, impressions))
        )
