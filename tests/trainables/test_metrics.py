"""Metrics agree with scikit-learn on the rows' single impressions."""

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from trainables.metrics import METRICS, NUM_BINS, defined_metrics
from trainables.scored_rows import ScoredRows
from trainables.task import TASK_METRICS, TaskKind

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

ALONE = np.arange(3)
"""Groups of three rows that have one each."""


@st.composite
def rows_with_both_outcomes(draw: st.DrawFn) -> Rows:
    # Few distinct probabilities, so that ties are common; 0 and 1 included.
    probability = st.sampled_from([0.0, 0.05, 0.2, 0.2000001, 0.5, 0.9, 1.0])
    row = st.tuples(probability, st.integers(0, 6), st.integers(0, 6))
    rows = np.array([*draw(st.lists(row, min_size=1, max_size=25)), (0.3, 1, 1), (0.3, 2, 0)])
    clicks, others = rows[:, 1], rows[:, 2]
    groups = draw(st.lists(st.integers(0, 3), min_size=len(rows) - 2, max_size=len(rows) - 2))
    # The last two rows are a group in which every metric is defined.
    return rows[:, 0], clicks, clicks + others, np.array([*groups, 7, 7])


def expand(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities, clicks, impressions, _ = rows
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

    value = METRICS["normalized_entropy"].function(np.full(3, 0.2), clicks, impressions, ALONE)

    assert value == pytest.approx(1.0)


def test_roc_auc_of_constant_predictions_is_exactly_half() -> None:
    value = METRICS["roc_auc"].function(np.full(4, 0.1), np.ones(4), np.full(4, 3.0), np.arange(4))

    assert value == 0.5


@pytest.mark.parametrize("name", ["roc_auc", "normalized_entropy"])
@pytest.mark.parametrize("clicks", [np.zeros(3), np.ones(3)])
def test_one_outcome_makes_a_metric_undefined(name: str, clicks: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"{name} is undefined: . clicks in 3 impressions"):
        METRICS[name].function(np.full(3, 0.5), clicks, np.ones(3), ALONE)


def test_average_precision_without_clicks_is_undefined() -> None:
    with pytest.raises(ValueError, match=r"pr_auc is undefined.*needs at least one click"):
        METRICS["pr_auc"].function(np.full(3, 0.5), np.zeros(3), np.ones(3), ALONE)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.1])
def test_values_that_are_no_probability_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="probability of row 1 is"):
        METRICS["log_loss"].function(np.array([0.5, wrong]), np.zeros(2), np.ones(2), np.arange(2))


def test_arrays_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one length, got shapes \(2,\), \(3,\), \(3,\), \(3,\)"):
        METRICS["roc_auc"].function(np.full(2, 0.5), np.zeros(3), np.ones(3), ALONE)


def test_more_clicks_than_impressions_are_refused() -> None:
    with pytest.raises(ValueError, match="clicks must be in"):
        METRICS["roc_auc"].function(np.full(2, 0.5), np.full(2, 2.0), np.ones(2), np.arange(2))


def test_tasks_name_registered_metrics() -> None:
    assert set(TASK_METRICS) == set(get_args(TaskKind))
    assert all(name in METRICS for names in TASK_METRICS.values() for name in names)
    assert all(name == metric.name for name, metric in METRICS.items())


def brute_calibration_error(rows: Rows) -> Fraction:
    """Sort, cut into bins of equal mass, compare; in exact arithmetic."""
    probabilities, clicks, impressions = (
        [Fraction(value) for value in column.tolist()] for column in rows[:3]
    )
    total, before = sum(impressions), Fraction(0)
    bins: dict[int, Fraction] = {}
    for probability in sorted(set(probabilities)):
        tied = [row for row, other in enumerate(probabilities) if other == probability]
        shown = sum(impressions[row] for row in tied)
        middle = (before + Fraction(shown, 2)) / total
        place = min(int(NUM_BINS * middle), NUM_BINS - 1)
        surplus = sum(impressions[row] * probability - clicks[row] for row in tied)
        bins[place] = bins.get(place, Fraction(0)) + surplus
        before += shown
    return sum((abs(surplus) for surplus in bins.values()), Fraction(0)) / total


@given(rows=rows_with_both_outcomes())
def test_calibration_error_equals_a_loop_over_bins(rows: Rows) -> None:
    assert METRICS["ece"].function(*rows) == pytest.approx(
        float(brute_calibration_error(rows)), abs=1e-12
    )


def test_calibration_error_of_a_constant_model_is_its_distance_to_the_click_rate() -> None:
    clicks = np.array([1.0, 0.0, 0.0, 3.0])

    value = METRICS["ece"].function(np.full(4, 0.25), clicks, np.full(4, 4.0), np.arange(4))

    assert value == 0.0
    value = METRICS["ece"].function(np.full(4, 0.75), clicks, np.full(4, 4.0), np.arange(4))
    assert value == pytest.approx(0.5)


def test_calibration_error_shrinks_with_the_rows_of_a_calibrated_model_alone() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(0, 1, 100_000)
    clicks, ones = (rng.random(100_000) < probabilities).astype(float), np.ones(100_000)

    calibrated = METRICS["ece"].function(probabilities, clicks, ones, np.arange(100_000))
    overconfident = METRICS["ece"].function(
        np.where(probabilities > 0.5, 0.99, 0.01), clicks, ones, np.arange(100_000)
    )

    assert calibrated < 0.01
    assert overconfident == pytest.approx(0.24, abs=0.01)


def test_what_rows_do_not_define_is_left_out() -> None:
    rows = ScoredRows.of(np.full(3, 0.5), np.array([0, 1, 0]), np.ones(3), ALONE)

    assert set(defined_metrics(TASK_METRICS["ctr"], rows)) == {*TASK_METRICS["ctr"]} - {"gauc"}


def test_no_rows_are_refused() -> None:
    empty = np.zeros(0)
    with pytest.raises(ValueError, match="no rows to measure"):
        METRICS["log_loss"].function(empty, empty, empty, empty)


@settings(max_examples=20)
@given(scale=st.floats(0.01, 100))
def test_a_common_factor_on_the_weights_changes_nothing(scale: float) -> None:
    probabilities = np.array([0.1, 0.4, 0.4, 0.8])
    clicks, impressions = np.array([0.0, 1.0, 0.0, 3.0]), np.array([2.0, 2.0, 1.0, 4.0])
    groups = np.array([0, 0, 1, 1])

    for metric in METRICS.values():
        assert metric.function(probabilities, clicks * scale, impressions * scale, groups) == (
            pytest.approx(metric.function(probabilities, clicks, impressions, groups))
        )
