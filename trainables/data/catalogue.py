"""Products and queries, drawn from the marketplace's grammar."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from trainables.data import marketplace as market

CANDIDATE_SHARES = (0.5, 0.25, 0.25)
"""Of a query's candidates: of its category, of its department, of any department."""
MAX_REPEATS = 1_000
"""Draws without a new text after which the grammar counts as exhausted."""

Option = TypeVar("Option")


def draw_products(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw products with distinct titles.

    Returns:
        ``title``, ``department``, ``category``, ``brand``, ``price``, and what the click model
        needs: ``category_number``, ``attribute``, ``colour``, ``appeal`` and ``price_score``.

    Raises:
        ValueError: if the grammar can't form so many.
    """
    return _distinct("title", count, _draw_product, rng)


def draw_queries(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw distinct queries.

    Returns:
        ``query``, and what it asks for: ``query_department``, ``query_category``, ``asked_colour``
        and ``asked_attribute``, the last two empty where it doesn't.

    Raises:
        ValueError: if the grammar can't form so many.
    """
    return _distinct("query", count, _draw_query, rng)


def _distinct(
    name: str,
    count: int,
    draw: Callable[[np.random.Generator], dict[str, Any]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw rows until so many differ in the named column."""
    rows: dict[str, dict[str, Any]] = {}
    repeats = 0
    while len(rows) < count:
        row = draw(rng)
        repeats = repeats + 1 if row[name] in rows else 0
        rows.setdefault(row[name], row)
        if repeats > MAX_REPEATS:
            raise ValueError(
                f"the grammar can't form {count} distinct texts for {name}, only about "
                f"{len(rows)}; ask for fewer"
            )
    return pd.DataFrame(rows.values())


def _pick(options: Sequence[Option], rng: np.random.Generator) -> Option:
    return options[int(rng.integers(len(options)))]


def _draw_product(rng: np.random.Generator) -> dict[str, Any]:
    number = int(rng.integers(len(market.CATEGORIES)))
    category = market.CATEGORIES[number]
    brand = _pick(list(market.BRANDS), rng)
    promise = _pick(list(market.APPEALS), rng)
    attribute = _pick(list(market.ATTRIBUTES), rng)
    colour = _pick(list(market.COLOURS), rng)
    shade = _pick(market.COLOURS[colour], rng)
    words = [brand, promise, attribute, shade, category.noun]
    if rng.random() < 0.3:
        words = [brand, shade, category.noun, attribute, promise]
    if category.department in market.SIZES:
        words.append(_pick(market.SIZES[category.department], rng))
    low, high = np.log(category.price)
    position = rng.random()
    return {
        "title": " ".join(
            word if word[0].isdigit() else word[0].upper() + word[1:] for word in words
        ),
        "department": category.department,
        "category": category.noun,
        "brand": brand,
        "price": round(float(np.exp(low + position * (high - low))), 2),
        "category_number": number,
        "attribute": attribute,
        "colour": colour,
        "appeal": market.BRANDS[brand] + market.APPEALS[promise],
        # Uniform on [0, 1] has mean 1/2 and standard deviation sqrt(1/12).
        "price_score": (position - 0.5) * np.sqrt(12),
    }


def _draw_query(rng: np.random.Generator) -> dict[str, Any]:
    number = int(rng.integers(len(market.CATEGORIES)))
    category = market.CATEGORIES[number]
    noun = category.noun if rng.random() < 0.2 else _pick(category.searched_as, rng)
    colour = _pick(list(market.COLOURS), rng) if rng.random() < 0.6 else ""
    attribute = _pick(list(market.ATTRIBUTES), rng) if rng.random() < 0.5 else ""
    asked = _pick(market.ATTRIBUTES[attribute], rng) if attribute else ""
    return {
        "query": " ".join(word for word in (asked, colour, noun) if word),
        "query_department": category.department,
        "query_category": number,
        "asked_colour": colour,
        "asked_attribute": attribute,
    }


def choose_candidates(
    queries: pd.DataFrame, products: pd.DataFrame, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Product numbers that each query may show, int64 (queries, count), without repetition."""
    category = products["category_number"].to_numpy()
    department = products["department"].to_numpy()
    chosen = np.empty((len(queries), count), dtype=np.int64)
    for row, (wanted, where) in enumerate(
        zip(queries["query_category"], queries["query_department"], strict=True)
    ):
        kinds = np.where(category == wanted, 0, np.where(department == where, 1, 2))
        sizes = np.bincount(kinds, minlength=3)
        # Efraimidis and Spirakis: the largest log(u) / w are a weighted sample without repetition.
        weights = (np.array(CANDIDATE_SHARES) / np.maximum(sizes, 1))[kinds]
        chosen[row] = np.argsort(-np.log(rng.random(len(kinds))) / weights, kind="stable")[:count]
    return chosen
