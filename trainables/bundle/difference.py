"""What tells two bundles apart: data, trial, compression, quality, cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.bundle.verify import describe_bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A fact that isn't the same in two bundles."""

    name: str
    """The fact, with what it is part of: ``test: roc_auc``."""
    left: Any
    """Its value in the first bundle; None where it has none."""
    right: Any
    """In the second."""


def compare_bundles(left: str | Path, right: str | Path) -> list[Difference]:
    """Compare what two bundles say of themselves, in the order in which ``info`` tells it.

    Args:
        left: A bundle, or a link to it.
        right: Another.

    Raises:
        ValueError: if a folder holds no readable manifest.
    """
    ours, theirs = (dict(_flat(describe_bundle(folder))) for folder in (left, right))
    return [
        Difference(name=name, left=ours.get(name), right=theirs.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]


def _flat(facts: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}: ")
        else:
            yield f"{before}{name}", value
