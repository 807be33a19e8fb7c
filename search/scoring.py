"""Score the test split, once, with everything that the report compares."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from search.final_scores import (
    BASELINE,
    BASELINES,
    BUNDLE,
    CEILING,
    DEFAULT,
    LABELS,
    POPULARITY,
    WINNER,
    FinalScores,
    Score,
)
from search.study_config import StudyConfig
from trainables.baselines import tfidf_baseline
from trainables.bootstrap import bootstrap_difference, bootstrap_interval
from trainables.bundle.features import read_features
from trainables.bundle.manifest import FEATURES_FILE, hash_predictor
from trainables.bundle.predictor import Predictor
from trainables.bundle.scoring import inputs_of, score_bundle
from trainables.checkpoint import load_model
from trainables.data.prepared import PreparedData, Rows
from trainables.data.table import ClickTable, load_clicks
from trainables.data.truth import true_probabilities
from trainables.fine_tune import predict_probabilities
from trainables.metrics import METRICS, defined_metrics
from trainables.placement import Placements, evaluate_placements
from trainables.popularity import popularity_baseline
from trainables.scored_rows import ScoredRows
from trainables.task import TASK_METRICS


def score_test_split(
    config: StudyConfig,
    data: PreparedData,
    *,
    trial: int,
    checkpoint: Path,
    default: Path | None,
    bundle: Path,
) -> FinalScores:
    """Score the test rows with everything that the report compares.

    Args:
        config: The study.
        data: What its trials were trained on.
        trial: The winner's number.
        checkpoint: The winner's best checkpoint.
        default: That of the default configuration; None where there is none.
        bundle: What was made of it.
    """
    rows = data.rows("test")
    probabilities = {
        BUNDLE: score_bundle(bundle, rows),
        WINNER: predict_probabilities(load_model(checkpoint), rows),
    }
    if default is not None and default != checkpoint:
        probabilities[DEFAULT] = predict_probabilities(load_model(default), rows)
    others, note = _references(config, rows)
    probabilities.update(others)
    metrics = _metrics(config, rows)
    placement = None
    try:
        placement = _placement(config, data, rows, bundle)
    except ValueError as error:
        # Too few rows for an estimate are no reason to lose the bundle.
        note = f"{note}; no estimate of what its placements would earn: {error}".removeprefix("; ")
    return FinalScores(
        trial=trial,
        predictor_sha256=hash_predictor(bundle),
        scores={
            name: {model: _score(name, given, rows) for model, given in probabilities.items()}
            for name in metrics
        },
        lift={
            name: {
                model: _lift(name, probabilities[BUNDLE], probabilities[model], rows)
                for model in BASELINES
                if model in probabilities
            }
            for name in metrics
        },
        placement=placement,
        note=note,
    )


def _placement(
    config: StudyConfig, data: PreparedData, rows: Rows, bundle: Path
) -> dict[str, Any] | None:
    """Estimate what the bundle's best placements of the test rows would earn."""
    features = read_features(bundle / FEATURES_FILE)
    if not features.placement or rows.propensities is None:
        return None
    predictor = Predictor(bundle)
    report = evaluate_placements(
        Placements.of(data, features.placement),
        dataclasses.replace(rows, inputs=inputs_of(predictor, rows)),
        predictor.predict_inputs,
        max_share=config.task.max_placement_share,
    )
    return dataclasses.asdict(report)


def _metrics(config: StudyConfig, rows: Rows) -> tuple[str, ...]:
    """Return the study's metric and its task's others, as far as the rows define them."""
    names = dict.fromkeys((config.search.metric, "roc_auc", *TASK_METRICS[config.task.kind]))
    # What is predicted doesn't matter.
    anything = np.full(len(rows), 0.5)
    scored = ScoredRows.of(anything, rows.clicks, rows.impressions, rows.groups)
    return tuple(defined_metrics(names, scored))


def _references(config: StudyConfig, rows: Rows) -> tuple[dict[str, np.ndarray], str]:
    """Return the baselines' and, for a simulated log, the true probabilities of the test rows."""
    try:
        table = load_clicks(config.data, config.task)
    except ValueError as error:
        return {}, f"no baseline: the table can't be read any more ({error})"
    if not _same_rows(table, rows):
        return {}, f"no baseline: {config.data.path} has changed since the study began"
    metric = METRICS[config.search.metric]
    found: dict[str, np.ndarray] = {}
    notes = []
    if config.data.columns.text:
        baseline = tfidf_baseline(table, metric)
        found[BASELINE] = baseline.test_probabilities
        num_rows = int((table.split == 0).sum())
        if baseline.num_training_rows < num_rows:
            notes.append(
                f"{LABELS[BASELINE]} was fitted on {baseline.num_training_rows:,} of "
                f"{num_rows:,} training rows"
            )
    else:
        notes.append("no baseline: the table has no text")
    if config.task.kind == "recommendation":
        found[POPULARITY] = popularity_baseline(table, metric).test_probabilities
    if config.data.truth is not None:
        try:
            found[CEILING] = true_probabilities(config.data, table)[table.split == 2]
        except ValueError as error:
            notes.append(f"no ceiling: {error}")
    return found, "; ".join(notes)


def _same_rows(table: ClickTable, rows: Rows) -> bool:
    test = table.split == 2
    return (
        np.array_equal(table.clicks[test], rows.clicks)
        and np.array_equal(table.impressions[test], rows.impressions)
        and all(
            ours.take(np.flatnonzero(test)).has_same_texts(theirs)
            for ours, theirs in zip(table.texts, rows.text_columns(), strict=True)
        )
    )


def _resampler() -> np.random.Generator:
    # The same resamples for every model, so that their intervals can be compared.
    return np.random.default_rng(0)


def _score(metric: str, probabilities: np.ndarray, rows: Rows) -> Score:
    value = METRICS[metric].function(probabilities, rows.clicks, rows.impressions, rows.groups)
    if len(np.unique(rows.groups)) < 2:
        return Score(value=value, low=None, high=None)
    low, high = bootstrap_interval(
        METRICS[metric],
        probabilities,
        rows.clicks,
        rows.impressions,
        rows.groups,
        rng=_resampler(),
    )
    return Score(value=value, low=low, high=high)


def _lift(metric: str, ours: np.ndarray, theirs: np.ndarray, rows: Rows) -> Score:
    function = METRICS[metric].function
    measured = rows.clicks, rows.impressions, rows.groups
    value = function(ours, *measured) - function(theirs, *measured)
    if len(np.unique(rows.groups)) < 2:
        return Score(value=value, low=None, high=None)
    low, high = bootstrap_difference(METRICS[metric], ours, theirs, *measured, rng=_resampler())
    return Score(value=value, low=low, high=high)
