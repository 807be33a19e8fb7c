"""A study's trials in a database of Optuna's, for optuna-dashboard and others (imports optuna)."""

import os
import sqlite3
import warnings
from pathlib import Path

import optuna
from optuna.trial import TrialState

from search.optuna_trials import STATES, freeze_trial
from search.results import StudyResult


def export_to_optuna(result: StudyResult, path: Path) -> int:
    """Write the search's trials into a new SQLite file, whole or not at all.

    A trial that was stopped early is pruned there, one that failed has failed, one that isn't
    finished is running; each value after an epoch is an intermediate value.

    Args:
        result: The study.
        path: The file; one that is there is replaced if it is such an export.

    Returns:
        How many trials were written.

    Raises:
        ValueError: if the file is something else, or its folder isn't there.
    """
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} into")
    if path.exists() and not _is_export(path):
        raise ValueError(f"{path} is there already and no database of Optuna's; name another file")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{unfinished.absolute()}")
        study = optuna.create_study(
            study_name=result.config.name,
            storage=storage,
            direction="maximize" if result.higher_is_better else "minimize",
        )
        metric = result.config.search.metric
        with warnings.catch_warnings():
            # What names it is called experimental; without, a dashboard shows a number.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([metric])
        values = {standing.trial.number: standing.value for standing in result.leaderboard}
        for trial in result.trials:
            state, value = STATES[trial.state], values.get(trial.number)
            if state == TrialState.COMPLETE and value is None:
                state = TrialState.FAIL
            study.add_trial(
                freeze_trial(
                    trial,
                    result.config.space,
                    metric,
                    state=state,
                    value=value if state == TrialState.COMPLETE else None,
                )
            )
        storage.remove_session()
        storage.engine.dispose()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(result.trials)


def _is_export(path: Path) -> bool:
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        finally:
            database.close()
    except sqlite3.Error:
        return False
    return {"studies", "trials", "trial_intermediate_values"} <= names
