"""TF-IDF with logistic regression: what a study has to beat."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.config import SPLIT_NAMES, SplitName
from trainables.data.table import ClickTable
from trainables.metrics import Metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Inverse regularizations C that are tried, for weights with a mean of 1 per training row."""

PAIR_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The same for features of pairs, whose products of weights are small."""

COSINE_WEIGHT = 3.0
"""Scale of the pairs' cosine, one feature among thousands, against regularization."""

MAX_ROWS = 100_000
"""Training rows that are fitted on, and about how many validation rows choose, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineResult:
    """A baseline, tuned on validation."""

    validation: float
    """The metric on the validation rows that chose."""
    strength: float
    """The chosen C."""
    num_training_rows: int
    """Training rows that it was fitted on."""
    test_probabilities: np.ndarray
    """float64: predicted for the test rows, in the table's order."""


def tfidf_baseline(table: ClickTable, metric: Metric) -> BaselineResult:
    """Fit logistic regression on TF-IDF weights of words and pairs of words.

    All text columns are joined. Where rows have two segments, features of pairs are tried too: the
    product and the distance of the two segments' weights and their cosine, without which a linear
    model can't see whether a title answers a query. A row counts as a positive, weighted by its
    clicks, and a negative, weighted by the other impressions. Features and regularization are the
    best on the validation rows. Of a table with more than :data:`MAX_ROWS` training rows as many
    are drawn, and of as many validation rows whole groups. Deterministic.

    Args:
        table: The rows; only training rows are fitted on.
        metric: What features and regularization are chosen by.
    """
    rows = _rows(table)
    validation = rows["validation"]
    best: BaselineResult | None = None
    for features, strengths in _feature_sets(table, rows):
        for strength in strengths:
            model = _fit(table, rows["train"], features["train"], strength)
            predicted = model.predict_proba(features["validation"])[:, 1]
            score = metric.function(
                predicted,
                table.clicks[validation],
                table.impressions[validation],
                table.groups[validation],
            )
            sign = 1 if metric.higher_is_better else -1
            if best is None or sign * score > sign * best.validation:
                best = BaselineResult(
                    validation=score,
                    strength=strength,
                    num_training_rows=len(rows["train"]),
                    test_probabilities=model.predict_proba(features["test"])[:, 1],
                )
    assert best is not None
    return best


def _rows(table: ClickTable) -> dict[SplitName, np.ndarray]:
    """Return the rows of each split that are used, in the table's order."""
    rng = np.random.default_rng(0)
    rows = {name: np.flatnonzero(table.split == number) for number, name in enumerate(SPLIT_NAMES)}
    if len(rows["train"]) > MAX_ROWS:
        rows["train"] = np.sort(rng.choice(rows["train"], MAX_ROWS, replace=False))
    validation = rows["validation"]
    if len(validation) > MAX_ROWS:
        # Whole groups: metrics by group rank all rows of one.
        _, groups, sizes = np.unique(
            table.groups[validation], return_inverse=True, return_counts=True
        )
        order = rng.permutation(len(sizes))
        kept = np.zeros(len(sizes), dtype=bool)
        kept[order[: max(1, np.searchsorted(np.cumsum(sizes[order]), MAX_ROWS))]] = True
        rows["validation"] = validation[kept[groups]]
    return rows


def _feature_sets(
    table: ClickTable, rows: dict[SplitName, np.ndarray]
) -> "Iterator[tuple[dict[SplitName, csr_matrix], tuple[float, ...]]]":
    """Give the kinds of features, by split, and the regularizations to try with each."""
    texts = {
        name: [column.take(numbers) for column in table.texts] for name, numbers in rows.items()
    }
    joined = {
        name: [" ".join(row) for row in zip(*columns, strict=True)]
        for name, columns in texts.items()
    }
    words = _fit_vectorizer(joined["train"])
    yield {name: _transform(words, given) for name, given in joined.items()}, STRENGTHS
    if table.layout.num_segments < 2:
        return
    sides = {
        name: tuple(zip(*table.layout.segments([list(c) for c in columns]), strict=True))
        for name, columns in texts.items()
    }
    words = _fit_vectorizer([text for side in sides["train"] for text in side])
    yield (
        {
            name: _compare(_transform(words, first), _transform(words, second))
            for name, (first, second) in sides.items()
        },
        PAIR_STRENGTHS,
    )


def _transform(words: "TfidfVectorizer", texts: Sequence[str]) -> "csr_matrix":
    """Weigh the words of texts, each distinct one once."""
    import pandas as pd

    codes, distinct = pd.factorize(np.array(texts, dtype=object))
    return words.transform(distinct)[codes]


def _compare(first: "csr_matrix", second: "csr_matrix") -> "csr_matrix":
    """Return features of pairs of TF-IDF rows: distance and product by word, and the cosine."""
    from scipy.sparse import csr_matrix, hstack

    product = first.multiply(second).tocsr()
    cosine = csr_matrix(COSINE_WEIGHT * np.asarray(product.sum(axis=1)).reshape(-1, 1))
    return hstack([abs(first - second), product, cosine], format="csr")


def _fit_vectorizer(texts: list[str]) -> "TfidfVectorizer":
    from sklearn.feature_extraction.text import TfidfVectorizer

    settings: dict[str, Any] = {"sublinear_tf": True, "ngram_range": (1, 2)}
    try:
        return TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", **settings).fit(texts)
    except ValueError:
        # Emoji alone have no words.
        return TfidfVectorizer(analyzer="char", **settings).fit(texts)


def _fit(
    table: ClickTable, train: np.ndarray, features: "csr_matrix", strength: float
) -> "LogisticRegression":
    from scipy.sparse import vstack
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    clicks, impressions = (
        array[train].astype(np.float64) for array in (table.clicks, table.impressions)
    )
    clicked, passed = np.flatnonzero(clicks > 0), np.flatnonzero(impressions > clicks)
    weights = np.concatenate([clicks[clicked], (impressions - clicks)[passed]])
    model = LogisticRegression(C=strength, max_iter=300)
    with warnings.catch_warnings():
        # The last digits of the optimum don't change a ranking.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(
            vstack([features[clicked], features[passed]], format="csr"),
            np.repeat([1, 0], [len(clicked), len(passed)]),
            sample_weight=weights / impressions.mean(),
        )
    return model
