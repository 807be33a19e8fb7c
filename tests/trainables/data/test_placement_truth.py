"""The true value of every placement follows from a simulated log and its truth."""

import numpy as np
import pandas as pd
import pytest

from trainables.data import marketplace
from trainables.data.placement_truth import (
    PLACEMENTS,
    logged_placements,
    placement_probabilities,
)
from trainables.data.simulate import Simulation, SimulationConfig, simulate


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(
        SimulationConfig(num_impressions=60_000, num_products=60, num_queries=20, num_users=50)
    )


def test_the_logged_placement_has_the_row_s_own_probability(simulation: Simulation) -> None:
    probabilities = placement_probabilities(simulation.log, simulation.truth)

    assert probabilities.shape == (60_000, 18)
    logged = probabilities[np.arange(60_000), logged_placements(simulation.log)]
    assert logged == pytest.approx(simulation.truth["probability"].to_numpy(), rel=1e-9)


def test_rows_that_differ_in_placement_alone_have_equal_probabilities(
    simulation: Simulation,
) -> None:
    log = simulation.log
    probabilities = placement_probabilities(log, simulation.truth)
    # All that the formula reads beside the placement.
    alike = log.groupby(["segment", "query", "title", "hour", log["weekday"] >= 5])

    groups = [rows for rows in alike.indices.values() if len(rows) > 3]

    assert len(groups) > 500
    assert set(logged_placements(log)[np.concatenate(groups)]) == set(range(18))
    for rows in groups[:500]:
        assert np.ptp(probabilities[rows], axis=0) == pytest.approx(np.zeros(18), abs=1e-12)


def test_propensities_are_the_shares_of_placements(simulation: Simulation) -> None:
    log = simulation.log
    shares = np.bincount(logged_placements(log), minlength=18) / len(log)
    propensity = log.groupby(["ad_format", "position"])["propensity"].agg(["min", "max"])

    assert (propensity["min"] == propensity["max"]).all()
    assert propensity["min"].sum() == pytest.approx(1)
    # Formats are drawn for pages of six rows.
    by_format = np.array([share for share, _ in marketplace.AD_FORMATS.values()])
    error = np.sqrt(by_format * (1 - by_format) / (len(log) / 6))
    expected = propensity["min"].loc[list(PLACEMENTS)].to_numpy()
    assert (np.abs(shares - expected).reshape(3, 6) <= 4 * error[:, None] / 6).all()


def test_an_aggregated_log_has_no_placements() -> None:
    simulation = simulate(SimulationConfig(num_impressions=600, aggregate=True))

    assert "propensity" not in simulation.log
    with pytest.raises(ValueError, match="no column ad_format and no column position; an aggreg"):
        placement_probabilities(simulation.log, simulation.truth)


def test_a_placement_that_is_not_simulated_is_refused() -> None:
    log = pd.DataFrame({"ad_format": ["listing", "popup"], "position": [1, 1]})

    with pytest.raises(ValueError, match="row 1 was shown in 'popup', position 1"):
        logged_placements(log)


def test_another_log_s_truth_is_refused(simulation: Simulation) -> None:
    with pytest.raises(ValueError, match="the log has 60,000 rows, but the truth 5"):
        placement_probabilities(simulation.log, simulation.truth.head(5))
