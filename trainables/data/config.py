"""Where the table is, what its columns mean, and how it is split."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from spaces.spelling import nearest
from trainables.data.comparison import Comparison
from trainables.data.fields import TimePart
from trainables.data.token_rows import TextLayout

SplitName = Literal["train", "validation", "test"]
"""The parts of a table: fitted on, chosen by, and scored once at the end."""

LATER_SETTINGS = (
    "second_segment",
    "optional_text",
    "markers",
    "categorical",
    "numeric",
    "time_features",
    "compare",
    "propensity",
)
"""Settings of the columns without which tables had fingerprints before."""

SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column holds what. Either ``label``, or ``clicks`` with ``impressions``."""

    text: tuple[str, ...] = ()
    """Text columns, in order: the first is BERT's segment A, the others make segment B. Where a
    Parquet column holds lists of texts, such as what a user bought, the latest first, each is
    joined to one."""
    second_segment: tuple[str, ...] | None = None
    """The last of the text columns, which make segment B instead: for pairs of products each side
    is a segment. An empty list puts all text into segment A."""
    optional_text: tuple[str, ...] = ()
    """Text columns that may be blank; the others may not."""
    markers: bool = False
    """Write each column's name before its text, and leave blank ones out: ``brand: Acme``."""
    categorical: tuple[str, ...] = ()
    """Columns of categories. Missing ones, and those that training hardly saw, have a meaning of
    their own."""
    numeric: tuple[str, ...] = ()
    """Columns of numbers, scaled by the training rows; missing ones are flagged."""
    propensity: str | None = None
    """Probability that the logging policy chose the row's placement, above 0 and up to 1."""
    time_features: tuple[TimePart, ...] = ()
    """What the model sees of ``timestamp``: ``hour``, ``weekday``, ``age``."""
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs of columns that the model sees a comparison of, beside the columns themselves: two
    numeric ones by how far apart they are, any other text or categorical ones by the letters and
    words that they share (:mod:`trainables.data.comparison`)."""
    label: str | None = None
    """1 for a click, 0 for none; one row an impression."""
    clicks: str | None = None
    """Number of clicks; one row stands for many impressions."""
    impressions: str | None = None
    """Number of impressions, at least the number of clicks."""
    weight: str | None = None
    """Importance of a row beside its impressions, above 0."""
    group: str | None = None
    """Rows of one group never fall on two sides of a split by group."""
    timestamp: str | None = None
    """When the impressions happened; orders a split by time."""

    def __post_init__(self) -> None:
        self._check_text()
        self._check_fields()
        self._check_compared()
        if self.label is None and (self.clicks is None or self.impressions is None):
            raise ValueError(
                "data.columns needs label (0 or 1), or both clicks and impressions; "
                f"found label={self.label}, clicks={self.clicks}, impressions={self.impressions}"
            )
        if self.label is not None and (self.clicks or self.impressions):
            raise ValueError(
                "data.columns has label and counts; keep label for one row per impression, "
                "or clicks and impressions for aggregated rows"
            )

    def _check_text(self) -> None:
        if isinstance(self.text, str) or not (self.text or self.fields):
            raise ValueError(
                f"data.columns.text must list at least one column, got {self.text!r}; "
                "write text: [title]"
            )
        if len(set(self.text)) < len(self.text):
            raise ValueError(
                f"data.columns.text lists a column twice, got {list(self.text)}; BERT would read "
                "the same text again: name each once"
            )
        second = self.second_segment
        if second is not None and (
            self.text[len(self.text) - len(second) :] != second or second == self.text != ()
        ):
            raise ValueError(
                "data.columns.second_segment must be the last of the text columns, but not all of "
                f"them; got {list(second)} of {list(self.text)}"
            )
        if unknown := sorted(set(self.optional_text) - set(self.text)):
            raise ValueError(
                f"data.columns.optional_text names {', '.join(unknown)}, which data.columns.text "
                f"doesn't list; it lists {', '.join(self.text) or 'nothing'}"
            )

    def _check_fields(self) -> None:
        if self.time_features and self.timestamp is None:
            raise ValueError(
                "data.columns.time_features needs a timestamp; name its column, timestamp: ..."
            )
        if len(set(self.time_features)) < len(self.time_features):
            raise ValueError(
                f"data.columns.time_features lists one twice, got {list(self.time_features)}; "
                f"there are {', '.join(get_args(TimePart))}"
            )
        if len(set(self.fields)) < len(self.fields):
            raise ValueError(
                "data.columns names a field twice in categorical and numeric, got "
                f"{list(self.fields)}; name each once"
            )
        if self.propensity is not None and self.label is None:
            raise ValueError(
                "data.columns.propensity is of one impression, but the table has counts; give one "
                "row per impression with label"
            )
        if self.time_features and self.timestamp in self.fields:
            raise ValueError(
                f"data.columns lists {self.timestamp} as a field and has time_features of it; keep "
                "one of the two"
            )
        outcomes = (self.label, self.clicks, self.impressions, self.weight, self.propensity)
        leaking = [name for name in outcomes if name in (*self.fields, *self.text)]
        if leaking:
            raise ValueError(
                f"data.columns gives the model {', '.join(map(str, leaking))}, which it will not "
                "know when it predicts: outcomes, weights and propensities are no inputs"
            )

    def _check_compared(self) -> None:
        seen = (*self.text, *self.fields)
        for first, second in self.compare:
            if unknown := [name for name in (first, second) if name not in seen]:
                raise ValueError(
                    f"data.columns.compare names {unknown[0]}, which the model doesn't see; list "
                    f"it under text, categorical or numeric{nearest(unknown[0], seen)}"
                )
            if first == second:
                raise ValueError(
                    f"data.columns.compare compares {first} with itself; name two columns"
                )
            if (first in self.numeric) != (second in self.numeric):
                raise ValueError(
                    f"data.columns.compare compares {first} with {second}, of which one is "
                    "numeric; compare two numeric columns, or list neither under numeric"
                )
        pairs = {frozenset(pair) for pair in self.compare}
        if len(pairs) < len(self.compare):
            raise ValueError(
                "data.columns.compare lists a pair twice, got "
                f"{[list(pair) for pair in self.compare]}; name each once"
            )

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Return what is compared."""
        return tuple(
            Comparison(
                first=first, second=second, kind="number" if first in self.numeric else "text"
            )
            for first, second in self.compare
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the categorical and numeric columns."""
        return (*self.categorical, *self.numeric)

    @property
    def has_fields(self) -> bool:
        """Return whether a model sees anything beside text."""
        return bool(self.fields or self.time_features or self.compare)

    def meaning(self) -> dict[str, Any]:
        """Return what a fingerprint covers: settings that came later count where they are used."""
        settings = dataclasses.asdict(self)
        usual = dataclasses.asdict(Columns(text=("text",), label="label"))
        return {
            name: value
            for name, value in settings.items()
            if name not in LATER_SETTINGS or value != usual[name]
        }

    @property
    def layout(self) -> TextLayout:
        """Return how the text columns are joined."""
        second = self.text[1:] if self.second_segment is None else self.second_segment
        return TextLayout(
            num_columns=len(self.text),
            num_first=len(self.text) - len(second),
            markers=tuple(name.replace("_", " ") for name in self.text) if self.markers else None,
            optional=tuple(
                place for place, name in enumerate(self.text) if name in self.optional_text
            ),
        )

    def named(self) -> tuple[str, ...]:
        """Return every column that the table must have."""
        singles = (
            self.label,
            self.clicks,
            self.impressions,
            self.weight,
            self.group,
            self.timestamp,
            self.propensity,
        )
        return tuple(dict.fromkeys([*self.text, *self.fields, *(name for name in singles if name)]))


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """How rows are divided into training, validation and test."""

    by: Literal["random", "group", "time", "column"] = "random"
    """random: each row alone; group: whole groups; time: earlier rows train, later rows test;
    column: as ``column`` says."""
    column: str | None = None
    """The column that names each row's part: train, validation (or valid) or test."""
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15)
    """Shares of training, validation and test; they sum to 1."""
    seed: int = 0
    """Seed of the random and the group split."""

    def __post_init__(self) -> None:
        if len(self.fractions) != 3 or not all(0 < share < 1 for share in self.fractions):
            raise ValueError(
                "data.split.fractions must be three shares between 0 and 1 "
                f"(training, validation, test), got {list(self.fractions)}"
            )
        if not math.isclose(sum(self.fractions), 1, abs_tol=1e-6):
            raise ValueError(
                f"data.split.fractions must sum to 1, got {list(self.fractions)}, "
                f"which sum to {sum(self.fractions):g}"
            )
        if self.seed < 0:
            raise ValueError(f"data.split.seed must be at least 0, got {self.seed}")
        if (self.by == "column") != (self.column is not None):
            raise ValueError(
                f"data.split.by is {self.by} and data.split.column is {self.column!r}; for a split "
                "that the table gives write {by: column, column: NAME}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """One table of impressions and clicks."""

    path: str
    """A CSV, CSV.gz or Parquet file, or a folder of them; local or an fsspec URL."""
    columns: Columns
    """What the columns mean."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How rows are divided."""
    merge_identical: bool = True
    """Add up clicks and impressions of rows that agree on text and group (and, for a split by time,
    on timestamp). The likelihood stays the same. Ignored for 0/1 labels."""
    truth: str | None = None
    """A simulated log's table of true probabilities (see ``clicktune data simulate``). Training
    never reads it; the report states the best ROC-AUC that any model could reach."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """What a row with a value that can't be used does: fail refuses the table, skip leaves the row
    out, counts it, and lists it in a file."""
    max_bad_share: float = 0.01
    """Largest share of bad rows that may be skipped; a table with more is refused."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("data.path is empty; name a file, a folder or an fsspec URL")
        used = (*self.columns.named(),)
        if self.split.column is not None and self.split.column in used:
            raise ValueError(
                f"data.split.column is {self.split.column}, which data.columns uses too; the "
                "column that names a row's part is nothing else"
            )
        if self.split.by == "group" and self.columns.group is None:
            raise ValueError("data.split.by is group, but data.columns names no group column")
        if self.split.by == "time" and self.columns.timestamp is None:
            raise ValueError("data.split.by is time, but data.columns names no timestamp column")
        if not 0 <= self.max_bad_share < 1:
            raise ValueError(f"data.max_bad_share must be in [0, 1), got {self.max_bad_share}")

    def named(self) -> tuple[str, ...]:
        """Return every column that the table must have."""
        split = () if self.split.column is None else (self.split.column,)
        return tuple(dict.fromkeys([*self.columns.named(), *split]))
