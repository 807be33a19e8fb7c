"""Categories, numbers and times of a row as a model takes them, in training and in serving."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, Self, get_args

import numpy as np

from trainables.data.comparison import COMPARE, LARGEST, WIDTHS, Comparison

TimePart = Literal["hour", "weekday", "age"]
"""What of a timestamp the model sees: the hour and the weekday as points on a circle, so that 23
and 0 are neighbours; the age as the share of the training period that has passed."""

MISSING, UNSEEN = 0, 1
"""Codes of a category that is absent, and of one that training didn't see often enough."""
NUM_SPECIAL = 2
"""Codes that stand for no value of the training rows."""

MIN_COUNT = 2
"""Impressions in training that a value must have for a code of its own. Those with fewer share the
code of unseen values, which thereby means something when a new value comes."""
MAX_VALUES = 50_000
"""Most values of a column with codes of their own: the most frequent ones."""

WHOLE_NUMBER = re.compile(r"^(-?[0-9]+)\.0$", re.ASCII)
DAY_S = 86_400.0
WEEK_DAYS = 7
NORMAL_IQR = 1.349
"""Distance between the quartiles of a normal distribution, in standard deviations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldShapes:
    """How many codes and numbers a row has: what the size of a model depends on."""

    num_codes: tuple[int, ...] = ()
    """Codes of each categorical column, the special ones included."""
    num_numbers: int = 0
    """Numbers of a row."""

    def __bool__(self) -> bool:
        return bool(self.num_codes or self.num_numbers)


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoricalField:
    """A categorical column."""

    name: str
    """The column."""
    values: tuple[str, ...]
    """Values with codes of their own, the first of which is :data:`NUM_SPECIAL`."""

    @classmethod
    def fit(
        cls,
        name: str,
        distinct: Sequence[str],
        codes: np.ndarray,
        impressions: np.ndarray | None = None,
    ) -> Self:
        """Choose the values that get codes.

        Args:
            name: The column.
            distinct: Its distinct values, in any order.
            codes: (n,) place of each training row's value in ``distinct``; below 0: missing.
            impressions: (n,) what each row counts; None: one.
        """
        present = codes >= 0
        weights = None if impressions is None else impressions[present]
        counts = np.bincount(codes[present], weights, minlength=len(distinct))
        frequent = [int(place) for place in np.flatnonzero(counts >= MIN_COUNT)]
        # By name among equally frequent ones, so that the order of the rows doesn't matter.
        frequent.sort(key=lambda place: (-counts[place], distinct[place]))
        return cls(name=name, values=tuple(distinct[place] for place in frequent[:MAX_VALUES]))

    def encode(self, values: Sequence[str | None]) -> np.ndarray:
        """Return the codes of values, int32 (n,); None and blank text are missing."""
        codes = {value: code for code, value in enumerate(self.values, start=NUM_SPECIAL)}
        return np.fromiter(
            (
                MISSING if value is None or not value.strip() else codes.get(value, UNSEEN)
                for value in values
            ),
            np.int32,
            len(values),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NumericField:
    """A numeric column, scaled by its training rows."""

    name: str
    """The column."""
    center: float
    """Median of the training rows."""
    scale: float
    """Their distance between the quartiles, as a standard deviation; above 0."""

    @classmethod
    def fit(cls, name: str, numbers: np.ndarray) -> Self:
        """Measure the training rows' numbers, (n,); NaN is missing."""
        known = np.asarray(numbers, np.float64)
        known = np.clip(known[~np.isnan(known)], -LARGEST, LARGEST)
        if not len(known):
            return cls(name=name, center=0.0, scale=1.0)
        low, center, high = np.quantile(known, [0.25, 0.5, 0.75])
        scale = (high - low) / NORMAL_IQR
        if not scale > 0:
            # More than half of the rows are equal: the others decide.
            scale = float(known.std())
        if not (scale > 0 and math.isfinite(scale)):
            scale = 1.0
        return cls(name=name, center=float(center), scale=float(scale))

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Scale numbers, and flag those that are missing.

        Far from the median they grow by their logarithm, ``sign(z) log(1 + |z|)``: one wrong price
        must not outweigh all else that is known of a row.

        Args:
            numbers: float64 (n,), NaN where missing.

        Returns:
            float64 (n, 2): the scaled number, 0 where it is missing; 1 where it is.
        """
        missing = np.isnan(numbers)
        known = np.clip(np.where(missing, self.center, numbers), -LARGEST, LARGEST)
        with np.errstate(over="ignore"):
            scaled = np.clip((known - self.center) / self.scale, -LARGEST, LARGEST)
        return np.stack([np.sign(scaled) * np.log1p(np.abs(scaled)), missing], axis=1)

    def decode(self, scaled: np.ndarray) -> np.ndarray:
        """Return the numbers, float64 (n,), that were scaled to these, as exact as float32 is."""
        exact = scaled.astype(np.float64)
        return self.center + self.scale * np.sign(exact) * np.expm1(np.abs(exact))


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeField:
    """A timestamp column, and what of it the model sees."""

    name: str
    """The column."""
    parts: tuple[TimePart, ...]
    """What the model sees."""
    first: float
    """The earliest training row, in seconds since 1970 (UTC)."""
    last: float
    """The latest."""

    @classmethod
    def fit(cls, name: str, parts: Sequence[TimePart], seconds: np.ndarray) -> Self:
        """Measure the training rows' times, (n,), in seconds since 1970; NaN is missing."""
        known = np.asarray(seconds, np.float64)
        known = known[~np.isnan(known)]
        first, last = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        return cls(name=name, parts=tuple(parts), first=first, last=last)

    @property
    def width(self) -> int:
        """Numbers that stand for a time."""
        return sum(1 if part == "age" else 2 for part in self.parts)

    def encode(self, seconds: np.ndarray) -> np.ndarray:
        """Return (n, width) float64 for times, (n,), in seconds since 1970; 0 where NaN."""
        columns: list[np.ndarray] = []
        for part in self.parts:
            if part == "age":
                columns.append((seconds - self.first) / max(self.last - self.first, 1.0))
                continue
            if part == "hour":
                turns = np.mod(seconds, DAY_S) / DAY_S
            else:
                # 1970 began on a Thursday.
                turns = np.mod(np.floor(seconds / DAY_S) + 3, WEEK_DAYS) / WEEK_DAYS
            columns += [np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)]
        encoded: np.ndarray = np.nan_to_num(np.stack(columns, axis=1), nan=0.0)
        return encoded


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """How the fields of a row become codes and numbers, fitted on the training rows alone."""

    categorical: tuple[CategoricalField, ...] = ()
    """Categorical columns."""
    numeric: tuple[NumericField, ...] = ()
    """Numeric columns."""
    time: TimeField | None = None
    """The timestamp column, where the model sees it."""
    comparisons: tuple[Comparison, ...] = ()
    """Pairs of columns that are compared, each a text column or one of the above."""

    def __bool__(self) -> bool:
        return bool(self.names or self.comparisons)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are fields, in their order."""
        return (*self._values, *(() if self.time is None else (self.time.name,)))

    @property
    def compared_texts(self) -> tuple[str, ...]:
        """The columns that are read as texts to be compared, whether or not a model reads them."""
        names = (name for pair in self.comparisons for name in pair.names)
        return tuple(dict.fromkeys(name for name in names if name not in self._values))

    @property
    def _values(self) -> tuple[str, ...]:
        """The columns of categories and numbers."""
        categories = (field.name for field in self.categorical)
        return (*categories, *(field.name for field in self.numeric))

    @property
    def shapes(self) -> FieldShapes:
        """How many codes and numbers they make."""
        return FieldShapes(
            num_codes=tuple(NUM_SPECIAL + len(field.values) for field in self.categorical),
            num_numbers=self.first_compared + sum(pair.width for pair in self.comparisons),
        )

    @property
    def first_compared(self) -> int:
        """Where the numbers of comparisons begin: after those of numeric columns and the time."""
        return 2 * len(self.numeric) + (0 if self.time is None else self.time.width)

    def places_of_comparisons(self) -> Iterator[tuple[Comparison, slice]]:
        """Yield what is compared, and which of a row's numbers it gives."""
        start = self.first_compared
        for pair in self.comparisons:
            yield pair, slice(start, start + pair.width)
            start += pair.width

    def encode(
        self,
        columns: Mapping[str, Sequence[Any]],
        texts: Mapping[str, Sequence[str]],
        *,
        first_row: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn rows' values into what the model takes.

        Args:
            columns: n values for each category, number and time: text, numbers, booleans, times, or
                None for a missing one.
            texts: n texts for each of :attr:`compared_texts`.
            first_row: What an error calls the first row.

        Returns:
            int32 (n, categorical columns); float32 (n, numbers).

        Raises:
            ValueError: naming the row and column of a value that can't be read.
        """
        num_rows = max(map(len, (*columns.values(), *texts.values())), default=0)
        categories = {
            field.name: _each(as_category, columns[field.name], field.name, first_row)
            for field in self.categorical
        }
        known_numbers = {
            field.name: _floats(as_number, columns[field.name], field.name, first_row)
            for field in self.numeric
        }
        codes = [field.encode(categories[field.name]) for field in self.categorical]
        numbers = [field.encode(known_numbers[field.name]) for field in self.numeric]
        if self.time is not None:
            name = self.time.name
            numbers.append(self.time.encode(_floats(as_seconds, columns[name], name, first_row)))
        compared = {**texts, **categories, **known_numbers}
        for pair in self.comparisons:
            numbers.append(COMPARE[pair.kind](compared[pair.first], compared[pair.second]))
        return stack_codes(codes, num_rows), stack_numbers(numbers, num_rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, raw: Any) -> Self:  # noqa: ANN401 - unchecked JSON
        """Read what :meth:`to_dict` wrote.

        Raises:
            ValueError: if something is missing, unknown or of a wrong type.
        """
        try:
            time = raw["time"]
            fields = cls(
                categorical=tuple(
                    CategoricalField(name=_text(item["name"]), values=_texts(item["values"]))
                    for item in raw["categorical"]
                ),
                numeric=tuple(
                    NumericField(
                        name=_text(item["name"]),
                        center=_finite(item["center"]),
                        scale=_finite(item["scale"]),
                    )
                    for item in raw["numeric"]
                ),
                time=None
                if time is None
                else TimeField(
                    name=_text(time["name"]),
                    parts=_time_parts(time["parts"]),
                    first=_finite(time["first"]),
                    last=_finite(time["last"]),
                ),
                comparisons=tuple(_comparison(item) for item in raw["comparisons"]),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"fields can't be read: {error!r}") from error
        if len(set(fields.names)) < len(fields.names):
            raise ValueError("fields can't be read: a column is there twice")
        pairs = [frozenset(pair.names) for pair in fields.comparisons]
        if len(set(pairs)) < len(pairs) or any(len(pair) < 2 for pair in pairs):
            raise ValueError("fields can't be read: a pair is compared twice, or one with itself")
        if any(not field.scale > 0 for field in fields.numeric):
            raise ValueError("fields can't be read: a numeric column's scale isn't above 0")
        numeric = {field.name for field in fields.numeric}
        if any(
            (name in numeric) != (pair.kind == "number")
            for pair in fields.comparisons
            for name in pair.names
        ):
            raise ValueError("fields can't be read: two columns that are compared are of two kinds")
        return fields


def stack_codes(columns: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Put columns of codes side by side, int32 (n, columns)."""
    if not columns:
        return np.zeros((num_rows, 0), dtype=np.int32)
    return np.stack(columns, axis=1).astype(np.int32)


def stack_numbers(parts: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Put the numbers of all columns side by side, float32 (n, numbers)."""
    if not parts:
        return np.zeros((num_rows, 0), dtype=np.float32)
    return np.concatenate(parts, axis=1).astype(np.float32)


def as_category(value: object) -> str | None:
    """Write a category as text, alike wherever it comes from: 3, 3.0, "3" and "3.0" are one.

    Returns:
        The text; None for a missing one.

    Raises:
        TypeError: if it is neither text, a number nor a boolean.
    """
    if value is None or isinstance(value, str):
        # A CSV file writes whole numbers like this where the column misses some.
        return None if value is None else WHOLE_NUMBER.sub(r"\1", value.strip())
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    if is_missing(value):
        return None
    raise TypeError("expected text, a number or a boolean")


def as_number(value: object) -> float:
    """Read a number, written as one or as text; None, NaN and blank text are missing, as NaN.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is a text that holds no finite one.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text or text.lower() == "nan":
            return math.nan
        number = {"true": 1.0, "false": 0.0}.get(text.lower())
        number = float(text) if number is None else number
    elif isinstance(value, int | float | Decimal | np.number | np.bool_):
        number = float(value)
    elif value is None or is_missing(value):
        return math.nan
    else:
        raise TypeError("expected a number")
    if math.isinf(number):
        raise ValueError("expected a finite number")
    return number


def as_seconds(value: object) -> float:
    """Read a time as seconds since 1970; one without a zone is UTC, a number is in seconds already.

    Raises:
        TypeError: if it is no time.
        ValueError: if it is a text that holds none.
    """
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            return math.nan
        return float(value.astype("datetime64[ns]").astype(np.int64)) / 1e9
    if isinstance(value, str):
        text = value.strip().removesuffix(" UTC")
        if not text:
            return math.nan
        try:
            return as_number(text)
        except ValueError:
            value = datetime.fromisoformat(text)
    if value is not None and is_missing(value):
        return math.nan
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return moment.timestamp()
    return as_number(value)


def is_missing(value: object) -> bool:
    """Tell whether a value stands for none: None, NaN, and pandas' NA and NaT."""
    if value is None:
        return True
    # pandas' NA and NaT, which this module doesn't import; they alone differ from themselves, or
    # refuse to say.
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return True


def _each(read: Any, values: Sequence[Any], name: str, first_row: int) -> list[Any]:  # noqa: ANN401
    found = []
    for row, value in enumerate(values, start=first_row):
        try:
            found.append(read(value))
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error) if isinstance(error, TypeError) else _expectation(read)
            raise ValueError(
                f"row {row}, column {name!r}: {reason}, got {value!r:.60} ({type(value).__name__})"
            ) from error
    return found


def _floats(read: Any, values: Sequence[Any], name: str, first_row: int) -> np.ndarray:  # noqa: ANN401
    return np.array(_each(read, values, name, first_row), dtype=np.float64)


def _expectation(read: object) -> str:
    if read is as_seconds:
        return "expected a time such as 2026-03-01T09:30:00, or seconds since 1970"
    return "expected a finite number"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r:.60}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"expected a list, got {value!r:.60}")
    return tuple(_text(item) for item in value)


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"expected a finite number, got {value!r:.60}")
    return float(value)


def _comparison(raw: Mapping[str, Any]) -> Comparison:
    if raw["kind"] not in WIDTHS:
        raise TypeError(f"expected one of {', '.join(WIDTHS)}, got {raw['kind']!r:.60}")
    return Comparison(first=_text(raw["first"]), second=_text(raw["second"]), kind=raw["kind"])


def _time_parts(value: object) -> tuple[TimePart, ...]:
    parts = _texts(value)
    if not parts or any(part not in get_args(TimePart) for part in parts):
        raise TypeError(f"expected some of {', '.join(get_args(TimePart))}, got {list(parts)}")
    return parts  # type: ignore[return-value]
