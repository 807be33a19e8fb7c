"""Where the table is, what its columns mean, and how it is split."""

import math
from dataclasses import dataclass, field
from typing import Literal

SplitName = Literal["train", "validation", "test"]
"""The parts of a table: fitted on, chosen by, and scored once at the end."""

SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column holds what. Either ``label``, or ``clicks`` with ``impressions``."""

    text: tuple[str, ...]
    """Text columns, in order: the first is BERT's segment A, the others make segment B."""
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
        if isinstance(self.text, str) or not self.text:
            raise ValueError(
                f"data.columns.text must list at least one column, got {self.text!r}; "
                "write text: [title]"
            )
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

    def named(self) -> tuple[str, ...]:
        """Return every column that the table must have."""
        singles = (
            self.label,
            self.clicks,
            self.impressions,
            self.weight,
            self.group,
            self.timestamp,
        )
        return tuple(dict.fromkeys([*self.text, *(name for name in singles if name)]))


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """How rows are divided into training, validation and test."""

    by: Literal["random", "group", "time"] = "random"
    """random: each row alone; group: whole groups; time: earlier rows train, later rows test."""
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

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("data.path is empty; name a file, a folder or an fsspec URL")
        if self.split.by == "group" and self.columns.group is None:
            raise ValueError("data.split.by is group, but data.columns names no group column")
        if self.split.by == "time" and self.columns.timestamp is None:
            raise ValueError("data.split.by is time, but data.columns names no timestamp column")
