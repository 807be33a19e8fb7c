"""What a resume may change in a study, and what makes it another study."""

from typing import Any

from search.study_config import StudyConfig, study_to_dict

FREE_TO_CHANGE = (
    "search.trials",
    "search.max_failures",
    "search.checkpoint_budget_gb",
    "resources.concurrent_trials",
    "resources.cpus_per_worker",
    "encoder.cache_gb",
    "data.path",
    "data.truth",
    "compression",
    "winners",
)
"""What a resume may change: nothing that decides about a point, a trial's result or its end. The
data may lie elsewhere, because what it holds is compared."""


def find_changes(stored: StudyConfig, given: StudyConfig) -> list[str]:
    """List the settings in which two studies differ and may not, with both values."""
    return _changes(study_to_dict(stored), study_to_dict(given), "")


def _changes(stored: Any, given: Any, path: str) -> list[str]:  # noqa: ANN401 - plain values
    if path in FREE_TO_CHANGE:
        return []
    if isinstance(stored, dict) and isinstance(given, dict) and path != "space":
        below = f"{path}." if path else ""
        return [
            change
            for key in given
            for change in _changes(stored.get(key), given[key], f"{below}{key}")
        ]
    if path == "space":
        changed = [
            f"space.{name} is {stored.get(name)} there and {given.get(name)} here"
            for name in dict.fromkeys([*stored, *given])
            if stored.get(name) != given.get(name)
        ]
        if not changed and list(stored) != list(given):
            return ["space lists its parameters in another order"]
        return changed
    return [] if stored == given else [f"{path} is {stored} there and {given} here"]
