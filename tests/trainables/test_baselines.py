"""The baseline learns words, is tuned on validation only, and is reproducible."""

import dataclasses

import numpy as np
import pytest

from trainables.baselines import tfidf_baseline
from trainables.data.raw_fields import RawFields
from trainables.data.table import ClickTable
from trainables.data.text_column import TextColumn
from trainables.data.token_rows import TextLayout
from trainables.metrics import METRICS
from trainables.scored_rows import ScoredRows, Weighing

ROC_AUC = METRICS["roc_auc"]


def make_table(good: str = "great", bad: str = "dull", num_rows: int = 200) -> ClickTable:
    rng = np.random.default_rng(0)
    liked = rng.random(num_rows) < 0.5
    impressions = rng.integers(5, 30, num_rows)
    clicks = rng.binomial(impressions, np.where(liked, 0.4, 0.1))
    return ClickTable(
        texts=(
            TextColumn.of([good if row % 2 else bad for row in range(num_rows)]),
            TextColumn.of([good if like else bad for like in liked]),
        ),
        clicks=clicks.astype(np.float32),
        impressions=impressions.astype(np.float32),
        groups=np.arange(num_rows) // 10,
        split=(np.arange(num_rows) % 5 // 2).astype(np.int8),
        row_ids=np.arange(num_rows),
        num_source_rows=num_rows,
        fields=RawFields(),
        layout=TextLayout.of(2),
        fingerprint="0123456789abcdef",
    )


@pytest.mark.parametrize("name", METRICS)
def test_it_finds_the_words_that_are_clicked(name: str) -> None:
    table = make_table()
    test = table.split == 2

    result = tfidf_baseline(table, METRICS[name])

    assert len(result.test_probabilities) == test.sum()
    score = ROC_AUC.function(
        result.test_probabilities,
        table.clicks[test],
        table.impressions[test],
        table.groups[test],
    )
    assert score > 0.65


def test_it_is_reproducible_and_never_sees_test_clicks() -> None:
    table = make_table()
    hidden = np.where(table.split == 2, table.impressions, table.clicks).astype(np.float32)
    first = tfidf_baseline(table, ROC_AUC)

    second = tfidf_baseline(dataclasses.replace(table, clicks=hidden), ROC_AUC)

    assert first.test_probabilities.tolist() == second.test_probabilities.tolist()
    assert first.validation == second.validation


def test_it_predicts_click_rates() -> None:
    table = make_table()

    predicted = tfidf_baseline(table, METRICS["log_loss"]).test_probabilities

    test = table.split == 2
    actual = table.clicks[test].sum() / table.impressions[test].sum()
    assert np.average(predicted, weights=table.impressions[test]) == pytest.approx(actual, abs=0.06)


def test_a_large_table_is_fitted_on_some_rows_and_chosen_by_whole_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainables.baselines.MAX_ROWS", 40)
    table = make_table(num_rows=400)
    seen: list[np.ndarray] = []

    def keep(rows: ScoredRows) -> Weighing:
        seen.append(rows.groups)
        return ROC_AUC.kernel(rows)

    result = tfidf_baseline(table, dataclasses.replace(ROC_AUC, kernel=keep))

    assert result.num_training_rows == 40
    assert len(result.test_probabilities) == (table.split == 2).sum()
    validation = table.groups[table.split == 1]
    _, sizes = np.unique(seen[0], return_counts=True)
    assert 1 <= len(sizes) < len(np.unique(validation))
    assert set(sizes) == set(np.unique(validation, return_counts=True)[1])


def test_texts_without_words_are_told_apart_by_their_characters() -> None:
    result = tfidf_baseline(make_table(good="😀", bad="🗑"), ROC_AUC)

    assert result.validation > 0.5


def test_it_sees_whether_two_segments_agree() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(40)])
    asked, given = rng.choice(words, 600), rng.choice(words, 600)
    agree = rng.random(600) < 0.5
    table = dataclasses.replace(
        make_table(num_rows=600),
        texts=(TextColumn.of(asked), TextColumn.of(np.where(agree, asked, given))),
        clicks=agree.astype(np.float32),
        impressions=np.ones(600, np.float32),
    )

    result = tfidf_baseline(table, ROC_AUC)

    # No single word says anything.
    assert result.validation > 0.95
