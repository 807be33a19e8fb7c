"""Popularity knows items by their training clicks alone, and draws rare ones to the mean."""

import dataclasses

import numpy as np
import pytest

from tests.trainables.data.tables import make_table
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import TextLayout
from trainables.metrics import METRICS
from trainables.popularity import PRIORS, popularity_baseline

NDCG = METRICS["ndcg@10"]


def liked_items() -> ClickTable:
    """30 queries and the same four titles for each, of which "b" is clicked most."""
    rng = np.random.default_rng(0)
    titles = np.tile(list("abcd"), 30)
    rates = np.tile([0.1, 0.8, 0.2, 0.1], 30)
    return dataclasses.replace(
        make_table(120),
        texts=(TextColumn.of(f"query {row // 4}" for row in range(120)), TextColumn.of(titles)),
        clicks=rng.binomial(10, rates).astype(np.float32),
        impressions=np.full(120, 10, np.float32),
        groups=np.arange(120) // 4,
        split=(np.arange(120) // 4 % 3).astype(np.int8),
    )


def test_it_predicts_each_items_training_click_rate() -> None:
    table = liked_items()
    found = popularity_baseline(table, NDCG)
    train, test = table.split == 0, table.split == 2

    titles = np.array(list(table.texts[1]))
    mean = table.clicks[train].sum() / table.impressions[train].sum()
    for title in "abcd":
        own = train & (titles == title)
        expected = (table.clicks[own].sum() + found.prior * mean) / (
            table.impressions[own].sum() + found.prior
        )
        assert found.test_probabilities[titles[test] == title] == pytest.approx(expected)
    assert found.validation > 0.9
    assert found.prior in PRIORS


def test_it_never_sees_test_clicks_and_gives_unseen_items_the_mean() -> None:
    table = liked_items()
    hidden = np.where(table.split == 2, 0, table.clicks).astype(np.float32)
    new = TextColumn.of("new" if part == 2 else "old" for part in table.split)

    first = popularity_baseline(table, NDCG)
    second = popularity_baseline(dataclasses.replace(table, clicks=hidden), NDCG)
    unseen = popularity_baseline(dataclasses.replace(table, texts=(new, new)), NDCG)

    assert first.test_probabilities.tolist() == second.test_probabilities.tolist()
    train = table.split == 0
    mean = table.clicks[train].sum() / table.impressions[train].sum()
    assert unseen.test_probabilities == pytest.approx(mean)


def test_with_one_segment_the_whole_text_is_the_item() -> None:
    table = liked_items()
    both = dataclasses.replace(table, layout=TextLayout(num_columns=2, num_first=2))

    # No query of the test rows is in the training rows, so no text is either.
    assert len(set(popularity_baseline(both, NDCG).test_probabilities)) == 1
