"""Metrics of the ranking inside each group (a query, a user), averaged over groups.

Groups of one row are left out, since nothing is ranked there. Rows of equal score count as their
expected value over all orders that the tie allows (McSherry and Najork 2008,
https://doi.org/10.1007/978-3-540-78646-7_38), so a constant model gets what a random order gets.
"""

from dataclasses import dataclass

import numpy as np

from trainables.scored_rows import ScoredRows, Weighing

DEPTH = 10
"""How many rows of a group count as shown, for the metrics that look at the top alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ranking:
    """The rows by group and, inside a group, from the highest score down."""

    order: np.ndarray
    """(n,) the rows' numbers; all below are in this order."""
    group: np.ndarray
    """(n,) number of the row's group, from 0."""
    group_starts: np.ndarray
    """Where each group begins."""
    tie: np.ndarray
    """(n,) number of the run of equal scores that the row belongs to, from 0."""
    tie_starts: np.ndarray
    """Where each of these runs begins."""

    @classmethod
    def of(cls, groups: np.ndarray, scores: np.ndarray) -> "_Ranking":
        _, codes = np.unique(groups, return_inverse=True)
        order = np.lexsort((-scores, codes))
        group, ordered = codes[order], scores[order]
        is_first = np.concatenate([[True], group[1:] != group[:-1]])
        differs = np.concatenate([[True], ordered[1:] != ordered[:-1]]) | is_first
        return cls(
            order=order,
            group=group,
            group_starts=np.flatnonzero(is_first),
            tie=np.cumsum(differs) - 1,
            tie_starts=np.flatnonzero(differs),
        )

    @property
    def ranks(self) -> np.ndarray:
        """(n,) the row's place in its group, from 1."""
        ranks: np.ndarray = np.arange(1, len(self.group) + 1) - self.group_starts[self.group]
        return ranks

    @property
    def num_tied(self) -> np.ndarray:
        """(n,) how many rows of the group have the row's score."""
        sizes: np.ndarray = np.diff(self.tie_starts, append=len(self.tie))[self.tie]
        return sizes

    @property
    def num_before(self) -> np.ndarray:
        """(n,) how many of the rows with the row's score stand before it."""
        before: np.ndarray = np.arange(len(self.tie)) - self.tie_starts[self.tie]
        return before

    def tied(self, values: np.ndarray) -> np.ndarray:
        """Add up ordered values over each row's tie."""
        total: np.ndarray = np.add.reduceat(values, self.tie_starts)[self.tie]
        return total

    def grouped(self, values: np.ndarray) -> np.ndarray:
        """Add up ordered values over each group."""
        total: np.ndarray = np.add.reduceat(values, self.group_starts)
        return total

    def above(self, values: np.ndarray) -> np.ndarray:
        """Add up ordered values over the rows of the group whose score is higher."""
        before = np.cumsum(values) - values
        higher: np.ndarray = (
            before[self.tie_starts][self.tie] - before[self.group_starts][self.group]
        )
        return higher

    def mean_over_groups(self, values: np.ndarray, sizes: np.ndarray) -> Weighing:
        """Average values of groups.

        Args:
            values: (groups,) a metric inside each group.
            sizes: (groups,) how much a group counts; 0: its value is left out.
        """
        kept = (sizes > 0) & (np.diff(self.group_starts, append=len(self.group)) > 1)
        # A group's rows weigh the same, so its first one tells.
        rows = self.order[self.group_starts[kept]]
        values, sizes = values[kept], sizes[kept]

        def weigh(weights: np.ndarray) -> np.ndarray:
            weighted = weights[..., rows] * sizes
            with np.errstate(invalid="ignore", divide="ignore"):
                value: np.ndarray = (weighted @ values) / weighted.sum(axis=-1)
            return value

        return weigh


def grouped_auc(rows: ScoredRows) -> Weighing:
    """ROC-AUC inside each group, averaged by impressions (Zhu et al. 2017, GAUC).

    Ties count half; groups without both outcomes are left out.
    """
    ranking = _Ranking.of(rows.groups, rows.probabilities)
    clicks, non_clicks = rows.clicks[ranking.order], rows.non_clicks[ranking.order]
    positives, negatives = ranking.grouped(clicks), ranking.grouped(non_clicks)
    above = ranking.above(non_clicks) + ranking.tied(non_clicks) / 2
    losses = ranking.grouped(clicks * above)
    pairs = positives * negatives
    with np.errstate(invalid="ignore", divide="ignore"):
        values = 1 - losses / pairs
    return ranking.mean_over_groups(values, np.where(pairs > 0, positives + negatives, 0.0))


def ndcg(rows: ScoredRows) -> Weighing:
    """Discounted cumulative gain of the top rows over the best possible one, by group.

    A row's gain is its click rate, which is its label where it has one impression (Järvelin and
    Kekäläinen 2002, with the discount ``1 / log2(1 + rank)``). Groups without a click are left out.
    """
    gains = np.divide(
        rows.clicks, rows.impressions, out=np.zeros_like(rows.clicks), where=rows.clicks > 0
    )
    ranking = _Ranking.of(rows.groups, rows.probabilities)
    best = _Ranking.of(rows.groups, gains)
    ranks = ranking.ranks
    discounts = np.where(ranks <= DEPTH, 1 / np.log2(1 + ranks), 0.0)
    expected = ranking.tied(gains[ranking.order]) / ranking.num_tied
    ideal = ranking.grouped(gains[best.order] * discounts)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = ranking.grouped(expected * discounts) / ideal
    return ranking.mean_over_groups(values, (ideal > 0).astype(np.float64))


def recall(rows: ScoredRows) -> Weighing:
    """Share of a group's clicked rows that are among its top rows; groups without are left out."""
    ranking, relevant = _relevance(rows)
    expected = ranking.tied(relevant) / ranking.num_tied
    found = ranking.grouped(np.where(ranking.ranks <= DEPTH, expected, 0.0))
    return _share(ranking, found, relevant)


def average_precision(rows: ScoredRows) -> Weighing:
    """Mean precision at a group's clicked rows; groups without are left out."""
    ranking, relevant = _relevance(rows)
    num_relevant, num_tied = ranking.tied(relevant), ranking.num_tied
    # Given that one place of a tie is relevant, each other place is it equally often.
    others = (num_relevant - 1) / np.maximum(num_tied - 1, 1)
    found = ranking.above(relevant) + 1 + ranking.num_before * others
    precision = ranking.grouped(num_relevant / num_tied * found / ranking.ranks)
    return _share(ranking, precision, relevant)


def reciprocal_rank(rows: ScoredRows) -> Weighing:
    """One over the rank of a group's first clicked row; groups without are left out."""
    ranking, relevant = _relevance(rows)
    num_relevant, num_tied, before = ranking.tied(relevant), ranking.num_tied, ranking.num_before
    is_first_tie = (num_relevant > 0) & (ranking.above(relevant) == 0)
    # Chance that a place of the tie is irrelevant if all before it are; their product up to a place
    # is the chance that the first relevant row comes later.
    num_left, others_left = num_tied - before, num_tied - num_relevant - before
    is_open = is_first_tie & (others_left > 0)
    logs = np.log(np.divide(others_left, num_left, out=np.ones(len(before)), where=is_open))
    passed = np.cumsum(logs) - logs
    reached = np.exp(passed - passed[ranking.tie_starts][ranking.tie])
    chance = np.where(is_first_tie & (others_left >= 0), reached * num_relevant / num_left, 0.0)
    values = ranking.grouped(chance / ranking.ranks)
    return ranking.mean_over_groups(values, (ranking.grouped(relevant) > 0).astype(np.float64))


def _relevance(rows: ScoredRows) -> tuple[_Ranking, np.ndarray]:
    """Return the ranking, and 1 for each clicked row in its order."""
    ranking = _Ranking.of(rows.groups, rows.probabilities)
    return ranking, (rows.clicks > 0).astype(np.float64)[ranking.order]


def _share(ranking: _Ranking, found: np.ndarray, relevant: np.ndarray) -> Weighing:
    """Average what was found of each group's clicked rows."""
    wanted = ranking.grouped(relevant)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = found / wanted
    return ranking.mean_over_groups(values, (wanted > 0).astype(np.float64))
