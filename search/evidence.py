"""All that a study's folder tells: trials, compressions, test scores, data."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.budgets import ReachedBudget, reached_budget
from search.compression_records import SCORES_FACT
from search.confirmation import Confirmation, find_confirmation
from search.final_scores import FinalScores
from search.importances import Importances, measure_importances
from search.leaderboard import leaderboard, pareto_front
from search.ledger import Ledger
from search.pareto import non_domination_ranks
from search.promotion import BEST
from search.study_config import StudyConfig, parse_study
from search.trial_record import ReportRecord, TrialRecord
from spaces.parameters import Parameter, Value
from trainables.bundle.export import library_versions
from trainables.bundle.manifest import read_manifest
from trainables.compression.report import CompressionReport
from trainables.data.config import SPLIT_NAMES
from trainables.data.describe import PartDescription
from trainables.data.prepared import PreparedData
from trainables.data.store import DATA_FOLDER
from trainables.metrics import METRICS, Metric

REPORT_FILE = "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedTrial:
    """A trial in the leaderboard."""

    rank: int | None
    """From 1; None for a trial without a result."""
    trial: TrialRecord
    """The trial."""
    best: ReportRecord | None
    """Its best report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyEvidence:
    """A study as it stands."""

    folder: Path
    """The study's folder."""
    config: StudyConfig
    """The resolved study."""
    ranking: tuple[RankedTrial, ...]
    """The leaderboard: best first, failed trials last."""
    front: tuple[RankedTrial, ...]
    """With several objectives, the trials that no other beats in all; the best metric first."""
    confirmation: Confirmation | None
    """What training the best again said; None where none was."""
    importances: Importances | None
    """What decided whether a trial is among the best; None with too few trials."""
    repeats: Mapping[int, TrialRecord]
    """The trials that were trained again, by number."""
    compressions: Mapping[int, CompressionReport]
    """What compressing gave, by trial."""
    best: int | None
    """The trial whose bundle was chosen."""
    scores: FinalScores | None
    """What the test split said about that bundle."""
    num_scored: int
    """For how many bundles the test split was scored."""
    ended_by: ReachedBudget | None
    """The budget that ended the search before its last trial."""
    data_fingerprint: str
    """Hash of the data; empty before it was prepared, or where it is gone."""
    data_parts: tuple[PartDescription, ...]
    """Training, validation and test; as above."""
    libraries: Mapping[str, str]
    """Versions that made the bundle; before there is one, those that are installed."""

    @property
    def metric(self) -> Metric:
        """What was optimized."""
        return METRICS[self.config.search.metric]

    @property
    def varied(self) -> dict[str, Parameter]:
        """The hyperparameters that the space varies; the others are the same in every trial."""
        return {
            name: parameter
            for name, parameter in self.config.space.parameters.items()
            if parameter.choices is None or len(parameter.choices) > 1
        }

    def varied_params(self, trial: TrialRecord) -> dict[str, Value]:
        """Return what tells a trial from the others."""
        return {name: value for name, value in trial.params.items() if name in self.varied}

    def name(self, number: int) -> str:
        """Return what a table calls a training: the trial, and its seed if it was another one."""
        trial = self.repeats.get(number)
        return str(number) if trial is None else f"{trial.repeats}, seed {trial.config.seed}"

    def marks(self, number: int) -> tuple[str, ...]:
        """Return what to say of each candidate of a compressed winner: bundle, chosen, or front.

        On the front is what no other candidate beats in quality, speed and size at once.
        """
        report = self.compressions[number]
        costs = [(c.metric_drop, c.latency_ms, c.size_mb) for c in report.candidates]
        ranks = non_domination_ranks(-np.array(costs).reshape(-1, 3))
        marks = ["" if rank else "front" for rank in ranks]
        if report.chosen is not None:
            marks[report.chosen] = "bundle" if number == self.best else "chosen"
        return tuple(marks)

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """Every trial, by number."""
        return tuple(sorted((row.trial for row in self.ranking), key=lambda trial: trial.number))

    @property
    def bundle(self) -> Path | None:
        """The chosen bundle's link."""
        return None if self.best is None else self.folder / BEST


def read_evidence(folder: Path) -> StudyEvidence:
    """Read a study's folder, also while the study runs.

    Raises:
        ValueError: if it holds no study.
    """
    with Ledger.read(folder) as ledger:
        config = parse_study(ledger.fact("config"), source=f"the study in {folder}")
        ended_by = reached_budget(config.search, ledger)
        everything, entries = ledger.all_trials(), ledger.compressions()
        scored: list[dict[str, Any]] = ledger.fact(SCORES_FACT, [])
        known: dict[str, Any] | None = ledger.fact("data")
    trials = [trial for trial in everything if trial.repeats is None]
    best = _chosen(folder)
    data = None if known is None else _open_data(folder / DATA_FOLDER / known["fingerprint"])
    # A trial may have been compressed, and scored, more than once: by its bundle's hash.
    digest = None if best is None else entries.get(best, {}).get("predictor_sha256")
    scores = [FinalScores.from_dict(entry) for entry in scored]
    ranking = rank(trials, METRICS[config.search.metric])
    return StudyEvidence(
        folder=folder,
        config=config,
        ranking=ranking,
        front=_front(ranking, trials, config),
        confirmation=find_confirmation(everything, config),
        # What one reached that continues another is not the merit of its own values.
        importances=measure_importances(
            [trial for trial in trials if trial.continues is None],
            config.space,
            METRICS[config.search.metric],
        ),
        repeats={trial.number: trial for trial in everything if trial.repeats is not None},
        compressions={
            number: CompressionReport.from_dict(entry["report"])
            for number, entry in entries.items()
        },
        best=best,
        scores=next((s for s in scores if s.predictor_sha256 == digest), None),
        num_scored=len(scores),
        ended_by=ended_by,
        data_fingerprint="" if data is None else data.fingerprint,
        data_parts=() if data is None else _describe_parts(data),
        libraries=_libraries(folder, best),
    )


def rank(trials: Sequence[TrialRecord], metric: Metric) -> tuple[RankedTrial, ...]:
    """Return the leaderboard, and after it the trials that have no place on it, by number."""
    standings = leaderboard(trials, metric.name, higher_is_better=metric.higher_is_better)
    ranked = [
        RankedTrial(
            rank=standing.rank,
            trial=standing.trial,
            best=next(r for r in standing.trial.reports if r.epoch == standing.epoch),
        )
        for standing in standings
    ]
    numbers = {row.trial.number for row in ranked}
    others = [
        RankedTrial(
            rank=None,
            trial=trial,
            best=trial.best_report(metric.name, higher_is_better=metric.higher_is_better),
        )
        for trial in trials
        if trial.number not in numbers
    ]
    return (*ranked, *others)


def _front(
    ranking: Sequence[RankedTrial], trials: Sequence[TrialRecord], config: StudyConfig
) -> tuple[RankedTrial, ...]:
    search, metric = config.search, METRICS[config.search.metric]
    if not search.objectives:
        return ()
    standings = leaderboard(trials, metric.name, higher_is_better=metric.higher_is_better)
    front = pareto_front(standings, search.objectives, higher_is_better=metric.higher_is_better)
    numbers = {standing.trial.number for standing in front}
    return tuple(row for row in ranking if row.rank and row.trial.number in numbers)


def _chosen(folder: Path) -> int | None:
    link = folder / BEST
    if not link.is_dir():
        return None
    digits = link.resolve().name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else None


def _open_data(folder: Path) -> PreparedData | None:
    try:
        return PreparedData.open(folder)
    except ValueError:
        # Damaged, gone or from another version: the report can do without.
        return None


def _describe_parts(data: PreparedData) -> tuple[PartDescription, ...]:
    parts = []
    for name in SPLIT_NAMES:
        rows = data.rows(name)
        parts.append(
            PartDescription(
                name=name,
                num_rows=len(rows),
                num_groups=len(np.unique(rows.groups)),
                clicks=float(rows.clicks.sum(dtype=np.float64)),
                impressions=float(rows.impressions.sum(dtype=np.float64)),
            )
        )
    return tuple(parts)


def _libraries(folder: Path, best: int | None) -> Mapping[str, str]:
    if best is not None:
        return read_manifest((folder / BEST).resolve()).libraries
    return library_versions()


def without_paths(config: StudyConfig) -> StudyConfig:
    """Return the study with file names instead of whole paths, for a report that is passed on."""
    truth = config.data.truth
    data = dataclasses.replace(
        config.data,
        path=Path(config.data.path).name,
        truth=None if truth is None else Path(truth).name,
    )
    return dataclasses.replace(config, data=data)
