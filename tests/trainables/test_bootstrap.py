"""Intervals cover what they should, draw whole groups, and are found quickly."""

import time

import numpy as np
import pytest

from trainables.bootstrap import bootstrap_difference, bootstrap_interval
from trainables.metrics import METRICS
from trainables.scored_rows import ScoredRows

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def scored() -> Scored:
    rng = np.random.default_rng(3)
    probabilities = rng.uniform(0.05, 0.4, 2_000)
    impressions = rng.integers(1, 4, 2_000).astype(float)
    return probabilities, rng.binomial(impressions.astype(int), probabilities), impressions


@pytest.mark.parametrize("name", METRICS)
def test_interval_contains_the_metric_and_is_the_same_for_the_same_seed(
    scored: Scored, name: str
) -> None:
    groups = np.arange(2_000) // 20
    intervals = [
        bootstrap_interval(METRICS[name], *scored, groups, rng=np.random.default_rng(0))
        for _ in range(2)
    ]

    low, high = intervals[0]
    assert low < METRICS[name].function(*scored, groups) < high
    assert intervals[0] == intervals[1]


def test_thousand_resamples_of_two_thousand_rows_take_less_than_a_second(scored: Scored) -> None:
    started = time.process_time()
    bootstrap_interval(METRICS["roc_auc"], *scored, np.arange(2_000), rng=np.random.default_rng(0))

    assert time.process_time() - started < 1


def test_blocks_of_resamples_give_what_single_resamples_give(
    scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tuple(array[:50] for array in scored)
    metric, groups = METRICS["roc_auc"], np.arange(50)
    at_once = bootstrap_interval(
        metric, *rows, groups, num_resamples=20, rng=np.random.default_rng(0)
    )
    monkeypatch.setattr("trainables.bootstrap.BLOCK_ELEMENTS", 1)

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


def test_paired_difference_of_a_model_with_itself_is_zero(scored: Scored) -> None:
    interval = bootstrap_difference(
        METRICS["roc_auc"],
        scored[0],
        *scored,
        np.arange(2_000),
        num_resamples=50,
        rng=np.random.default_rng(0),
    )

    assert interval == (0.0, 0.0)


def test_paired_difference_finds_the_better_model(scored: Scored) -> None:
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


def test_one_group_gives_no_interval(scored: Scored) -> None:
    with pytest.raises(ValueError, match="at least 2 groups to draw from, got 1"):
        bootstrap_interval(
            METRICS["roc_auc"], *scored, np.zeros(2_000), rng=np.random.default_rng(0)
        )


@pytest.mark.parametrize("name", METRICS)
def test_a_weighting_counts_a_group_as_its_copies(scored: Scored, name: str) -> None:
    groups = np.arange(200) // 10
    rows = tuple(array[:200] for array in scored)
    drawn = np.random.default_rng(1).integers(0, 4, 20)
    copies = [
        (np.flatnonzero(groups == group), 100 * group + copy)
        for group, times in enumerate(drawn)
        for copy in range(times)
    ]
    copied = np.concatenate([members for members, _ in copies])
    names = np.concatenate([np.full(len(members), code) for members, code in copies])

    weighted = METRICS[name].kernel(ScoredRows.of(*rows, groups))(
        np.stack([drawn[groups], np.ones(200)]).astype(float)
    )

    if name == "ece":
        # Its bins stay those of the rows as they are.
        assert weighted[1] == pytest.approx(METRICS[name].function(*rows, groups))
        return
    expected = METRICS[name].function(*(array[copied] for array in rows), names)
    assert weighted == pytest.approx([expected, METRICS[name].function(*rows, groups)])


@pytest.mark.parametrize("name", METRICS)
def test_thousand_resamples_of_twenty_thousand_rows_take_seconds(name: str) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(0.05, 0.4, 20_000)
    clicks = (rng.random(20_000) < probabilities).astype(float)
    started = time.process_time()

    bootstrap_interval(
        METRICS[name], probabilities, clicks, np.ones(20_000), np.arange(20_000) // 10, rng=rng
    )

    assert time.process_time() - started < 8


def test_interval_of_the_calibration_error_is_as_wide_as_it_varies() -> None:
    rng = np.random.default_rng(0)
    metric, ones, groups = METRICS["ece"], np.ones(1_000), np.arange(1_000)
    probabilities = rng.uniform(0.1, 0.9, 1_000)
    samples = [(rng.random(1_000) < probabilities**1.5).astype(float) for _ in range(60)]
    values = [metric.function(probabilities, clicks, ones, groups) for clicks in samples]
    expected = float(np.mean(values))

    covered = [
        low < expected < high
        for low, high in (
            bootstrap_interval(
                metric, probabilities, clicks, ones, groups, num_resamples=200, rng=rng
            )
            for clicks in samples
        )
    ]

    assert np.mean(covered) > 0.85
