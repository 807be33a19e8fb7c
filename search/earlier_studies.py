"""What earlier studies know: trials that need not run again, good points, results to learn from."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from search.algorithms.distinct import effective_key
from search.algorithms.learning import Told
from search.leaderboard import leaderboard
from search.ledger import Ledger
from search.study_config import StudyConfig, parse_study
from search.trial_record import TrialRecord
from spaces.given_points import complete_point
from spaces.parameters import Value
from spaces.space import Space
from trainables.bundle.export import library_versions
from trainables.metrics import METRICS
from trainables.trial_setup import CheckpointRecord

LIBRARIES_FACT = "libraries"
"""Of a study's ledger: the versions of what it trains with; None where runs had different ones."""
EARLIER_FACT = "earlier_studies"
"""Of a study's ledger: what it took from earlier ones when it began."""
NUM_POINTS = 2
"""Points of each earlier study that are tried first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchedTrial:
    """A trial of an earlier study, its best checkpoint copied into this one."""

    source: str
    """The trial and its study, as a person reads it."""
    trial: TrialRecord
    """The trial."""
    checkpoint: CheckpointRecord
    """The copy."""

    def results(self, objectives: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give what a trial's process would have reported, epoch by epoch.

        Args:
            objectives: Of the study that takes it over.
        """
        spent = 0.0
        for report in self.trial.reports:
            spent += report.seconds
            metrics = dict(report.metrics)
            if "train_seconds" in objectives:
                # What it took there, though nothing is spent on it here.
                metrics.setdefault("train_seconds", spent / report.epoch * self.trial.last_epoch)
            is_kept = report.epoch == self.checkpoint.epoch
            yield {
                "epoch": report.epoch,
                "metrics": metrics,
                "seconds": 0.0,
                "config_hash": self.trial.config_hash,
                "checkpoint": self.checkpoint.to_dict() if is_kept else None,
                "done": report.epoch == self.trial.last_epoch,
            }


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownTrial:
    """A trial that an earlier study ran to its end."""

    folder: str
    """The study's."""
    number: int
    """The trial's."""
    source: str
    """Both, as a person reads it."""

    def fetch(self, metric: str, target: Path) -> FetchedTrial | None:
        """Copy its best checkpoint into a folder; None if that is gone or of another epoch.

        Args:
            metric: By which an epoch is the best.
            target: Gets the checkpoint's folder.
        """
        better = METRICS[metric].higher_is_better
        try:
            with Ledger.read(Path(self.folder)) as ledger:
                trial = ledger.trial(self.number)
            best = trial.best_report(metric, higher_is_better=better)
            kept = next((c for c in trial.checkpoints if best and c.epoch == best.epoch), None)
            if kept is None:
                return None
            copy = target / kept.path.name
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(kept.path, copy)
        except (ValueError, KeyError, FileNotFoundError):
            # The study has gone, or has dropped the checkpoint: the trial is run.
            shutil.rmtree(target, ignore_errors=True)
            return None
        record = CheckpointRecord(path=str(copy), epoch=kept.epoch, num_bytes=kept.num_bytes)
        return FetchedTrial(source=self.source, trial=trial, checkpoint=record)


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierStudies:
    """What the studies that ``search.warm_start`` names knew when this one began."""

    known: Mapping[tuple[str, bool], KnownTrial] = field(default_factory=dict)
    """Trials that need not run again, by the hash of all that determines them and by whether they
    trained another trial again: one that was picked for its value says nothing of its luck."""
    points: tuple[dict[str, Value], ...] = ()
    """Good points of the space, the best of each study first."""
    told: tuple[Told, ...] = ()
    """Trials on the same data, for an algorithm that learns from others."""
    notes: tuple[str, ...] = ()
    """What is taken from where, for a person."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "known": [
                [config_hash, is_repeat, dataclasses.asdict(trial)]
                for (config_hash, is_repeat), trial in self.known.items()
            ],
            "points": list(self.points),
            "told": [
                # JSON has no numbers as keys.
                {**dataclasses.asdict(told), "scores": list(told.scores.items())}
                for told in self.told
            ],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            known={
                (config_hash, is_repeat): KnownTrial(**trial)
                for config_hash, is_repeat, trial in raw["known"]
            },
            points=tuple(raw["points"]),
            told=tuple(
                Told(**{**told, "scores": dict(told["scores"]), "costs": tuple(told["costs"])})
                for told in raw["told"]
            ),
            notes=tuple(raw["notes"]),
        )


def check_earlier(config: StudyConfig) -> None:
    """Make sure that the earlier studies are there.

    Raises:
        ValueError: naming the first that isn't.
    """
    for name in config.search.warm_start:
        try:
            with Ledger.read(Path(name).expanduser()) as ledger:
                parse_study(ledger.fact("config"), source=f"the study in {name}")
        except ValueError as error:
            raise ValueError(f"search.warm_start: {error}") from error


def read_earlier(
    config: StudyConfig, *, data_fingerprint: str, encoder_fingerprint: str
) -> EarlierStudies:
    """Read what earlier studies know that is of use to a study.

    Trials are taken over if everything that determines them is equal, the versions of the libraries
    included. An algorithm learns from trials on the same data and encoder that were judged by the
    same objectives after as many epochs. Points may come from any study, for good hyperparameters
    are often good elsewhere.

    Args:
        config: The study; its ``search.warm_start`` names the others.
        data_fingerprint: Of its prepared data.
        encoder_fingerprint: Of its encoder.

    Raises:
        ValueError: if one isn't there.
    """
    check_earlier(config)
    known: dict[tuple[str, bool], KnownTrial] = {}
    points: dict[str, dict[str, Value]] = {}
    told: list[Told] = []
    notes = []
    for name in config.search.warm_start:
        folder = Path(name).expanduser().resolve()
        with Ledger.read(folder) as ledger:
            stored = parse_study(ledger.fact("config"), source=f"the study in {folder}")
            trials = ledger.all_trials()
            libraries = ledger.fact(LIBRARIES_FACT)
            data: Mapping[str, Any] = ledger.fact("data", {})
            same_data = (
                data.get("fingerprint") == data_fingerprint
                and ledger.fact("encoder_fingerprint") == encoder_fingerprint
            )
        # One that continues another, with other values, says nothing of its own point.
        trials = [trial for trial in trials if trial.continues is None]
        searched = [trial for trial in trials if trial.repeats is None]
        found = {}
        if libraries == library_versions():
            found = _known_trials(stored, trials, folder)
        known = {**found, **known}
        own_points = _good_points(stored, searched, config.space)
        points |= own_points
        own_told = _told(stored, searched, config) if same_data else []
        told += own_told
        notes.append(
            f"{name} gives {len(own_points)} points to start from, {len(own_told)} results to "
            f"learn from, and {len(found)} trials that are taken over where they are asked for"
        )
    return EarlierStudies(
        known=known, points=tuple(points.values()), told=tuple(told), notes=tuple(notes)
    )


def _known_trials(
    stored: StudyConfig, trials: Sequence[TrialRecord], folder: Path
) -> dict[tuple[str, bool], KnownTrial]:
    return {
        (trial.config_hash, trial.repeats is not None): KnownTrial(
            folder=str(folder),
            number=trial.number,
            source=f"trial {trial.number} of {stored.name}",
        )
        for trial in trials
        if trial.is_whole and trial.checkpoints
    }


def _good_points(
    stored: StudyConfig, trials: Sequence[TrialRecord], space: Space
) -> dict[str, dict[str, Value]]:
    """Return the best trials' points, as far as the space has them, by what they train."""
    metric = METRICS[stored.search.metric]
    points: dict[str, dict[str, Value]] = {}
    for standing in leaderboard(trials, metric.name, higher_is_better=metric.higher_is_better):
        given = {n: v for n, v in standing.trial.params.items() if n in space.parameters}
        try:
            point = complete_point(space, given)
        except ValueError:
            # A value that this space doesn't have.
            continue
        points.setdefault(effective_key(point), point)
        if len(points) == NUM_POINTS:
            break
    return points


def _told(stored: StudyConfig, trials: Sequence[TrialRecord], config: StudyConfig) -> list[Told]:
    search = config.search
    judged = (stored.search.metric, stored.search.epochs, stored.search.objectives)
    if judged != (search.metric, search.epochs, search.objectives):
        return []
    metric = METRICS[search.metric]
    sign = 1 if metric.higher_is_better else -1
    told = []
    for trial in trials:
        best = trial.best_report(metric.name, higher_is_better=metric.higher_is_better)
        point = _point_of(trial, config.space)
        if trial.state == "running" or best is None or point is None:
            continue
        last = trial.reports[-1].metrics
        told.append(
            Told(
                point=point,
                outcome=trial.state,
                score=sign * best.metrics[metric.name],
                costs=tuple(last[name] for name in search.objectives),
                scores={r.epoch: sign * r.metrics[metric.name] for r in trial.reports},
            )
        )
    return told


def _point_of(trial: TrialRecord, space: Space) -> dict[str, Value] | None:
    """Return a trial's point in a space; None if the space hasn't what it was trained with."""
    if set(trial.params) - set(space.parameters):
        return None
    given = dict(trial.params)
    for name, parameter in space.parameters.items():
        value = getattr(trial.config, name)
        if name not in given and not parameter.when and value is not None:
            # The same in all trials there; here it varies.
            given[name] = value
    try:
        point = complete_point(space, given)
    except ValueError:
        return None
    return point if set(point) == set(given) else None


def all_start_points(config: StudyConfig, earlier: EarlierStudies) -> list[dict[str, Value]]:
    """Return the points with which a search starts: the study's own, and those of earlier ones."""
    points = {effective_key(point): point for point in config.start_points()}
    for point in earlier.points:
        points.setdefault(effective_key(point), point)
    return list(points.values())
