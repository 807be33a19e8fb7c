"""What a resume may change in a study, and what makes it another study."""

from pathlib import Path
from typing import Any

from search.ledger import Ledger
from search.study_config import StudyConfig, parse_study, study_to_dict
from search.study_plan import count_trials
from search.trial_record import without_replaced

FREE_TO_CHANGE = (
    "search.trials",
    "search.target",
    "search.max_hours",
    "search.max_trial_hours",
    "search.patience",
    "search.confirm_trials",
    "search.confirm_seeds",
    "search.max_failures",
    "search.max_epoch_minutes",
    "search.checkpoint_budget_gb",
    "resources.concurrent_trials",
    "resources.cpus_per_worker",
    "encoder.cache_gb",
    "deepspeed.micro_batch_rows",
    "deepspeed.offload_optimizer",
    "data.path",
    "data.truth",
    "compression",
    "winners",
)
"""What a resume may change: nothing that decides about a trial's result or its end, but for what
ends the whole search, nor about a point that was drawn. (How many points TPE draws at random before
it learns from results depends on ``search.trials``, so more of them may change which points come
next; the members of a population wait for each other, so that ``pbt`` can't have more.) The data
may lie elsewhere, because what it holds is compared."""


def find_changes(stored: StudyConfig, given: StudyConfig) -> list[str]:
    """List the settings in which two studies differ and may not, with both values."""
    changes = _changes(study_to_dict(stored), study_to_dict(given), "")
    before, now = stored.search.trials, given.search.trials
    if stored.search.scheduler == "pbt" and before != now:
        changes.append(f"search.trials, the population of pbt, is {before} there and {now} here")
    return changes


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


def check_folder(folder: Path, config: StudyConfig, *, resume: bool) -> None:
    """Refuse to run a study in the folder of another one, or to begin one anew.

    Raises:
        ValueError: saying what to do.
    """
    with Ledger.read(folder) as ledger:
        stored = parse_study(ledger.fact("config"), source=f"the study in {folder}")
        members = without_replaced(ledger.trials())
        num_ended = sum(trial.state != "running" for trial in members)
    changes = find_changes(stored, config)
    if changes:
        raise ValueError(
            f"{folder} holds another study: {'; '.join(changes)}. Choose another name or --out, or "
            "put these back to resume it"
        )
    if not resume:
        raise ValueError(
            f"{folder} holds this study already, {num_ended} of {count_trials(stored)} trials have "
            "ended; go on with --resume, or choose another name or --out"
        )


def check_data(folder: Path, config: StudyConfig, *, table: str, encoder: str) -> None:
    """Compare the fingerprints of a study's table and encoder with those that it began with.

    Raises:
        ValueError: if one has changed.
    """
    with Ledger.read(folder) as ledger:
        old_table = ledger.fact("table_fingerprint")
        old_encoder = ledger.fact("encoder_fingerprint")
    if table != old_table:
        raise ValueError(
            f"the data in {config.data.path} has changed since the study in {folder} began "
            f"(fingerprint {old_table} then, {table} now); its trials can't be compared with new "
            "ones: put the old data back, or start a study of another name"
        )
    if encoder != old_encoder:
        raise ValueError(
            f"the encoder {config.encoder.name} has changed since the study in {folder} began; put "
            "the old one back, or start a study of another name"
        )
