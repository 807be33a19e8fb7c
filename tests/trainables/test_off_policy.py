"""Estimates of a policy's value are right on average, as sure as they say, or warn."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tests.trainables.simulated_placements import (
    PlacementLog,
    estimate_all,
    policies,
    simulate_placements,
    true_value,
)
from trainables.off_policy import PolicyValue, doubly_robust, ips, snips

NUM_LOGS = 200
NUM_IMPRESSIONS = 9_000
OPEN_BANDIT = (
    Path(__file__).resolve().parents[3] / "shared" / "data" / "open_bandit_impressions.parquet"
)

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def log() -> PlacementLog:
    return simulate_placements(0, NUM_IMPRESSIONS)


@st.composite
def logged_rows(draw: st.DrawFn) -> Rows:
    """Rewards, propensities and policy probabilities, one of them above 0."""
    row = st.tuples(
        st.sampled_from([0.0, 0.0, 1.0, 2.5, -1.0]), st.floats(0.01, 1.0), st.floats(0.0, 1.0)
    )
    rows = np.array([*draw(st.lists(row, min_size=1, max_size=30)), (1.0, 0.5, 0.5)])
    return rows[:, 0], rows[:, 1], rows[:, 2]


def draw_log(
    rng: np.random.Generator, num_rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of two placements: clicks, propensities, placements and (n, 2) click probabilities."""
    click_probability = rng.uniform(0.05, 0.6, (num_rows, 2))
    second = rng.random(num_rows) < 0.3
    placements = second.astype(np.int64)
    clicks = rng.random(num_rows) < click_probability[np.arange(num_rows), placements]
    return clicks.astype(float), np.where(second, 0.3, 0.7), placements, click_probability


def intervals(*values: PolicyValue) -> np.ndarray:
    return np.array([(value.low, value.high) for value in values])


@settings(deadline=None)
@given(rows=logged_rows())
def test_the_logging_policy_s_own_value_is_the_mean_reward(rows: Rows) -> None:
    rewards, propensities, _ = rows
    error = rewards.std(ddof=1) / len(rewards) ** 0.5

    for value in (
        ips(rewards, propensities, propensities),
        snips(rewards, propensities, propensities),
        doubly_robust(rewards, propensities, propensities, rewards * 0, rewards * 0),
    ):
        assert value.value == pytest.approx(rewards.mean())
        assert value.effective_sample_size == pytest.approx(len(rewards))
        assert value.largest_weight == value.mean_weight == pytest.approx(1)
        # Skewness shifts the interval; without it, it is as wide as the normal's.
        assert value.low <= value.value <= value.high
        assert value.high - value.low >= 2 * 1.95 * error


@settings(deadline=None)
@given(rows=logged_rows(), factor=st.floats(0.1, 1.0))
def test_the_self_normalized_estimate_does_not_depend_on_the_weights_scale(
    rows: Rows, factor: float
) -> None:
    rewards, propensities, chosen = rows

    value = snips(rewards, propensities, chosen)
    scaled = snips(rewards, propensities, chosen * factor)

    assert scaled.value == pytest.approx(value.value)
    assert intervals(scaled) == pytest.approx(intervals(value))
    assert scaled.effective_sample_size == pytest.approx(value.effective_sample_size)
    assert rewards.min() - 1e-9 <= value.value <= rewards.max() + 1e-9


@settings(deadline=None)
@given(rows=logged_rows(), shift=st.floats(-5, 5))
def test_estimates_follow_a_constant_added_to_rewards(rows: Rows, shift: float) -> None:
    rewards, propensities, chosen = rows

    def both(added: float) -> np.ndarray:
        predicted = np.full(len(rewards), 0.4 + added)
        return intervals(
            snips(rewards + added, propensities, chosen),
            doubly_robust(rewards + added, propensities, chosen, predicted, predicted),
        )

    assert both(shift) == pytest.approx(both(0.0) + shift, abs=1e-6)


@settings(deadline=None)
@given(rows=logged_rows(), copies=st.integers(2, 4))
def test_copied_rows_add_nothing_when_they_are_clusters(rows: Rows, copies: int) -> None:
    clusters = np.arange(len(rows[0]))
    repeated = [np.repeat(array, copies) for array in rows]

    for estimate in (ips, snips):
        value = estimate(*rows, clusters=clusters)
        again = estimate(*repeated, clusters=np.repeat(clusters, copies))
        assert again.value == pytest.approx(value.value)
        assert intervals(again) == pytest.approx(intervals(value))


def test_estimates_are_unbiased(np_rng: np.random.Generator) -> None:
    wrong, values, truths = 0.9, [], []
    for _ in range(400):
        clicks, propensities, placements, probability = draw_log(np_rng, 200)
        # Always the better placement, except for one row in ten.
        policy = np.where(probability == probability.max(axis=1, keepdims=True), 0.9, 0.1)
        chosen = policy[np.arange(200), placements]
        flat = np.full(200, wrong)
        estimates = (
            ips(clicks, propensities, chosen),
            snips(clicks, propensities, chosen),
            doubly_robust(clicks, propensities, chosen, flat, flat),
        )
        values.append([value.value for value in estimates])
        truths.append((policy * probability).sum(axis=1).mean())

    errors = np.array(values) - np.array(truths)[:, None]
    assert (np.abs(errors.mean(axis=0)) < 4 * errors.std(axis=0) / len(errors) ** 0.5).all()


def test_a_perfect_model_narrows_the_interval_and_a_wrong_one_only_widens_it(
    np_rng: np.random.Generator,
) -> None:
    clicks, propensities, placements, probability = draw_log(np_rng, 20_000)
    policy = np.where(probability == probability.max(axis=1, keepdims=True), 1.0, 0.0)
    rows = np.arange(len(clicks))
    chosen = policy[rows, placements]
    truth = (policy * probability).sum(axis=1).mean()

    def with_model(predicted: np.ndarray) -> PolicyValue:
        expected = (policy * predicted).sum(axis=1)
        return doubly_robust(clicks, propensities, chosen, predicted[rows, placements], expected)

    perfect, wrong = with_model(probability), with_model(5 - 3 * probability)
    widths = np.ptp(intervals(perfect, ips(clicks, propensities, chosen), wrong), axis=1)

    # What is left is the clicks' own chance, which no model can predict.
    assert widths[0] < 0.85 * widths[1] < widths[1] < widths[2]
    assert perfect.low < truth < perfect.high
    assert wrong.low < truth < wrong.high


@pytest.mark.slow
def test_intervals_hold_the_true_value_at_their_nominal_rate() -> None:
    held: dict[tuple[str, str], int] = defaultdict(int)
    for seed in range(NUM_LOGS):
        log = simulate_placements(seed, NUM_IMPRESSIONS)
        for name, policy in policies(log).items():
            truth = true_value(log, policy)
            for estimator, value in estimate_all(log, policy, log.predicted).items():
                held[name, estimator] += value.low <= truth <= value.high

    # Of 200 intervals that each hold it with 95 %, from 181 to 197 do, in 99 % of such tests.
    low, high = binom.interval(0.99, NUM_LOGS, 0.95)
    assert len(held) == 6
    assert {key: count for key, count in held.items() if not low <= count <= high} == {}


def test_a_log_with_enough_rows_warns_of_nothing(log: PlacementLog) -> None:
    for policy in policies(log).values():
        for value in estimate_all(log, policy, log.predicted).values():
            assert value.warning == ""
            assert value.num_rows == NUM_IMPRESSIONS
            assert value.mean_weight == pytest.approx(1, abs=0.2)


@settings(deadline=None)
@given(rows=logged_rows(), unit=st.sampled_from([1e-120, 1e120]))
def test_estimates_do_not_depend_on_the_rewards_unit(rows: Rows, unit: float) -> None:
    rewards, propensities, chosen = rows

    value, scaled = snips(*rows), snips(rewards * unit, propensities, chosen)

    assert intervals(scaled) / unit == pytest.approx(intervals(value), abs=1e-9)


def test_rewards_that_cancel_out_have_an_interval() -> None:
    halves = np.full(3, 0.5)

    value = ips(np.array([1.0, -1.0, 1e-110]), halves, halves)

    assert (value.low, value.high) == pytest.approx((-1.96 / 3**0.5, 1.96 / 3**0.5), rel=1e-3)


def test_few_effective_rows_and_few_clicks_are_warned_of() -> None:
    log = simulate_placements(0, 600)

    for value in estimate_all(log, policies(log)["greedy"], log.predicted).values():
        assert f"effective sample size is {value.effective_sample_size:.1f} of 600" in value.warning
        assert "rewarded rows have a weight, fewer than 10" in value.warning


def test_a_policy_that_the_log_never_followed_has_no_value() -> None:
    clicks, half = np.array([0.0, 1.0, 1.0]), np.full(3, 0.5)

    values = (
        ips(clicks, half, np.zeros(3)),
        snips(clicks, half, np.zeros(3)),
        doubly_robust(clicks, half, np.zeros(3), half, np.full(3, 0.2)),
    )

    assert [value.value for value in values] == pytest.approx([0, np.nan, 0.2], nan_ok=True)
    for value in values:
        assert (value.low, value.high) == (-np.inf, np.inf)
        assert value.effective_sample_size == 0
        assert "the log says nothing about it" in value.warning


def test_a_policy_that_chooses_what_is_never_logged_is_warned_of(
    np_rng: np.random.Generator,
) -> None:
    clicks, propensities, placements, _ = draw_log(np_rng, 2_000)
    half_elsewhere = np.where(placements == 1, 0.5, 0.0)

    value = snips(clicks, propensities, half_elsewhere)

    assert f"the mean weight is {value.mean_weight:.3g}, not 1" in value.warning


def test_rows_of_one_user_are_not_counted_as_independent(np_rng: np.random.Generator) -> None:
    clicks, propensities, placements, _ = draw_log(np_rng, 500)
    users = np.repeat(np.arange(500), 8)
    clicks, propensities, placements = (
        np.repeat(array, 8) for array in (clicks, propensities, placements)
    )
    chosen = np.where(placements == 1, 0.6, 0.4)

    alone, clustered = (
        ips(clicks, propensities, chosen, clusters=clusters) for clusters in (None, users)
    )

    assert np.ptp(intervals(clustered)) == pytest.approx(
        np.ptp(intervals(alone)) * 8**0.5, rel=0.05
    )
    few = ips(clicks, propensities, chosen, clusters=users // 50)
    assert "only 10 clusters, fewer than 40" in few.warning


def test_clipping_trades_variance_for_bias(log: PlacementLog) -> None:
    chosen = policies(log)["greedy"][np.arange(NUM_IMPRESSIONS), log.placements]
    logged = (log.clicks, log.propensities, chosen)

    free, clipped = ips(*logged), ips(*logged, max_weight=15)

    assert free.largest_weight == pytest.approx(6 / 0.15)
    assert clipped.largest_weight == 15
    assert clipped.value < free.value
    assert np.ptp(intervals(clipped)) < np.ptp(intervals(free))
    assert clipped.effective_sample_size > free.effective_sample_size
    assert "mean weight" not in clipped.warning


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"propensities": [0.5, 0.0, 1.0]}, r"propensity of row 1 is 0.0, expected .* in \(0, 1\]"),
        ({"propensities": [0.5, 0.5, 1.1]}, r"propensity of row 2 is 1.1, expected"),
        ({"propensities": [np.nan, 0.5, 1.0]}, "propensities of row 0 is nan, expected a finite"),
        (
            {"policy_probabilities": [0.5, -0.1, 1.0]},
            r"policy probability of row 1 is -0.1, expected a number in \[0, 1\]",
        ),
        ({"propensities": [0.5, 0.5, 1e-310]}, "over propensity of row 2 is inf, expected"),
        ({"rewards": [0.0, np.inf, 1.0]}, "rewards of row 1 is inf, expected a finite number"),
        ({"rewards": [0.0, 1.0]}, r"propensities must have shape \(2,\) like rewards, got \(3,\)"),
        ({"rewards": [[0.0], [1.0], [0.0]]}, r"rewards must have shape \(n,\), got \(3, 1\)"),
        ({"predicted": [0.1, 0.1]}, r"predicted must have shape \(3,\) like rewards, got \(2,\)"),
        ({"expected": [0.1, 0.1, np.nan]}, "expected of row 2 is nan"),
        ({"clusters": [0, 1]}, r"clusters must have shape \(3,\) like rewards, got \(2,\)"),
        ({"clusters": [7, 7, 7]}, "at least 2 independent rows or clusters, got 1 of 3 rows"),
        ({"max_weight": 0.0}, "max_weight must be above 0, got 0.0"),
        ({"max_weight": np.nan}, "max_weight must be above 0, got nan"),
    ],
)
def test_what_no_log_can_hold_is_refused(changed: dict[str, object], message: str) -> None:
    arguments = {
        "rewards": [0.0, 1.0, 0.0],
        "propensities": [0.5, 0.2, 1.0],
        "policy_probabilities": [0.0, 0.5, 1.0],
        "predicted": [0.1, 0.1, 0.1],
        "expected": [0.1, 0.2, 0.3],
    } | changed

    with pytest.raises(ValueError, match=message):
        doubly_robust(**arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def open_bandit() -> pd.DataFrame:
    if not OPEN_BANDIT.is_file():
        pytest.skip(f"the Open Bandit impressions are not at {OPEN_BANDIT}")
    return pd.read_parquet(OPEN_BANDIT)


@pytest.mark.parametrize("policy", ["random", "bts"])
def test_open_bandit_s_logging_policies_earn_their_own_click_rate(
    open_bandit: pd.DataFrame, policy: str
) -> None:
    rows = open_bandit[open_bandit["policy"] == policy]
    clicks, propensities = rows["click"].to_numpy(), rows["propensity_score"].to_numpy()

    for estimate in (ips, snips):
        value = estimate(clicks, propensities, propensities)
        assert value.value == pytest.approx(clicks.mean())
        assert value.effective_sample_size == pytest.approx(len(rows))
        assert value.warning == ""


def test_open_bandit_s_thompson_rows_tell_what_random_rows_earn(open_bandit: pd.DataFrame) -> None:
    rows = {name: open_bandit[open_bandit["policy"] == name] for name in ("bts", "random")}
    clicks = rows["bts"]["click"].to_numpy()
    propensities = rows["bts"]["propensity_score"].to_numpy()
    uniform = np.full(len(clicks), 1 / open_bandit["item_id"].nunique())

    shown = rows["random"]
    own = ips(*(shown[name].to_numpy() for name in ("click", "propensity_score")), uniform)

    assert (shown["propensity_score"] == uniform[0]).all()
    for value in (ips(clicks, propensities, uniform), snips(clicks, propensities, uniform)):
        assert value.mean_weight == pytest.approx(1, abs=0.1)
        # 10,000 rows of which a few items' are most: about 340 rows of the random policy.
        assert 300 < value.effective_sample_size < 400
        assert value.low < own.value < value.high
        assert value.warning == ""
