"""TF-IDF with logistic regression: what a study has to beat."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.config import SPLIT_NAMES, SplitName
from trainables.data.table import ClickTable
from trainables.metrics import Metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Inverse regularizations C that are tried, for weights with a mean of 1 per training row."""

PAIR_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The same for features of pairs, whose products of weights are small."""

COSINE_WEIGHT = 3.0
"""Scale of the pairs' cosine, one feature among thousands, against regularization."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineResult:
    """A baseline, tuned on validation."""

    validation: float
    """The metric on the validation rows."""
    strength: float
    """The chosen C."""
    validation_probabilities: np.ndarray
    """float64: predicted for the validation rows, in the table's order."""
    test_probabilities: np.ndarray
    """float64: predicted for the test rows, in the table's order."""


def tfidf_baseline(table: ClickTable, metric: Metric) -> BaselineResult:
    """Fit logistic regression on TF-IDF weights of words and pairs of words.

    All text columns are joined. Where rows have two segments, features of pairs are tried too: the
    product and the distance of the two segments' weights and their cosine, without which a linear
    model can't see whether a title answers a query. A row counts as a positive, weighted by its
    clicks, and a negative, weighted by the other impressions. Features and regularization are the
    best on the validation rows. Deterministic.

    Args:
        table: The rows; only training rows are fitted on.
        metric: What features and regularization are chosen by.
    """
    validation = _part(table, "validation")
    best: BaselineResult | None = None
    for features, strengths in _feature_sets(table):
        for strength in strengths:
            predicted = _fit_predict(table, features, strength)
            score = metric.function(
                predicted["validation"],
                table.clicks[validation],
                table.impressions[validation],
                table.groups[validation],
            )
            sign = 1 if metric.higher_is_better else -1
            if best is None or sign * score > sign * best.validation:
                best = BaselineResult(
                    validation=score,
                    strength=strength,
                    validation_probabilities=predicted["validation"],
                    test_probabilities=predicted["test"],
                )
    assert best is not None
    return best


def _part(table: ClickTable, split: SplitName) -> np.ndarray:
    return np.flatnonzero(table.split == SPLIT_NAMES.index(split))


def _feature_sets(
    table: ClickTable,
) -> "Iterator[tuple[dict[SplitName, csr_matrix], tuple[float, ...]]]":
    """Give the kinds of features, by split, and the regularizations to try with each."""
    joined = [" ".join(row) for row in zip(*table.texts, strict=True)]
    words = _fit_vectorizer([joined[row] for row in _part(table, "train")])
    yield _by_split(table, words.transform(joined)), STRENGTHS
    if table.layout.num_segments < 2:
        return
    pairs = table.layout.segments([list(column) for column in table.texts])
    first, second = zip(*pairs, strict=True)
    train = _part(table, "train")
    words = _fit_vectorizer([side[row] for side in (first, second) for row in train])
    yield (
        _by_split(table, _compare(words.transform(first), words.transform(second))),
        (PAIR_STRENGTHS),
    )


def _compare(first: "csr_matrix", second: "csr_matrix") -> "csr_matrix":
    """Return features of pairs of TF-IDF rows: distance and product by word, and the cosine."""
    from scipy.sparse import csr_matrix, hstack

    product = first.multiply(second).tocsr()
    cosine = csr_matrix(COSINE_WEIGHT * np.asarray(product.sum(axis=1)).reshape(-1, 1))
    return hstack([abs(first - second), product, cosine], format="csr")


def _by_split(table: ClickTable, features: "csr_matrix") -> "dict[SplitName, csr_matrix]":
    return {split: features[_part(table, split)] for split in SPLIT_NAMES}


def _fit_vectorizer(texts: list[str]) -> "TfidfVectorizer":
    from sklearn.feature_extraction.text import TfidfVectorizer

    settings: dict[str, Any] = {"sublinear_tf": True, "ngram_range": (1, 2)}
    try:
        return TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", **settings).fit(texts)
    except ValueError:
        # Emoji alone have no words.
        return TfidfVectorizer(analyzer="char", **settings).fit(texts)


def _fit_predict(
    table: ClickTable, features: "dict[SplitName, csr_matrix]", strength: float
) -> dict[SplitName, np.ndarray]:
    from scipy.sparse import vstack
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train = _part(table, "train")
    clicks, impressions = (
        array[train].astype(np.float64) for array in (table.clicks, table.impressions)
    )
    weights = np.concatenate([clicks, impressions - clicks]) / impressions.mean()
    used = weights > 0
    labels = np.repeat([1, 0], len(train))
    rows = vstack([features["train"], features["train"]], format="csr")
    model = LogisticRegression(C=strength, max_iter=300)
    with warnings.catch_warnings():
        # The last digits of the optimum don't change a ranking.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows[used], labels[used], sample_weight=weights[used])
    return {
        split: model.predict_proba(features[split])[:, 1]
        for split in SPLIT_NAMES
        if split != "train"
    }
