"""The true click probability of a simulated log's rows in every ad format and position.

With it the true value of any placement policy is known: the mean over rows of the sum over
placements of policy probability times click probability. In the simulation a product's clicks
depend on its own placement alone, not on what else a page shows.
"""

import numpy as np
import pandas as pd

from trainables.data import marketplace as market

PLACEMENTS: tuple[tuple[str, int], ...] = tuple(
    (ad_format, position + 1)
    for ad_format in market.AD_FORMATS
    for position in range(len(market.EXAMINATION))
)
"""Every ad format and position, in the order of the columns below."""


def logged_placements(log: pd.DataFrame) -> np.ndarray:
    """Find which of PLACEMENTS each row was shown in.

    Returns:
        int64 (n,).

    Raises:
        ValueError: if the log isn't one row an impression, or has a placement that isn't simulated.
    """
    missing = [name for name in ("ad_format", "position") if name not in log]
    if missing:
        raise ValueError(
            f"the log has no column {' and no column '.join(missing)}; an aggregated log doesn't "
            "say where a product was shown: simulate without aggregate"
        )
    ad_format = pd.Index(list(market.AD_FORMATS)).get_indexer(pd.Index(log["ad_format"]))
    position = pd.RangeIndex(1, len(market.EXAMINATION) + 1).get_indexer(pd.Index(log["position"]))
    unknown = (ad_format < 0) | (position < 0)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(
            f"row {row} was shown in {log['ad_format'].iloc[row]!r}, position "
            f"{log['position'].iloc[row]}, which the marketplace doesn't have"
        )
    placements: np.ndarray = ad_format * len(market.EXAMINATION) + position
    return placements


def placement_probabilities(log: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """Compute each row's true click probability in each of PLACEMENTS.

    A row's own probability is taken apart into what its placement and what everything else
    contributes, by the formula in ``simulate.py``.

    Args:
        log: A simulated log, one row an impression.
        truth: Its truth, a row for each of the log's in the same order.

    Returns:
        float64 (n, k).

    Raises:
        ValueError: as :func:`logged_placements`, or if the two aren't of one length.
    """
    if len(log) != len(truth):
        raise ValueError(
            f"the log has {len(log):,} rows, but the truth {len(truth):,}; both must come from the "
            "same simulation"
        )
    ad_format, position = np.divmod(logged_placements(log), len(market.EXAMINATION))
    effects = np.array([effect for _, effect in market.AD_FORMATS.values()])
    examination = np.array(market.EXAMINATION)
    attracted = truth["probability"].to_numpy() / examination[position]
    rest = np.log(attracted) - np.log1p(-attracted) - effects[ad_format]
    attraction = 1 / (1 + np.exp(-(rest[:, None] + effects)))
    probabilities: np.ndarray = attraction[:, :, None] * examination
    return probabilities.reshape(len(log), len(PLACEMENTS))
