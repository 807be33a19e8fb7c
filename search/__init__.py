"""Which trials to run, and what is learned from them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.study import Study

__all__ = ["Study"]


def __getattr__(name: str) -> object:
    # Deferred, so that a command which only reads a bundle doesn't pay for a study's imports.
    if name == "Study":
        from search.study import Study

        return Study
    raise AttributeError(f"module 'search' has no attribute {name!r}")
