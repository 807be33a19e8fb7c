"""Metrics by group equal what a loop over groups, and over all orders of a tie, finds."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from trainables.group_metrics import DEPTH
from trainables.metrics import METRICS

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
RANKING = (f"ndcg@{DEPTH}", "mrr", f"recall@{DEPTH}", "map")


@st.composite
def grouped_rows(draw: st.DrawFn) -> Rows:
    # Few distinct scores, so that ties are common; four at most, so that all orders can be tried.
    score = st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0])
    row = st.tuples(score, st.integers(0, 2), st.integers(0, 3))
    groups = draw(st.lists(st.lists(row, min_size=1, max_size=5), min_size=0, max_size=5))
    groups.append([(0.3, 1, 1), (0.3, 0, 2)])
    rows = np.array([row for group in groups for row in group], dtype=float)
    codes = np.repeat(np.arange(len(groups)) * 3 % 7, [len(group) for group in groups])
    order = draw(st.permutations(range(len(rows))))
    rows, codes = rows[order], codes[order]
    return rows[:, 0], rows[:, 1], rows[:, 1] + rows[:, 2], codes


def ndcg_of(gains: list[float]) -> float:
    def dcg(values: list[float]) -> float:
        return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(values[:DEPTH]))

    return dcg(gains) / dcg(sorted(gains, reverse=True))


def reciprocal_rank_of(gains: list[float]) -> float:
    return 1 / next(rank for rank, gain in enumerate(gains, 1) if gain > 0)


def recall_of(gains: list[float]) -> float:
    return sum(gain > 0 for gain in gains[:DEPTH]) / sum(gain > 0 for gain in gains)


def average_precision_of(gains: list[float]) -> float:
    ranks = [rank for rank, gain in enumerate(gains, 1) if gain > 0]
    return sum(found / rank for found, rank in enumerate(ranks, 1)) / len(ranks)


OF_A_RANKING: dict[str, Callable[[list[float]], float]] = dict(
    zip(RANKING, (ndcg_of, reciprocal_rank_of, recall_of, average_precision_of), strict=True)
)


def brute_ranking(rows: Rows, of_a_ranking: Callable[[list[float]], float]) -> float:
    """Average over groups of the average over every order that the scores allow."""
    scores, clicks, impressions, groups = (column.tolist() for column in rows)
    values = []
    for group in sorted(set(groups)):
        members = [row for row, other in enumerate(groups) if other == group]
        if len(members) < 2 or not any(clicks[row] for row in members):
            continue
        gains = {row: clicks[row] / impressions[row] if clicks[row] else 0.0 for row in members}
        orders = [
            order
            for order in itertools.permutations(members)
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
        ]
        values.append(
            sum(of_a_ranking([gains[row] for row in order]) for order in orders) / len(orders)
        )
    return sum(values) / len(values)


@pytest.mark.parametrize("name", RANKING)
@given(rows=grouped_rows())
def test_a_ranking_metric_is_its_mean_over_all_orders_of_ties(name: str, rows: Rows) -> None:
    expected = brute_ranking(rows, OF_A_RANKING[name])

    assert METRICS[name].function(*rows) == pytest.approx(expected, abs=1e-9)


@given(rows=grouped_rows())
def test_gauc_equals_a_loop_over_groups(rows: Rows) -> None:
    scores, clicks, impressions, groups = rows
    total = weight = 0.0
    for group in np.unique(groups):
        inside = groups == group
        counts = np.concatenate([clicks[inside], (impressions - clicks)[inside]])
        labels = np.repeat([1, 0], inside.sum())
        if inside.sum() < 2 or len(set(labels[counts > 0])) < 2:
            continue
        auc = roc_auc_score(labels, np.tile(scores[inside], 2), sample_weight=counts)
        total += auc * counts.sum()
        weight += counts.sum()

    assert METRICS["gauc"].function(*rows) == pytest.approx(total / weight, abs=1e-9)


def test_ndcg_equals_scikit_learn_on_long_lists() -> None:
    rng = np.random.default_rng(0)
    # Rounded, so that some scores are equal, which scikit-learn averages over as well.
    scores = rng.random((50, 40)).round(1)
    impressions = rng.integers(1, 5, (50, 40))
    clicks = rng.binomial(impressions, 0.1)
    clicks[:, 0] = 1
    expected = ndcg_score(clicks / impressions, scores, k=DEPTH)

    value = METRICS[f"ndcg@{DEPTH}"].function(
        scores.ravel(), clicks.ravel(), impressions.ravel(), np.repeat(np.arange(50), 40)
    )

    assert value == pytest.approx(expected)


@pytest.mark.parametrize("name", [*RANKING, "gauc"])
def test_a_constant_model_is_as_good_as_a_random_one(name: str) -> None:
    rng = np.random.default_rng(0)
    clicks = (rng.random((300, 30)) < 0.1).astype(float)
    # The clicks come first, where a stable sort would leave them.
    clicks = -np.sort(-clicks, axis=1).ravel()
    ones, groups = np.ones(9_000), np.repeat(np.arange(300), 30)

    constant = METRICS[name].function(np.full(9_000, 0.2), clicks, ones, groups)

    random = np.mean(
        [METRICS[name].function(rng.random(9_000), clicks, ones, groups) for _ in range(30)]
    )
    assert constant == pytest.approx(random, abs=0.01)


@pytest.mark.parametrize("name", [*RANKING, "gauc"])
def test_a_perfect_model_gets_one_and_the_reverse_the_least(name: str) -> None:
    rng = np.random.default_rng(0)
    clicks = (rng.random(600) < 0.2).astype(float)
    groups, ones = np.arange(600) // 30, np.ones(600)
    scores = np.where(clicks > 0, 0.5, 0.0) + rng.random(600) / 2

    best, worst = (
        METRICS[name].function(given, clicks, ones, groups) for given in (scores, 1 - scores)
    )

    assert best == pytest.approx(1)
    assert worst < 0.2


@pytest.mark.parametrize("name", [*RANKING, "gauc"])
def test_groups_of_one_row_rank_nothing(name: str) -> None:
    clicks, impressions = np.array([1.0, 2.0, 0.0]), np.array([2.0, 5.0, 4.0])

    with pytest.raises(ValueError, match=rf"{name} is undefined.*in 3 groups; .*several rows"):
        METRICS[name].function(np.array([0.1, 0.4, 0.3]), clicks, impressions, np.arange(3))


@pytest.mark.parametrize("name", [*RANKING, "gauc"])
def test_groups_without_a_click_do_not_count(name: str) -> None:
    scores, clicks = np.array([0.9, 0.2, 0.5, 0.4]), np.array([1.0, 0.0, 0.0, 0.0])

    value = METRICS[name].function(scores, clicks, np.ones(4), np.array([5, 5, 2, 2]))

    assert value == pytest.approx(1)


def test_gauc_weights_groups_by_impressions_and_ranking_metrics_do_not() -> None:
    scores, groups = np.array([0.9, 0.1, 0.1, 0.9]), np.array([0, 0, 1, 1])
    clicks, impressions = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 5.0])

    gauc, mrr = (
        METRICS[name].function(scores, clicks, impressions, groups) for name in ("gauc", "mrr")
    )

    assert gauc == pytest.approx(2 / 8)
    assert mrr == pytest.approx((1 + 1 / 2) / 2)


def test_a_group_of_a_million_tied_rows_is_exact() -> None:
    clicks = np.zeros(1_000_000)
    clicks[:3] = 1
    ones = np.ones(1_000_000)

    value = METRICS["mrr"].function(ones / 2, clicks, ones, np.zeros(1_000_000, dtype=int))

    n, places = 1_000_000.0, np.arange(1.0, 999_999.0)
    first = 3 * (n - places) * (n - places - 1) / (n * (n - 1) * (n - 2))
    assert value == pytest.approx(float((first / places).sum()), rel=1e-9)
