"""Order lines as a table for ranking: which products of a user's past will the next basket hold.

For each user and each order from the third on there is a row for each candidate: the products of
the user's earlier orders, and some that are popular anyway. All that a row says of a candidate
stems from orders before the one that is to be predicted; of that order only what is known when it
begins is used (hour, weekday, days since the one before), and its products give the labels.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trainables.data.read import read_table

FIRST_PREDICTED = 2
"""Place of a user's first order that is predicted, from 0: before it there is hardly a habit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NextBasketConfig:
    """Which column of the order lines holds what, and how much of a user's past is told."""

    user: str = "user_id"
    """Who ordered."""
    order: str = "order_number"
    """Number or time of the order; grows from a user's order to the next."""
    product: str = "product_name"
    """The product's name; one row for each product of an order."""
    categories: tuple[str, ...] = ("aisle", "department")
    """Columns with categories of the product, the same in all of its lines."""
    weekday: str | None = "order_dow"
    """Weekday of the order; None: not there."""
    hour: str | None = "order_hour_of_day"
    """Hour of the order; None: not there."""
    days_since_prior: str | None = "days_since_prior_order"
    """Days since the user's order before; missing in the first one. None: not there."""
    history: int = 8
    """Products that the history names, the latest first."""
    candidates: int = 30
    """Most products of the user's past that are candidates: the most frequent, then the latest."""
    popular: int = 10
    """Candidates beside them: products that most users had in their first orders, which are never
    predicted, so that these say nothing of what follows."""

    def __post_init__(self) -> None:
        for name, least in (("history", 1), ("candidates", 1), ("popular", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Return every column that is read."""
        context = (self.weekday, self.hour, self.days_since_prior)
        named = (self.user, self.order, self.product, *self.categories, *filter(None, context))
        return tuple(dict.fromkeys(named))


def load_next_baskets(path: str, config: NextBasketConfig) -> pd.DataFrame:
    """Read order lines; arguments and errors as for :func:`next_baskets`."""
    return next_baskets(read_table(path, config.columns).frame, config)


def next_baskets(lines: pd.DataFrame, config: NextBasketConfig) -> pd.DataFrame:
    """Turn order lines into a table for ranking.

    Returns:
        One row for each candidate of each predicted order: ``basket`` (the group), ``user``,
        ``split`` (a user's last order tests, the one before validates, earlier ones train),
        ``label`` (1: the order holds it), ``history``, ``product``, its categories,
        ``times_bought``, ``orders_since`` and ``days_since`` it was last bought, ``order_share``
        (orders that held it), ``orders_before``, and what is known of the order itself.

    Raises:
        ValueError: if a value is missing or isn't what it should be, or no user has three orders.
    """
    lines = _checked(lines, config)
    is_first = lines["place"] < FIRST_PREDICTED
    starters = lines[is_first].drop_duplicates([config.user, config.product])[config.product]
    counted = sorted(Counter(starters).items(), key=lambda item: (-item[1], item[0]))
    popular = [name for name, _ in counted]
    baskets = [
        basket
        for _, of_user in lines.groupby(config.user, sort=False)
        for basket in _baskets(of_user, popular, config)
    ]
    if not baskets:
        raise ValueError(
            f"no user has {FIRST_PREDICTED + 1} orders ({len(lines):,} lines); check the columns "
            f"{config.user} and {config.order}"
        )
    table = _joined(baskets)
    kinds = lines.drop_duplicates(config.product).set_index(config.product)
    for name in config.categories:
        table[name] = kinds[name].reindex(table["product"]).to_numpy()
    return table


def _joined(baskets: Sequence["_Basket"]) -> pd.DataFrame:
    """Put baskets below each other."""
    sizes = [len(basket.rows["product"]) for basket in baskets]
    context = pd.DataFrame([basket.context for basket in baskets])
    rows = {
        name: np.concatenate([basket.rows[name] for basket in baskets]) for name in baskets[0].rows
    }
    repeated = context.loc[np.repeat(np.arange(len(sizes)), sizes)].reset_index(drop=True)
    return repeated.assign(**rows)


def _checked(lines: pd.DataFrame, config: NextBasketConfig) -> pd.DataFrame:
    """Check the lines; return them in order, each product of an order once, with its ``place``."""
    lines = lines.loc[:, [*config.columns]].copy()
    for name in (config.user, config.order, config.product):
        if (missing := lines[name].isna()).any():
            row = int(np.argmax(missing))
            raise ValueError(f"column {name}: row {row} is missing; drop the line or fill it in")
    lines[config.product] = lines[config.product].astype(str).str.strip()
    if (blank := lines[config.product] == "").any():
        raise ValueError(
            f"column {config.product}: row {int(np.argmax(blank))} is blank; drop the line"
        )
    for context in (config.weekday, config.hour, config.days_since_prior):
        if context is not None:
            lines[context] = _numbers(lines[context], context)
    lines[config.order] = _moments(lines[config.order], config.order)
    lines = lines.sort_values([config.user, config.order], kind="stable")
    lines = lines.drop_duplicates([config.user, config.order, config.product])
    by_user = lines.groupby(config.user, sort=False)[config.order]
    return lines.assign(place=by_user.rank(method="dense").astype(int) - 1)


def _numbers(column: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(column.replace("", None), errors="coerce")
    if (wrong := numbers.isna() & column.notna() & (column.astype(str) != "")).any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"column {name}: row {row} is {column.iloc[row]!r}, no number; correct it, or leave "
            "the column out"
        )
    return numbers


def _moments(column: pd.Series, name: str) -> pd.Series:
    """Read numbers, or times, of orders."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all() and not pd.api.types.is_datetime64_any_dtype(column.dtype):
        return numbers
    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = column.astype(str)
    times = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
    if (wrong := times.isna()).any():
        # Among numbers, what is no number either.
        wrong = wrong & numbers.isna() if (wrong & numbers.isna()).any() else wrong
        row = int(np.argmax(wrong))
        raise ValueError(
            f"column {name}: row {row} is {column.iloc[row]!r}; expected the order's number, or "
            "its time as 2026-03-01T09:30:00"
        )
    return times


@dataclass(frozen=True, kw_only=True, slots=True)
class _Basket:
    """An order that is to be predicted."""

    context: dict[str, Any]
    """What is the same for all of its candidates, by column."""
    rows: dict[str, np.ndarray]
    """(candidates,) what isn't, by column."""


def _baskets(
    lines: pd.DataFrame, popular: Sequence[str], config: NextBasketConfig
) -> Iterator[_Basket]:
    """Yield each predicted order of one user, whose lines these are."""
    past = _Past()
    num_orders = int(lines["place"].max()) + 1
    for place in range(num_orders):
        order = lines[lines["place"] == place]
        products = order[config.product].tolist()
        first = order.iloc[0].to_dict()
        past.wait(first.get(config.days_since_prior or ""))
        if place >= FIRST_PREDICTED:
            candidates = past.candidates(config.candidates)
            unknown = (name for name in popular if name not in past.times)
            candidates += itertools.islice(unknown, config.popular)
            held = set(products)
            yield _Basket(
                context={
                    **_context(first, config),
                    "split": {1: "test", 2: "validation"}.get(num_orders - place, "train"),
                    "history": ", ".join(past.latest(config.history)),
                    "orders_before": place,
                },
                rows={
                    "product": np.array(candidates, dtype=object),
                    "label": np.array([int(name in held) for name in candidates]),
                    **past.features(candidates),
                },
            )
        past.add(products)


def _context(first: Mapping[Any, Any], config: NextBasketConfig) -> dict[str, Any]:
    """Return what one line of an order says of the order itself."""
    told = {
        "weekday": config.weekday,
        "hour": config.hour,
        "days_since_prior": config.days_since_prior,
    }
    user = first[config.user]
    return {
        "basket": f"{user}-{first[config.order]}",
        "user": user,
        **{name: first[column] for name, column in told.items() if column is not None},
    }


class _Past:
    """What is known of a user before an order."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self._last: dict[str, tuple[int, int]] = {}
        self._days: dict[str, float] = {}
        self._num_orders = 0
        self._today: float | None = 0.0

    def wait(self, days: float | None) -> None:
        """Let the days pass until an order; they count only where all are known."""
        if self._num_orders and self._today is not None:
            self._today = None if days is None or np.isnan(days) else self._today + days

    def add(self, products: Sequence[str]) -> None:
        """Remember an order's products, in the order of its lines."""
        for line, name in enumerate(products):
            self.times[name] = self.times.get(name, 0) + 1
            self._last[name] = (self._num_orders, -line)
            self._days[name] = np.nan if self._today is None else self._today
        self._num_orders += 1

    def latest(self, most: int) -> list[str]:
        """Return the products that were bought last, the latest first."""
        return sorted(self._last, key=self._last.__getitem__, reverse=True)[:most]

    def candidates(self, most: int) -> list[str]:
        """Return the products that were bought most often, the latest first among equals."""
        return sorted(
            self.times, key=lambda name: (self.times[name], self._last[name]), reverse=True
        )[:most]

    def features(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return columns of what is known of some products; missing where there was none."""
        times = np.array([self.times.get(name, 0) for name in names])
        last = np.array([self._last[name][0] if name in self._last else np.nan for name in names])
        today = np.nan if self._today is None else self._today
        return {
            "times_bought": times,
            "orders_since": self._num_orders - last,
            "days_since": today - np.array([self._days.get(name, np.nan) for name in names]),
            "order_share": times / self._num_orders,
        }
