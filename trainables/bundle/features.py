"""What a predictor must know to turn a row into the model's inputs; ``features.json``."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.data.fields import Fields
from trainables.data.token_rows import TextLayout

MIN_TOKENS = 3
"""A word between the two special tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """How a row's columns become the model's inputs; the same in training and in serving."""

    text: tuple[str, ...]
    """Text columns, in order."""
    max_tokens: int
    """Longest input, special tokens included; longer texts lose their end."""
    layout: TextLayout
    """How the text columns are joined."""
    fields: Fields = field(default_factory=Fields)
    """How the other columns become codes and numbers."""

    placement: tuple[str, ...] = ()
    """Categorical columns that make a placement; empty: the bundle chooses none."""
    placements: tuple[tuple[str, ...], ...] = ()
    """The placements that it chooses from: values of those columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that a row must have."""
        return tuple(dict.fromkeys([*self.text, *self.fields.names, *self.texts]))

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are read as texts, by the model or to be compared."""
        return tuple(dict.fromkeys([*self.text, *self.fields.compared_texts]))

    def may_be_blank(self, name: str) -> bool:
        """Return whether a column of :attr:`texts` may be missing: the model can do without."""
        return name not in self.text or self.text.index(name) in self.layout.optional

    def to_columns(self) -> dict[str, tuple[str, ...]]:
        """Say what the manifest says of them."""
        return {
            "text": self.text,
            "fields": self.fields.names,
            "compared": tuple(map(str, self.fields.comparisons)),
        }

    def to_json(self) -> str:
        """Write as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"


def read_features(path: Path) -> Features:
    """Read what :meth:`Features.to_json` wrote.

    Raises:
        ValueError: if it can't be read or lacks something.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        text, max_tokens = raw["text"], raw["max_tokens"]
        layout, fields = raw["layout"], raw["fields"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ValueError(f"{path} can't be read as a bundle's features: {error!r}") from error
    if not isinstance(text, list) or not all(isinstance(name, str) for name in text):
        raise ValueError(f"{path}: text must list the text columns, got {text!r:.80}")
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < MIN_TOKENS:
        raise ValueError(
            f"{path}: max_tokens must be a whole number from {MIN_TOKENS}, got {max_tokens!r:.80}"
        )
    try:
        features = Features(
            text=tuple(text),
            max_tokens=max_tokens,
            layout=_layout(layout, len(text)),
            fields=Fields.from_dict(fields),
            placement=_texts(raw["placement"]),
            placements=tuple(_texts(values) for values in raw["placements"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} can't be read as a bundle's features: {error}") from error
    widths = {len(values) for values in features.placements}
    if widths - {len(features.placement)} or (
        set(features.placement) - {field.name for field in features.fields.categorical}
    ):
        raise ValueError(f"{path}: placements don't fit the columns {features.placement}")
    if not features.columns:
        raise ValueError(f"{path}: text must list the text columns, got none, and no field either")
    return features


def _texts(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(each, str) for each in raw):
        raise ValueError(f"expected a list of texts, got {raw!r:.80}")
    return tuple(raw)


def _layout(raw: Mapping[str, Any], num_columns: int) -> TextLayout:
    num_first, markers = raw["num_first"], raw["markers"]
    if markers is not None:
        markers = tuple(markers)
        if len(markers) != num_columns or not all(isinstance(each, str) for each in markers):
            raise ValueError(f"layout.markers must name {num_columns} columns, got {markers!r:.80}")
    if (
        raw["num_columns"] != num_columns
        or isinstance(num_first, bool)
        or not isinstance(num_first, int)
        or not min(num_columns, 1) <= num_first <= num_columns
    ):
        raise ValueError(f"layout doesn't fit {num_columns} text columns, got {dict(raw)!r:.80}")
    optional = raw["optional"]
    if not isinstance(optional, list) or any(
        isinstance(place, bool) or not isinstance(place, int) for place in optional
    ):
        raise ValueError(f"layout.optional must list places of columns, got {optional!r:.80}")
    return TextLayout(
        num_columns=num_columns, num_first=num_first, markers=markers, optional=tuple(optional)
    )
