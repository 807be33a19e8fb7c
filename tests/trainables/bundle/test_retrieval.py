"""A catalogue is searched by the vectors that the pairs' own log-odds come from."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.trial_config import TrialConfig
from tests.trainables.bundle.conftest import MAX_TOKENS, write_bundle
from trainables.bundle.predictor import Predictor, log_odds
from trainables.bundle.retrieval import Catalogue, nearest
from trainables.compression.graph import export_graph
from trainables.model import build_model

ITEMS = ["the best couch, in red", "black boot for kids", "cup", "lamp"]
QUERIES = ["red sofa", "boot", ""]


@pytest.fixture(scope="module")
def predictor(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("towers")
    trial = TrialConfig(architecture="two_tower")
    model = build_model(tiny_encoder, trial, num_segments=2, base_rate=0.2)
    export_graph(model, folder / "graph.onnx", max_tokens=MAX_TOKENS)
    bundle = folder / "bundle"
    graph = folder / "graph.onnx"
    write_bundle(bundle, graph, tiny_encoder, precision="fp32", uncompressed=np.full(5, 0.2))
    return Predictor(bundle, num_threads=1)


def test_cosines_order_items_as_the_predicted_probabilities_do(predictor: Predictor) -> None:
    places, cosines = Catalogue.of(predictor, ITEMS).search(predictor, QUERIES, most=3)

    assert places.shape == cosines.shape == (3, 3)
    for query, found, values in zip(QUERIES, places, cosines, strict=True):
        rows = [{"query": query, "title": item} for item in ITEMS]
        odds = log_odds(predictor.predict(rows))
        assert odds[found] == pytest.approx(np.sort(odds)[::-1][:3], abs=1e-3)
        # One scale and one offset lead from cosines to log-odds.
        assert np.diff(values) * 10 == pytest.approx(np.diff(odds[found]), abs=1e-3)


def test_few_items_and_no_queries_are_fine(predictor: Predictor) -> None:
    catalogue = Catalogue.of(predictor, ITEMS[:2])

    assert catalogue.search(predictor, QUERIES)[0].shape == (3, 2)
    assert catalogue.search(predictor, [])[0].shape == (0, 2)


@given(
    num_queries=st.integers(1, 4),
    num_items=st.integers(1, 30),
    most=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_nearest_is_a_full_sort(num_queries: int, num_items: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, items = rng.normal(size=(num_queries, 3)), rng.normal(size=(num_items, 3))
    most = min(most, num_items)

    places, cosines = nearest(queries, items, most)

    expected = np.argsort(-(queries @ items.T), axis=1)[:, :most]
    assert places.tolist() == expected.tolist()
    assert cosines == pytest.approx(np.take_along_axis(queries @ items.T, expected, axis=1))


def test_mistakes_are_named(predictor: Predictor, bundle: Path) -> None:
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        Catalogue.of(predictor, ITEMS).search(predictor, QUERIES, most=0)
    with pytest.raises(ValueError, match="side must be one of first, second, got 'third'"):
        predictor.embed(ITEMS, "third")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="text 1: expected text, got 3"):
        predictor.embed(["a", 3], "first")  # type: ignore[list-item]
    with pytest.raises(ValueError, match="reads both segments together"):
        Predictor(bundle).embed(ITEMS, "first")
