"""What a predictor must know to turn a row into the model's inputs; ``features.json``."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """How a row's columns become tokens; the same in training and in serving."""

    text: tuple[str, ...]
    """Text columns, in order: the first is segment A, the others, joined, are segment B."""
    max_tokens: int
    """Longest input, special tokens included; longer texts lose their end."""

    @property
    def num_segments(self) -> int:
        """1, or 2 where there is a segment B."""
        return 1 if len(self.text) == 1 else 2

    def to_json(self) -> str:
        """Write as JSON text."""
        fields = {**dataclasses.asdict(self), "num_segments": self.num_segments}
        return json.dumps(fields, indent=2) + "\n"


def read_features(path: Path) -> Features:
    """Read what :meth:`Features.to_json` wrote.

    Raises:
        ValueError: if it can't be read or lacks something.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        text, max_tokens = raw["text"], raw["max_tokens"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} can't be read as a bundle's features: {error!r}") from error
    if not isinstance(text, list) or not text or not all(isinstance(name, str) for name in text):
        raise ValueError(f"{path}: text must list the text columns, got {text!r:.80}")
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 3:
        raise ValueError(
            f"{path}: max_tokens must be a whole number from 3, got {max_tokens!r:.80}"
        )
    return Features(text=tuple(text), max_tokens=max_tokens)
