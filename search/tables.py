"""A study's results as tables for the terminal."""

import functools
import os
import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.memory import format_gb
from search.budgets import describe_budgets
from search.evidence import REPORT_FILE, RankedTrial, StudyEvidence
from search.final_scores import LABELS
from search.formatting import (
    format_about,
    format_change,
    format_duration,
    format_metric,
    format_numbers,
    format_params,
)
from search.room import TrialCosts, expected_epochs
from search.study_plan import StudyPlan, count_repeats
from search.summary import format_interval, summarize
from search.trial_record import TrialRecord, say_continuation
from trainables.data.describe import PartDescription
from trainables.metrics import METRICS

MAX_TRIALS = 20
"""Rows of the leaderboard in a terminal; the report has them all."""
LOG_WIDTH = 140
"""Characters of a line where output goes into a file, which has no width of its own."""
MAX_KINDS = 24
"""Kinds of trial in the table of costs; beyond it those that were measured stand for the others."""
STATE_WORDS = {
    "completed": "done",
    "stopped": "stopped early",
    "running": "not finished",
    "failed": "failed",
}

NUM_METRICS = 2
"""Metrics of the test split that a terminal shows: the study's, and ROC-AUC."""


def open_console() -> Console:
    """Return the console of standard output."""
    fixed = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=LOG_WIDTH if fixed else None)


def new_table(title: str) -> Table:
    """Return an empty table in the style of all of them."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def data_table(fingerprint: str, parts: Sequence[PartDescription]) -> Table:
    """Draw what a table of clicks amounts to."""
    table = new_table(f"data, fingerprint {fingerprint}")
    table.add_column("split")
    for name in ("rows", "groups", "impressions", "clicks", "click rate"):
        table.add_column(name, justify="right")
    for part in parts:
        table.add_row(
            part.name or "all",
            f"{part.num_rows:,}",
            f"{part.num_groups:,}",
            f"{part.impressions:,.0f}",
            f"{part.clicks:,.0f}",
            f"{part.click_rate:.2%}",
        )
    return table


def augmentation_table(
    operation: str, pairs: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> Table:
    """Draw rows beside their variants, a line for each text column."""
    table = new_table(f"what {operation} makes of training rows")
    table.add_column("original", ratio=1)
    table.add_column("variant", ratio=1)
    table.show_lines = len(pairs[0][0]) > 1
    for original, variant in pairs:
        table.add_row(Text("\n".join(original)), Text("\n".join(variant)))
    return table


def leaderboard_table(evidence: StudyEvidence) -> Table:
    """Draw the best trials, best first."""
    table = new_table(f"leaderboard, {evidence.metric.label} on the validation split")
    for name in ("rank", "trial", "epochs", evidence.metric.name):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("hyperparameters")
    for row in evidence.ranking[:MAX_TRIALS]:
        table.add_row(*_leaderboard_row(row, evidence), style="bold" if row.rank == 1 else None)
    return table


def _leaderboard_row(row: RankedTrial, evidence: StudyEvidence) -> tuple[str, ...]:
    value = None if row.best is None else row.best.metrics[evidence.metric.name]
    return (
        "" if row.rank is None else str(row.rank),
        str(row.trial.number),
        f"{row.trial.last_epoch}/{evidence.config.search.epochs}",
        format_metric(value),
        say_state(row.trial),
        format_params(evidence.varied_params(row.trial)),
    )


def front_table(evidence: StudyEvidence) -> Table:
    """Draw the trials that no other one beats in every objective."""
    objectives = evidence.config.search.objectives
    table = new_table(f"Pareto front of {evidence.metric.name}, {', '.join(objectives)}")
    for name in ("trial", evidence.metric.name, *objectives):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("hyperparameters")
    for row in evidence.front:
        assert row.best is not None
        costs = row.trial.reports[-1].metrics
        table.add_row(
            str(row.trial.number),
            format_metric(row.best.metrics[evidence.metric.name]),
            *(f"{costs[name]:.2f}" for name in objectives),
            format_params(evidence.varied_params(row.trial)),
        )
    return table


def say_state(trial: TrialRecord) -> str:
    """Write what became of a trial, and where it began if not here and anew."""
    if trial.is_left_out:
        return "left out"
    words = [STATE_WORDS[trial.state]]
    if trial.reused:
        words.append("taken over")
    if trial.continues is not None:
        words.append(say_continuation(trial))
    return ", ".join(words)


def confirmation_table(evidence: StudyEvidence) -> Table:
    """Draw what was trained again with other seeds, the best mean first."""
    confirmation = evidence.confirmation
    assert confirmation is not None
    table = new_table(f"trained again with other seeds, {evidence.metric.label} on validation")
    for name in ("trial", "in the search", "again, mean", "95 % interval", "each"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("hyperparameters")
    for place, confirmed in enumerate(confirmation.ranked):
        trial = confirmed.found.trial
        half = confirmation.half_interval(confirmed)
        params = format_params(evidence.varied_params(trial))
        table.add_row(
            str(trial.number),
            format_metric(confirmed.found.value),
            format_metric(confirmed.mean),
            "" if half is None else f"± {half:.4f}",
            ", ".join(format_metric(value) for value in confirmed.values),
            f"default: {params}" if confirmed is confirmation.default else params,
            style="bold" if place == 0 else None,
        )
    return table


def compression_table(evidence: StudyEvidence) -> Table:
    """Draw every candidate of every compressed winner; the chosen and the front are marked."""
    table = new_table("compression, measured in ONNX Runtime on the validation split")
    for name in (
        "trial",
        "layers",
        "kept",
        "precision",
        evidence.metric.name,
        "drop",
        "ms per row",
        "MB",
    ):
        table.add_column(name, justify="right")
    table.add_column("")
    for number, report in evidence.compressions.items():
        for mark, candidate in zip(evidence.marks(number), report.candidates, strict=True):
            table.add_row(
                evidence.name(number),
                str(candidate.num_layers or ""),
                f"{candidate.keep_fraction:.0%}",
                candidate.precision,
                format_metric(candidate.metrics[evidence.metric.name]),
                format_change(candidate.metric_drop),
                f"{candidate.latency_ms:.2f}",
                f"{candidate.size_mb:.1f}",
                mark,
                style="bold" if mark == "bundle" else None,
            )
    return table


def scores_table(evidence: StudyEvidence) -> Table:
    """Draw what the test split said, each value with its 95 % bootstrap interval."""
    assert evidence.scores is not None
    table = new_table("test split, scored once, with 95 % bootstrap intervals")
    table.add_column("")
    # As many as a terminal has room for; the report has them all.
    shown_metrics = list(evidence.scores.scores)[:NUM_METRICS]
    for metric in shown_metrics:
        table.add_column(METRICS[metric].label)
    for model, label in LABELS.items():
        cells = [evidence.scores.scores[metric].get(model) for metric in shown_metrics]
        if any(cells):
            shown = ("" if score is None else format_interval(score) for score in cells)
            table.add_row(label, *shown)
    return table


def predictions_table(rows: Sequence[Mapping[str, str]], probability: str) -> Table:
    """Draw predicted rows; ``probability`` names the column that was added."""
    table = new_table("predicted click probabilities of unseen rows")
    for name in rows[0]:
        table.add_column(name, justify="right" if name == probability else "left")
    for row in rows:
        shown = {**row, probability: f"{float(row[probability]):.4f}"}
        table.add_row(*(Text(value) for value in shown.values()))
    return table


def print_plan(console: Console, plan: StudyPlan) -> None:
    """Print what a study will do."""
    config = plan.config
    resources, search = config.resources, config.search
    uncounted = "infinitely many" if config.space.continuous() else "too many to count"
    points = uncounted if plan.num_points is None else f"{plan.num_points:,}"
    say(console, f"folder: {plan.folder}")
    say(console, f"points in the space: {points}; trials: {plan.num_trials}")
    share = f"{resources.workers} x {resources.cpus_per_worker} CPUs"
    if resources.gpus:
        share += f" and {resources.workers} x {resources.gpus:g} GPUs"
    say(
        console,
        f"each trial gets {share} ({plan.threads_per_worker} threads a worker), up to "
        f"{search.epochs} epochs",
    )
    say(
        console,
        f"at a time: {plan.num_concurrent} trials on {plan.capacity.cpus:g} CPUs and "
        f"{plan.capacity.gpus:g} GPUs"
        + (f"; {plan.num_idle_cpus:g} CPUs stay idle" if plan.num_idle_cpus else ""),
    )
    if plan.rungs:
        rungs = format_numbers(plan.rungs)
        does = "replaces the worst trials" if search.scheduler == "pbt" else "may stop a trial"
        say(console, f"{search.scheduler} {does} after epoch {rungs}")
    if repeats := count_repeats(config):
        say(console, f"then up to {repeats} trainings again of the best, with other seeds")
    if budgets := describe_budgets(config.search):
        say(console, f"the search ends early {' or '.join(budgets)}")
    for note in plan.notes:
        say(console, f"note: {note}")


def costs_table(costs: TrialCosts) -> Table:
    """Draw what each kind of trial takes, as measured."""
    table = new_table("what a trial takes, measured on this machine")
    layered = any(kind.tuned_layers is not None for kind in costs.shares)
    table.add_column("method")
    for name in ("layers",) * layered + ("batch",):
        table.add_column(name, justify="right")
    for name in ("samples per s", "all epochs", "memory"):
        table.add_column(name, justify="right")
    shown = {kind: costs.of(kind) for kind in costs.shares}
    if len(shown) > MAX_KINDS:
        shown = {found.trial: found for found in costs.footprints}
    order = sorted(shown, key=lambda k: (k.method, k.tuned_layers or 0, k.batch_name, k.batch))
    for kind in order:
        found = shown[kind]
        rate = found.samples_per_second
        layers = "all" if kind.tuned_layers is None else str(kind.tuned_layers)
        table.add_row(
            kind.method,
            *(layers,) * layered,
            str(kind.batch) if kind.batch_tokens is None else f"{kind.batch} tokens",
            f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}",
            format_duration(found.seconds(costs.search.epochs)),
            format_gb(found.gpu_bytes or found.memory_bytes),
        )
    return table


def print_costs(console: Console, plan: StudyPlan, costs: TrialCosts) -> None:
    """Print what trials take, and how long the search will."""
    console.print(costs_table(costs))
    predict = functools.partial(
        costs.study_seconds,
        num_trials=plan.num_trials,
        num_concurrent=plan.num_concurrent,
        num_packed=plan.num_packed,
    )
    whole = format_about(predict())
    epochs = expected_epochs(costs.search, plan.num_trials)
    seconds = predict(epochs=epochs)
    line = f"about {format_about(seconds)}: "
    line += f"{plan.num_trials} trials, {plan.num_concurrent} at a time"
    if plan.rungs and costs.search.scheduler != "pbt":
        line += f", {epochs:.1f} epochs on average; {whole} if {costs.search.scheduler} stops none"
    say(console, line)
    if (limit := costs.search.max_hours) is not None and seconds > limit * 3600:
        say(console, f"search.max_hours ends it before, after {format_duration(limit * 3600)}")
    again = "training the best again and " if costs.search.confirm_trials else ""
    say(console, f"{again}compressing the winners come{'' if again else 's'} on top")


def print_evidence(console: Console, evidence: StudyEvidence) -> None:
    """Print what a study found, and where its report and bundle are."""
    if evidence.ranking:
        console.print(leaderboard_table(evidence))
    if len(evidence.ranking) > MAX_TRIALS:
        console.print(f"and {len(evidence.ranking) - MAX_TRIALS} more in the report")
    if evidence.front:
        console.print(front_table(evidence))
    if evidence.confirmation is not None:
        console.print(confirmation_table(evidence))
    if evidence.compressions:
        console.print(compression_table(evidence))
    if evidence.scores is not None:
        console.print(scores_table(evidence))
    for sentence in summarize(evidence):
        console.print(Text(sentence))
    say(console, f"report: {evidence.folder / REPORT_FILE}")
    if evidence.bundle is not None:
        say(console, f"bundle: {evidence.bundle}")
        say(console, f"use it: clicktune bundle predict {evidence.bundle} IN.csv OUT.csv")


def say(console: Console, line: str) -> None:
    """Print a line as it is: no markup, no wrapping, so that a path can be copied."""
    console.print(line, markup=False, soft_wrap=True)
