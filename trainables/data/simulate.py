"""A simulated marketplace log whose true click probabilities are known.

A user of some segment searches; six of the query's candidates are shown from top to bottom in an
ad format; each is clicked independently with probability

    examination[position] * sigmoid(
        intercept
        + relation[same category | same department | unrelated]
        + colour * (+1 the asked colour, -1 another; 0 not asked or another category)
        + attribute * (+1 the asked property, -1 without it; 0 not asked or another category)
        + brand appeal + promise appeal
        + price effect of the segment * standardized log price
        + ad format + evening * cos(2 pi (hour - 20) / 24) + weekend
    )

Who sees which of a query's candidates where is left to chance: a page's ad format is drawn by its
share of the searches, its six products and their order uniformly. Given that a product is on a
page, each position was as likely, so an impression's ``propensity``, the probability of its ad
format and position, is

    share[ad format] / 6

Impressions of one page aren't independent: they share the ad format, and no two of them a position.

The relation, colour and property of a query and a title are expressed in different words (couch and
sofa), so that whether they match can't be read off single words.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from trainables.data import marketplace as market
from trainables.data.catalogue import choose_candidates, draw_products, draw_queries

INTERCEPT = -3.6
RELATION = {"same category": 2.4, "same department": 0.6, "unrelated": 0.0}
COLOUR = 0.5
ATTRIBUTE = 0.4
EVENING = 0.15
WEEKEND = 0.1
FIRST_DAY = "2026-01-05"
"""A Monday."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationConfig:
    """How much is simulated."""

    num_impressions: int = 120_000
    """Shown products; rounded down to whole result pages."""
    num_products: int = 600
    """Products on sale."""
    num_queries: int = 330
    """Distinct queries."""
    products_per_query: int = 12
    """Candidates of each query; a page shows six of them."""
    num_users: int = 4_000
    """Users."""
    num_days: int = 28
    """Days from the first impression to the last."""
    aggregate: bool = False
    """One row for each query and title, with counts, instead of one row an impression."""
    seed: int = 0
    """Equal settings and seed, equal log."""

    def __post_init__(self) -> None:
        page = len(market.EXAMINATION)
        smallest = {
            "num_impressions": page,
            "num_products": 60,
            "num_queries": 1,
            "products_per_query": page,
            "num_users": 1,
            "num_days": 1,
        }
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.products_per_query > self.num_products // 4:
            raise ValueError(
                f"products_per_query must be at most a quarter of num_products "
                f"({self.num_products}), got {self.products_per_query}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """A simulated log and what it was drawn from."""

    log: pd.DataFrame
    """What a shop would have: one row an impression with ``label`` and ``propensity``, or one row
    for each query and title with ``impressions`` and ``clicks``."""
    truth: pd.DataFrame
    """``row`` of the log and its true click ``probability``; aggregated: the mean over the row's
    impressions."""
    model: dict[str, Any]
    """The settings and every coefficient, as JSON values."""


def simulate(config: SimulationConfig) -> Simulation:
    """Simulate a marketplace.

    Raises:
        ValueError: if the grammar can't form so many distinct titles or queries.
    """
    rng = np.random.default_rng(config.seed)
    products = draw_products(config.num_products, rng)
    queries = draw_queries(config.num_queries, rng)
    candidates = choose_candidates(queries, products, config.products_per_query, rng)
    shown = _search(queries, candidates, config, rng)
    probability = _click_probability(shown, queries, products)
    shown["label"] = (rng.random(len(shown)) < probability).astype(np.int64)
    build = _aggregated if config.aggregate else _one_row_an_impression
    log, true_probability = build(shown, probability, queries, products)
    truth = pd.DataFrame({"row": np.arange(len(log)), "probability": true_probability})
    return Simulation(log=log, truth=truth, model=_describe(config))


def _search(
    queries: pd.DataFrame,
    candidates: np.ndarray,
    config: SimulationConfig,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """One row an impression: which product a user saw where and when."""
    page = len(market.EXAMINATION)
    pages = config.num_impressions // page
    segments = list(market.SEGMENTS.values())
    user_segment = rng.choice(
        len(segments), size=config.num_users, p=[share for share, _, _ in segments]
    )
    user = rng.integers(config.num_users, size=pages)
    segment = user_segment[user]
    query = np.empty(pages, dtype=np.int64)
    popularity = rng.gamma(2.0, size=len(queries))
    for number, (_, _, departments) in enumerate(segments):
        weight = popularity * np.where(queries["query_department"].isin(departments), 2.0, 1.0)
        mine = segment == number
        query[mine] = rng.choice(len(queries), size=int(mine.sum()), p=weight / weight.sum())
    order = rng.random((pages, candidates.shape[1])).argsort(axis=1)[:, :page]
    hours = np.array(market.HOURS) / sum(market.HOURS)
    shares, _ = zip(*market.AD_FORMATS.values(), strict=True)
    time = rng.integers(config.num_days, size=pages) * 86_400
    time += rng.choice(24, size=pages, p=hours) * 3_600 + rng.integers(3_600, size=pages)
    frame = pd.DataFrame(
        {
            "second": np.repeat(time, page),
            "user": np.repeat(user, page),
            "segment": np.repeat(segment, page),
            "query": np.repeat(query, page),
            "product": np.take_along_axis(candidates[query], order, axis=1).ravel(),
            "ad_format": np.repeat(rng.choice(len(shares), size=pages, p=shares), page),
            "position": np.tile(np.arange(page), pages),
        }
    )
    return frame.sort_values(["second", "user", "position"], kind="stable", ignore_index=True)


def _click_probability(
    shown: pd.DataFrame, queries: pd.DataFrame, products: pd.DataFrame
) -> np.ndarray:
    query = queries.iloc[shown["query"]].reset_index(drop=True)
    product = products.iloc[shown["product"]].reset_index(drop=True)
    same = (query["query_category"] == product["category_number"]).to_numpy()
    near = (query["query_department"] == product["department"]).to_numpy()
    logit = INTERCEPT + product["appeal"].to_numpy()
    logit += np.where(
        same,
        RELATION["same category"],
        np.where(near, RELATION["same department"], RELATION["unrelated"]),
    )
    for effect, asked, has in (
        (COLOUR, query["asked_colour"], product["colour"]),
        (ATTRIBUTE, query["asked_attribute"], product["attribute"]),
    ):
        agrees = np.where(asked == has, effect, -effect)
        logit += np.where(same & (asked != ""), agrees, 0.0)
    price_effects = np.array([effect for _, effect, _ in market.SEGMENTS.values()])
    logit += price_effects[shown["segment"]] * product["price_score"].to_numpy()
    logit += np.array([effect for _, effect in market.AD_FORMATS.values()])[shown["ad_format"]]
    day, second = np.divmod(shown["second"].to_numpy(), 86_400)
    logit += EVENING * np.cos(2 * np.pi * (second // 3_600 - 20) / 24)
    logit += np.where(day % 7 >= 5, WEEKEND, 0.0)
    probability: np.ndarray = np.array(market.EXAMINATION)[shown["position"]] / (1 + np.exp(-logit))
    return probability


PRODUCT_COLUMNS = ["title", "department", "category", "brand", "price"]


def _one_row_an_impression(
    shown: pd.DataFrame, probability: np.ndarray, queries: pd.DataFrame, products: pd.DataFrame
) -> tuple[pd.DataFrame, np.ndarray]:
    timestamp = pd.Timestamp(FIRST_DAY) + pd.to_timedelta(shown["second"], unit="s")
    log = pd.DataFrame(
        {
            "timestamp": timestamp,
            "hour": timestamp.dt.hour,
            "weekday": timestamp.dt.day_of_week,
            "user": shown["user"],
            "segment": np.array(list(market.SEGMENTS))[shown["segment"]],
            "query": queries["query"].to_numpy()[shown["query"]],
        }
    )
    for name in PRODUCT_COLUMNS:
        log[name] = products[name].to_numpy()[shown["product"]]
    log["ad_format"] = np.array(list(market.AD_FORMATS))[shown["ad_format"]]
    log["position"] = shown["position"] + 1
    log["label"] = shown["label"]
    shares = np.array([share for share, _ in market.AD_FORMATS.values()])
    log["propensity"] = shares[shown["ad_format"]] / len(market.EXAMINATION)
    return log, probability


def _aggregated(
    shown: pd.DataFrame, probability: np.ndarray, queries: pd.DataFrame, products: pd.DataFrame
) -> tuple[pd.DataFrame, np.ndarray]:
    pairs = (
        shown.assign(probability=probability)
        .groupby(["query", "product"])
        .agg(
            impressions=("label", "size"),
            clicks=("label", "sum"),
            probability=("probability", "mean"),
        )
        .reset_index()
    )
    log = pd.DataFrame({"query": queries["query"].to_numpy()[pairs["query"]]})
    for name in PRODUCT_COLUMNS:
        log[name] = products[name].to_numpy()[pairs["product"]]
    log["impressions"] = pairs["impressions"]
    log["clicks"] = pairs["clicks"]
    return log, pairs["probability"].to_numpy()


def _describe(config: SimulationConfig) -> dict[str, Any]:
    assert __doc__ is not None
    return {
        "model": __doc__,
        "settings": asdict(config),
        "intercept": INTERCEPT,
        "relation": RELATION,
        "colour": COLOUR,
        "attribute": ATTRIBUTE,
        "evening": EVENING,
        "weekend": WEEKEND,
        "brand_appeal": market.BRANDS,
        "promise_appeal": market.APPEALS,
        "segment_price_effect": {name: row[1] for name, row in market.SEGMENTS.items()},
        "ad_format": {name: row[1] for name, row in market.AD_FORMATS.items()},
        "examination": list(market.EXAMINATION),
    }


def write_simulation(
    simulation: Simulation, folder: Path, format: Literal["parquet", "csv", "csv.gz"] = "parquet"
) -> Path:
    """Write ``log``, ``truth`` and ``model.json`` into a folder.

    The truth has a file of its own, so that training, which reads the log, can't see it.

    Returns:
        The log's file.

    Raises:
        ValueError: if the format is unknown.
    """
    if format not in ("parquet", "csv", "csv.gz"):
        raise ValueError(f"format must be parquet, csv or csv.gz, got {format!r}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("log", simulation.log), ("truth", simulation.truth)):
        file = folder / f"{name}.{format}"
        if format == "parquet":
            frame.to_parquet(file, index=False)
        else:
            frame.to_csv(file, index=False)
    text = json.dumps(simulation.model, indent=2, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")
    return folder / f"log.{format}"
