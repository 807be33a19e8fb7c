"""The simulated log is reproducible, follows its stated model, and needs more than single words."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.baselines import tfidf_baseline
from trainables.data import marketplace
from trainables.data.config import Columns, DataConfig, SplitConfig
from trainables.data.simulate import Simulation, SimulationConfig, simulate, write_simulation
from trainables.data.table import load_clicks
from trainables.data.truth import true_probabilities
from trainables.metrics import METRICS
from trainables.task import TaskConfig

PAIRS = Columns(text=("query", "title"), clicks="clicks", impressions="impressions", group="query")


@pytest.fixture(scope="module")
def log() -> Simulation:
    return simulate(SimulationConfig(num_impressions=60_000))


@pytest.fixture(scope="module")
def pairs() -> Simulation:
    return simulate(SimulationConfig(aggregate=True))


def test_equal_seeds_give_equal_logs_and_others_do_not() -> None:
    first, again, other = (
        simulate(SimulationConfig(num_impressions=600, seed=seed)) for seed in (0, 0, 1)
    )

    pd.testing.assert_frame_equal(first.log, again.log)
    pd.testing.assert_frame_equal(first.truth, again.truth)
    assert not first.log["title"].equals(other.log["title"])


def test_a_log_has_one_row_an_impression_and_no_truth_in_it(log: Simulation) -> None:
    assert len(log.log) == 60_000
    assert set(log.log["label"]) == {0, 1}
    assert "probability" not in log.log
    assert log.log["timestamp"].is_monotonic_increasing
    assert set(log.log["position"]) == set(range(1, len(marketplace.EXAMINATION) + 1))
    assert set(log.log["ad_format"]) == set(marketplace.AD_FORMATS)
    assert set(log.log["segment"]) == set(marketplace.SEGMENTS)


def test_clicks_occur_with_their_stated_probability(log: Simulation) -> None:
    probability = log.truth["probability"]
    deciles = pd.qcut(probability, 10, labels=False)

    for _, label in log.log["label"].groupby(deciles):
        expected = probability[label.index]
        error = np.sqrt((expected * (1 - expected)).sum()) / len(label)
        assert label.mean() == pytest.approx(expected.mean(), abs=4 * error)


def test_lower_positions_are_clicked_less(log: Simulation) -> None:
    rates = log.log.groupby("position")["label"].mean()

    assert rates.iloc[-1] / rates.iloc[0] == pytest.approx(
        marketplace.EXAMINATION[-1] / marketplace.EXAMINATION[0], abs=0.12
    )


def test_synonyms_of_a_query_never_occur_in_titles(pairs: Simulation) -> None:
    words = set(" ".join(pairs.log["title"]).lower().split())
    synonyms = {word for category in marketplace.CATEGORIES for word in category.searched_as}

    assert words.isdisjoint(synonyms)


def test_titles_are_short_and_pairs_are_distinct(pairs: Simulation) -> None:
    lengths = pairs.log["title"].str.split().str.len()

    assert lengths.between(5, 12).all()
    assert not pairs.log.duplicated(["query", "title"]).any()


def test_aggregated_rows_count_every_impression(pairs: Simulation) -> None:
    assert pairs.log["impressions"].sum() == 120_000
    assert (pairs.log["clicks"] <= pairs.log["impressions"]).all()
    expected = (pairs.truth["probability"] * pairs.log["impressions"]).sum()
    assert pairs.log["clicks"].sum() == pytest.approx(expected, rel=0.03)


def test_single_words_reach_visibly_less_than_the_ceiling(
    pairs: Simulation, tmp_path: Path
) -> None:
    file = write_simulation(pairs, tmp_path)
    config = DataConfig(
        path=str(file),
        truth=str(tmp_path / "truth.parquet"),
        columns=PAIRS,
        split=SplitConfig(by="group"),
    )
    table = load_clicks(config, TaskConfig())
    test = table.split == 2

    baseline = METRICS["roc_auc"].function(
        tfidf_baseline(table, METRICS["roc_auc"]).test_probabilities,
        table.clicks[test],
        table.impressions[test],
        table.groups[test],
    )

    assert 0.54 < baseline < 0.65
    ceiling = METRICS["roc_auc"].function(
        true_probabilities(config, table)[test],
        table.clicks[test],
        table.impressions[test],
        table.groups[test],
    )
    assert 0.72 < ceiling < 0.80


@pytest.mark.parametrize("format", ["parquet", "csv", "csv.gz"])
def test_the_truth_is_written_apart_and_read_back_for_each_row(tmp_path: Path, format: str) -> None:
    simulation = simulate(SimulationConfig(num_impressions=3_000, aggregate=True))
    file = write_simulation(simulation, tmp_path, format)  # type: ignore[arg-type]
    config = DataConfig(path=str(file), columns=PAIRS, truth=str(tmp_path / f"truth.{format}"))

    table = load_clicks(config, TaskConfig())

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"log.{format}", "model.json", f"truth.{format}"]
    )
    assert true_probabilities(config, table) == pytest.approx(simulation.truth["probability"])


def test_the_model_is_written_with_its_formula_and_coefficients(tmp_path: Path) -> None:
    write_simulation(simulate(SimulationConfig(num_impressions=60)), tmp_path)

    model = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))

    assert "sigmoid(" in model["model"]
    assert model["brand_appeal"] == marketplace.BRANDS
    assert model["settings"]["num_impressions"] == 60


def test_a_truth_of_another_simulation_is_refused(tmp_path: Path) -> None:
    file = write_simulation(
        simulate(SimulationConfig(num_impressions=3_000, aggregate=True)), tmp_path / "a"
    )
    write_simulation(simulate(SimulationConfig(num_impressions=600)), tmp_path / "b")
    config = DataConfig(path=str(file), columns=PAIRS, truth=str(tmp_path / "b" / "truth.parquet"))

    with pytest.raises(ValueError, match="must come from the same simulation"):
        true_probabilities(config, load_clicks(config, TaskConfig()))


def test_a_study_without_truth_has_no_ceiling(tmp_path: Path) -> None:
    file = write_simulation(
        simulate(SimulationConfig(num_impressions=3_000, aggregate=True)), tmp_path
    )
    config = DataConfig(path=str(file), columns=PAIRS)

    with pytest.raises(ValueError, match=r"data\.truth is not set"):
        true_probabilities(config, load_clicks(config, TaskConfig()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_impressions": 5}, "num_impressions must be at least 6, got 5"),
        ({"num_products": 59}, "num_products must be at least 60, got 59"),
        ({"products_per_query": 200}, "at most a quarter of num_products"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulationConfig(**settings)  # type: ignore[arg-type]


def test_more_queries_than_the_grammar_has_are_refused() -> None:
    with pytest.raises(ValueError, match="can't form 50000 distinct texts for query"):
        simulate(SimulationConfig(num_impressions=6, num_queries=50_000))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format must be parquet, csv or csv\.gz, got 'xlsx'"):
        write_simulation(
            simulate(SimulationConfig(num_impressions=6)),
            tmp_path,
            "xlsx",  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("row", 0, "must hold each row number from 0 to"),
        ("row", 10**9, "must hold each row number from 0 to"),
        ("probability", float("nan"), r"must hold numbers in \[0, 1\]"),
        ("probability", 1.5, r"must hold numbers in \[0, 1\]"),
    ],
)
def test_a_damaged_truth_is_refused(
    tmp_path: Path, column: str, value: float, message: str
) -> None:
    simulation = simulate(SimulationConfig(num_impressions=3_000, aggregate=True))
    file = write_simulation(simulation, tmp_path)
    truth = simulation.truth.copy()
    truth.loc[5, column] = value
    truth.to_parquet(tmp_path / "truth.parquet")
    config = DataConfig(path=str(file), columns=PAIRS, truth=str(tmp_path / "truth.parquet"))

    with pytest.raises(ValueError, match=message):
        true_probabilities(config, load_clicks(config, TaskConfig()))
