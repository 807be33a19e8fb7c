"""What earlier studies know: trials that need not run again, good points, results to learn from."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.algorithms.distinct import effective_key
from search.algorithms.learning import Told
from search.leaderboard import leaderboard
from search.ledger import Ledger
from search.study_config import StudyConfig, parse_study
from search.trial_record import StoredCheckpoint, TrialRecord
from spaces.given_points import complete_point
from spaces.parameters import Value
from spaces.space import Space
from trainables.bundle.export import library_versions
from trainables.metrics import METRICS
from trainables.trial_setup import CheckpointRecord

LIBRARIES_FACT = "libraries"
"""Of a study's ledger: the versions of ClickTune and what it trains with."""
NUM_POINTS = 2
"""Points of each earlier study that are tried first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownTrial:
    """A trial that an earlier study ran to its end."""

    source: str
    """The study and the trial, as a person reads it."""
    trial: TrialRecord
    """The trial."""
    checkpoint: StoredCheckpoint
    """Its best checkpoint, still on disk."""

    def copy_checkpoint(self, folder: Path) -> CheckpointRecord:
        """Copy the checkpoint below a folder."""
        target = folder / self.checkpoint.path.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.checkpoint.path, target)
        return CheckpointRecord(
            path=str(target), epoch=self.checkpoint.epoch, num_bytes=self.checkpoint.num_bytes
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierStudies:
    """What the studies that ``search.warm_start`` names know."""

    known: Mapping[str, KnownTrial] = field(default_factory=dict)
    """Trials that need not run again, by the hash of all that determines them."""
    points: tuple[dict[str, Value], ...] = ()
    """Good points of the space, the best of each study first."""
    told: tuple[Told, ...] = ()
    """Trials on the same data, for an algorithm that learns from others."""
    notes: tuple[str, ...] = ()
    """What is taken from where, and what isn't, for a person."""


def check_earlier(config: StudyConfig) -> None:
    """Make sure that the earlier studies are there.

    Raises:
        ValueError: naming the first that isn't.
    """
    for folder in config.search.warm_start:
        try:
            Ledger.read(Path(folder).expanduser()).close()
        except ValueError as error:
            raise ValueError(f"search.warm_start: {error}") from error


def read_earlier(
    config: StudyConfig, *, data_fingerprint: str, encoder_fingerprint: str
) -> EarlierStudies:
    """Read what earlier studies know that is of use to a study.

    Trials are taken over if everything that determines them is equal, the versions of the libraries
    included. An algorithm learns from trials on the same data and encoder that were judged by the
    same metric after as many epochs. Points may come from any study, for good hyperparameters are
    often good elsewhere.

    Args:
        config: The study; its ``search.warm_start`` names the others.
        data_fingerprint: Of its prepared data.
        encoder_fingerprint: Of its encoder.

    Raises:
        ValueError: if one isn't there.
    """
    check_earlier(config)
    known: dict[str, KnownTrial] = {}
    points: dict[str, dict[str, Value]] = {}
    told: list[Told] = []
    notes = []
    for name in config.search.warm_start:
        folder = Path(name).expanduser()
        with Ledger.read(folder) as ledger:
            stored = parse_study(ledger.fact("config"), source=f"the study in {folder}")
            trials = ledger.all_trials()
            libraries = ledger.fact(LIBRARIES_FACT)
            data: Mapping[str, Any] = ledger.fact("data", {})
            same_data = (
                data.get("fingerprint") == data_fingerprint
                and ledger.fact("encoder_fingerprint") == encoder_fingerprint
            )
        found = _known_trials(stored, trials) if libraries == library_versions() else {}
        known = {**found, **known}
        own_points = _good_points(stored, trials, config.space)
        points |= {effective_key(point): point for point in own_points}
        own_told = _told(stored, trials, config) if same_data else []
        told += own_told
        notes.append(
            f"{folder} gives {len(own_points)} points to start from, {len(own_told)} results to "
            f"learn from, and {len(found)} trials that need not run again where they are asked for"
        )
    return EarlierStudies(
        known=known, points=tuple(points.values()), told=tuple(told), notes=tuple(notes)
    )


def _known_trials(stored: StudyConfig, trials: Sequence[TrialRecord]) -> dict[str, KnownTrial]:
    metric = METRICS[stored.search.metric]
    known = {}
    for standing in leaderboard(
        [trial for trial in trials if trial.is_whole],
        metric.name,
        higher_is_better=metric.higher_is_better,
    ):
        checkpoint, trial = standing.checkpoint, standing.trial
        if checkpoint is not None and checkpoint.path.is_dir():
            known[trial.config_hash] = KnownTrial(
                source=f"trial {trial.number} of {stored.name}", trial=trial, checkpoint=checkpoint
            )
    return known


def _good_points(
    stored: StudyConfig, trials: Sequence[TrialRecord], space: Space
) -> list[dict[str, Value]]:
    """Return the best trials' points, as far as the space has them."""
    metric = METRICS[stored.search.metric]
    points = []
    for standing in leaderboard(trials, metric.name, higher_is_better=metric.higher_is_better):
        given = {n: v for n, v in standing.trial.params.items() if n in space.parameters}
        try:
            points.append(complete_point(space, given))
        except ValueError:
            # A value that this space doesn't have.
            continue
        if len(points) == NUM_POINTS:
            break
    return points


def _told(stored: StudyConfig, trials: Sequence[TrialRecord], config: StudyConfig) -> list[Told]:
    if (stored.search.metric, stored.search.epochs) != (config.search.metric, config.search.epochs):
        return []
    metric = METRICS[config.search.metric]
    sign = 1 if metric.higher_is_better else -1
    told = []
    for trial in trials:
        best = trial.best_report(metric.name, higher_is_better=metric.higher_is_better)
        if (
            trial.state == "running"
            or best is None
            or set(trial.params) - set(config.space.parameters)
        ):
            continue
        try:
            point = complete_point(config.space, trial.params)
        except ValueError:
            continue
        told.append(
            Told(
                point=point,
                outcome=trial.state,
                score=sign * best.metrics[metric.name],
                scores={r.epoch: sign * r.metrics[metric.name] for r in trial.reports},
            )
        )
    return told


def all_start_points(config: StudyConfig, earlier: EarlierStudies) -> list[dict[str, Value]]:
    """Return the points with which a search starts: the study's own, and those of earlier ones."""
    points = {effective_key(point): point for point in config.start_points()}
    for point in earlier.points:
        points.setdefault(effective_key(point), point)
    return list(points.values())
