"""Losses equal what loops over rows and groups find, and pull where they should."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.losses import RANKING_LOSSES, binomial_loss, in_batch_loss

Row = tuple[float, float, int]
"""Log-odds, click rate, group."""

ROWS = st.lists(
    st.tuples(st.floats(-6, 6), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8),
    logit=st.floats(-5, 5),
)
def test_aggregated_loss_is_the_sum_over_single_impressions(
    counts: list[tuple[int, int]], logit: float
) -> None:
    logits = torch.full((len(counts),), logit, dtype=torch.float64)
    clicks = torch.tensor([c for c, _ in counts], dtype=torch.float32)
    impressions = torch.tensor([c + rest for c, rest in counts], dtype=torch.float32)
    labels = list(itertools.chain.from_iterable([1.0] * c + [0.0] * rest for c, rest in counts))

    aggregated = binomial_loss(logits, clicks=clicks, impressions=impressions)

    single = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.full((len(labels),), logit, dtype=torch.float32),
        torch.tensor(labels),
        reduction="sum",
    )
    assert float(aggregated) == pytest.approx(float(single), rel=1e-4, abs=1e-4)


def as_tensors(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits, rates, groups = zip(*rows, strict=True)
    return torch.tensor(logits), torch.tensor(rates), torch.tensor(groups)


def by_group(rows: list[Row]) -> list[list[Row]]:
    return [[row for row in rows if row[2] == group] for group in sorted({row[2] for row in rows})]


def brute_pairwise(group: list[Row]) -> float | None:
    pairs = [(a, b) for a in group for b in group if a[1] > b[1]]
    if not pairs:
        return None
    weights = [above[1] - below[1] for above, below in pairs]
    losses = [math.log1p(math.exp(below[0] - above[0])) for above, below in pairs]
    return float(np.average(losses, weights=weights))


def brute_listwise(group: list[Row]) -> float | None:
    total = sum(row[1] for row in group)
    if len(group) < 2 or not total:
        return None
    normalizer = math.log(sum(math.exp(row[0]) for row in group))
    return sum(row[1] / total * (normalizer - row[0]) for row in group)


BRUTE = {"pairwise": brute_pairwise, "listwise": brute_listwise}


@pytest.mark.parametrize("name", RANKING_LOSSES)
@settings(deadline=None)
@given(rows=ROWS)
def test_a_ranking_loss_is_the_sum_over_groups(name: str, rows: list[Row]) -> None:
    logits, rates, groups = as_tensors(rows)
    expected = [found for group in by_group(rows) if (found := BRUTE[name](group)) is not None]

    loss, count = RANKING_LOSSES[name](logits, rates=rates, groups=groups)

    assert float(count) == len(expected)
    assert float(loss.detach()) == pytest.approx(sum(expected), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", RANKING_LOSSES)
@settings(deadline=None)
@given(rows=ROWS, shifts=st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_shifting_all_log_odds_of_a_group_changes_nothing(
    name: str, rows: list[Row], shifts: list[float]
) -> None:
    logits, rates, groups = as_tensors(rows)

    loss, _ = RANKING_LOSSES[name](logits, rates=rates, groups=groups)
    shifted, _ = RANKING_LOSSES[name](
        logits + torch.tensor(shifts)[groups], rates=rates, groups=groups
    )

    assert float(shifted) == pytest.approx(float(loss), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_the_gradient_lifts_clicked_rows_above_the_others_of_their_group(name: str) -> None:
    logits = torch.zeros(6, requires_grad=True)
    rates = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    groups = torch.tensor([0, 0, 0, 1, 1, 2])

    loss, count = RANKING_LOSSES[name](logits, rates=rates, groups=groups)
    loss.backward()

    assert logits.grad is not None
    assert logits.grad[0] < 0 < logits.grad[1] == logits.grad[2]
    assert float(logits.grad[:3].sum()) == pytest.approx(0, abs=1e-6)
    # Two rows that were clicked alike, and one that is alone, have nothing to tell.
    assert logits.grad[3:].tolist() == [0, 0, 0]
    assert float(count) == {"pairwise": 1, "listwise": 2}[name]


@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_huge_log_odds_and_groups_without_a_click_stay_finite(name: str) -> None:
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    rates, groups = torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([0, 0, 1, 1])

    loss, _ = RANKING_LOSSES[name](logits, rates=rates, groups=groups)
    loss.backward()

    assert float(loss.detach()) == pytest.approx(2e4)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_a_batch_without_a_lesson_has_no_gradient(name: str) -> None:
    logits = torch.randn(4, requires_grad=True)

    loss, count = RANKING_LOSSES[name](logits, rates=torch.zeros(4), groups=torch.arange(4))
    loss.backward()

    assert float(loss.detach()) == float(count) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_in_batch_loss_is_the_cross_entropy_of_clicked_rows() -> None:
    rng = np.random.default_rng(0)
    logits, clicks = rng.normal(size=(5, 5)), np.array([1.0, 0.0, 2.0, 0.0, 1.0])
    excluded = rng.random((5, 5)) < 0.3
    expected = 0.0
    for row in range(5):
        rivals = [j for j in range(5) if j == row or not excluded[row, j]]
        normalizer = math.log(sum(math.exp(logits[row, j]) for j in rivals))
        expected += clicks[row] * (normalizer - logits[row, row])

    loss, count = in_batch_loss(
        torch.tensor(logits), clicks=torch.tensor(clicks), excluded=torch.tensor(excluded)
    )

    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(count) == 4
