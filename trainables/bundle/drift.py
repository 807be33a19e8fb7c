"""Tell whether new rows and their scores are distributed as those that a bundle was checked on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from trainables.bundle.features import Features
from trainables.data.fields import MISSING, NUM_SPECIAL, UNSEEN
from trainables.data.row_inputs import RowInputs

NUM_BINS = 10
"""Bins of a number, with equally many of the baseline's rows in each."""
NUM_CATEGORIES = 10
"""Categories that are counted one by one, the most frequent ones; all others together."""

NOTABLE_PSI = 0.25
"""Population stability index from which a distribution counts as another one: the bound that credit
scoring uses (Siddiqi 2006, Credit Risk Scorecards, chapter 8)."""
CHANCE = 3.0
"""How many times what chance alone gives in the mean the index must be."""
MIN_ROWS = 100
"""Rows from which a comparison says anything."""

Kind = Literal["tokens", "rarity", "category", "number", "comparison", "score"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """How one thing about rows is distributed."""

    kind: Kind
    """Tokens of a row; mean id of its pieces, which rises with their rarity; a categorical column's
    values; a numeric column's; or the predicted probability."""
    column: str
    """The column; empty where it is about the whole row."""
    edges: tuple[float, ...]
    """Where one bin of a number ends and the next begins, rising; or the codes of the categories
    that have a bin of their own."""
    shares: tuple[float, ...]
    """Share of the rows in each bin, and last: in none of them (a number that is missing, another
    category)."""

    def count(self, values: np.ndarray) -> np.ndarray:
        """Count values, (n,), by bin."""
        if self.kind == "category":
            order = np.argsort(self.edges)
            codes = np.asarray(self.edges)[order]
            places = np.searchsorted(codes, values).clip(max=len(codes) - 1)
            bins = np.where(codes[places] == values, order[places], len(codes))
        else:
            bins = np.searchsorted(np.asarray(self.edges), values, side="right")
            bins[np.isnan(values)] = len(self.edges) + 1
        return np.bincount(bins, minlength=len(self.shares))


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A distribution that has become another one."""

    distribution: Distribution
    """As it was."""
    psi: float
    """Population stability index: the sum over bins of ``(now - then) * ln(now / then)``."""
    place: int
    """The bin whose share changed most."""
    share: float
    """Its share now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftBaseline:
    """How the validation rows and their scores were distributed at export; ``drift.json``."""

    num_rows: int
    """How many rows there were."""
    num_groups: int
    """How many groups of rows that belong together, such as those of a query, were drawn."""
    distributions: tuple[Distribution, ...]
    """What was measured of them."""

    @classmethod
    def of(
        cls,
        inputs: RowInputs,
        probabilities: np.ndarray,
        features: Features,
        *,
        num_groups: int | None = None,
    ) -> "DriftBaseline":
        """Measure rows, n of them, and what the bundle predicts for them, (n,).

        Args:
            inputs: The rows.
            probabilities: The predictions.
            features: What the bundle reads.
            num_groups: Groups of rows that belong together; None: each row is its own.
        """
        return cls(
            num_rows=len(inputs),
            num_groups=len(inputs) if num_groups is None else num_groups,
            distributions=tuple(
                _measure(kind, column, values)
                for kind, column, values in _observe(inputs, probabilities, features)
            ),
        )

    def to_json(self) -> str:
        """Write as JSON text."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"


def _measure(kind: Kind, column: str, values: np.ndarray) -> Distribution:
    edges: np.ndarray
    if kind == "category":
        codes, counts = np.unique(values, return_counts=True)
        common = codes[np.argsort(-counts, kind="stable")][:NUM_CATEGORIES]
        # Both have a bin in any case: that they grow is what one wants to hear first.
        edges = np.concatenate([[MISSING, UNSEEN], common[common >= NUM_SPECIAL]])
        num_bins = len(edges) + 1
    else:
        known = values[~np.isnan(values)]
        inner = np.arange(1, NUM_BINS) / NUM_BINS
        quantiles = np.quantile(known, inner, method="lower") if len(known) else np.zeros(0)
        edges, counts = np.unique(quantiles, return_counts=True)
        # A value that many rows have is a bin of its own: what rises above it is to be seen.
        edges = np.unique([*edges, *np.nextafter(edges[counts > 1], np.inf)])
        num_bins = len(edges) + 2
    empty = Distribution(
        kind=kind, column=column, edges=tuple(edges.tolist()), shares=(0.0,) * num_bins
    )
    shares = empty.count(values) / max(len(values), 1)
    return Distribution(kind=kind, column=column, edges=empty.edges, shares=tuple(shares.tolist()))


def _observe(
    inputs: RowInputs, probabilities: np.ndarray, features: Features
) -> Iterator[tuple[Kind, str, np.ndarray]]:
    """Give what is compared of rows: (n,) values of each kind."""
    if features.text:
        tokens = inputs.tokens
        starts = np.asarray(tokens.offsets[:-1]).astype(np.intp)
        sums = np.add.reduceat(tokens.ids, starts, dtype=np.float64)
        # Rows have two special tokens at least, so no text is without tokens.
        yield "tokens", "", tokens.lengths.astype(np.float64)
        yield "rarity", "", (sums / tokens.text_lengths)[tokens.text_numbers]
    for place, category in enumerate(features.fields.categorical):
        yield "category", category.name, inputs.codes[:, place].astype(np.float64)
    for place, number in enumerate(features.fields.numeric):
        scaled, missing = inputs.numbers[:, 2 * place], inputs.numbers[:, 2 * place + 1]
        yield "number", number.name, np.where(missing > 0, np.nan, number.decode(scaled))
    for pair, places in features.fields.places_of_comparisons():
        *_, alike, missing = inputs.numbers[:, places].T
        yield "comparison", str(pair), np.where(missing > 0, np.nan, alike).astype(np.float64)
    yield "score", "", np.asarray(probabilities, np.float64)


class DriftCheck:
    """Counts rows, a part at a time, and compares them with a bundle's baseline."""

    def __init__(self, baseline: DriftBaseline, features: Features) -> None:
        self._baseline = baseline
        self._features = features
        self._counts = [np.zeros(len(d.shares)) for d in baseline.distributions]
        self.num_rows = 0
        """Rows so far."""

    def add(self, inputs: RowInputs, probabilities: np.ndarray) -> None:
        """Count n rows, and what the bundle predicted for them, (n,)."""
        if not len(inputs):
            return
        self.num_rows += len(inputs)
        observed = _observe(inputs, probabilities, self._features)
        for counts, known, (_, _, values) in zip(
            self._counts, self._baseline.distributions, observed, strict=True
        ):
            counts += known.count(values)

    def drifts(self) -> list[Drift]:
        """Return what is distributed otherwise, the largest change first; of few rows nothing."""
        if min(self.num_rows, self._baseline.num_rows) < MIN_ROWS:
            return []
        found = [
            self._compare(known, counts)
            for known, counts in zip(self._baseline.distributions, self._counts, strict=True)
        ]
        return sorted((d for d in found if d is not None), key=lambda drift: -drift.psi)

    def _compare(self, known: Distribution, counts: np.ndarray) -> Drift | None:
        now, then = self.num_rows, self._baseline.num_rows
        # Half a row more in each bin: an empty one would make the index infinite.
        bins = len(counts)
        before = (np.asarray(known.shares) * then + 0.5) / (then + bins / 2)
        after = (counts + 0.5) / (now + bins / 2)
        psi = float(((after - before) * np.log(after / before)).sum())
        # Rows of one group are alike, so a few groups differ from others by chance already.
        by_chance = (bins - 1) * (1 / now + 1 / self._baseline.num_groups)
        if psi < max(NOTABLE_PSI, CHANCE * by_chance):
            return None
        place = int(np.argmax(np.abs(after - before)))
        return Drift(distribution=known, psi=psi, place=place, share=float(counts[place] / now))


def say_drift(drift: Drift, features: Features) -> str:
    """Say in a sentence what has changed."""
    known = drift.distribution
    return (
        f"{_what(known)} has another distribution than on the validation rows (PSI {drift.psi:.2f})"
        f": {drift.share:.0%} of the rows {_where(known, drift.place, features)}, "
        f"{known.shares[drift.place]:.0%} at export"
    )


def _what(known: Distribution) -> str:
    names = {
        "tokens": "the number of tokens",
        "rarity": "the rarity of words (mean place in the vocabulary)",
        "score": "the predicted probability",
    }
    if known.kind == "comparison":
        return f"the likeness of {known.column}"
    return names.get(known.kind, f"column {known.column!r}")


def _where(known: Distribution, place: int, features: Features) -> str:
    if known.kind != "category":
        if place > len(known.edges):
            return "lack it"
        low = _from(known, place - 1) if place else ""
        high = f"below {known.edges[place]:.4g}" if place < len(known.edges) else ""
        return "are " + (" to ".join(filter(None, (low, high))) if low and high else low or high)
    if place == len(known.edges):
        return "have one of its rarer values"
    code = int(known.edges[place])
    if code in (MISSING, UNSEEN):
        return "lack it" if code == MISSING else "have a value that training didn't have"
    field = next(f for f in features.fields.categorical if f.name == known.column)
    return f"have {field.values[code - NUM_SPECIAL]!r}"


def _from(known: Distribution, place: int) -> str:
    """Say from where on a bin's values are; just above a value that has a bin of its own."""
    edge = known.edges[place]
    if place and edge == np.nextafter(known.edges[place - 1], np.inf):
        return f"above {known.edges[place - 1]:.4g}"
    return f"from {edge:.4g}"


def read_baseline(path: Path, features: Features) -> DriftBaseline:
    """Read what :meth:`DriftBaseline.to_json` wrote.

    Raises:
        ValueError: if it can't be read, or is about other columns than the bundle's.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        counts = {name: raw[name] for name in ("num_rows", "num_groups")}
        distributions = tuple(_distribution(each) for each in raw["distributions"])
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ValueError(f"{path} can't be read as a bundle's baseline: {error}") from error
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{path}: {name} must be a whole number from 1, got {count!r:.80}")
    expected = [("tokens", ""), ("rarity", "")] if features.text else []
    expected += [("category", field.name) for field in features.fields.categorical]
    expected += [("number", field.name) for field in features.fields.numeric]
    expected += [("comparison", str(pair)) for pair in features.fields.comparisons]
    expected.append(("score", ""))
    found = [(each.kind, each.column) for each in distributions]
    if found != expected:
        raise ValueError(f"{path} is about {found!r:.120}, but the bundle reads {expected!r:.120}")
    return DriftBaseline(**counts, distributions=distributions)


def _distribution(raw: Mapping[str, Any]) -> Distribution:
    kind, column = raw["kind"], raw["column"]
    if kind not in get_args(Kind) or not isinstance(column, str):
        raise ValueError(f"it is about {kind!r:.40} of {column!r:.40}")
    edges, shares = _numbers(raw["edges"]), _numbers(raw["shares"])
    if kind == "category":
        if len(set(edges)) != len(edges) or any(e != int(e) or e < 0 for e in edges):
            raise ValueError(f"codes must be whole numbers, each once, got {edges!r:.80}")
    elif list(edges) != sorted(set(edges)):
        raise ValueError(f"edges must rise, got {edges!r:.80}")
    if len(shares) != len(edges) + (1 if kind == "category" else 2) or (
        kind == "category" and not edges
    ):
        raise ValueError(f"{len(shares)} shares don't fit {len(edges)} edges")
    if any(not 0 <= share <= 1 for share in shares):
        raise ValueError(f"shares must be in [0, 1], got {shares!r:.80}")
    return Distribution(kind=kind, column=column, edges=edges, shares=shares)


def _numbers(raw: Sequence[Any]) -> tuple[float, ...]:
    if not isinstance(raw, list) or not all(
        isinstance(each, int | float) and not isinstance(each, bool) and abs(each) <= 1e300
        for each in raw
    ):
        raise ValueError(f"expected a list of finite numbers, got {raw!r:.80}")
    return tuple(float(each) for each in raw)
