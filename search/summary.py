"""What a study found, in a few sentences."""

from search.confirmation import Confirmation, Difference, means_of
from search.evidence import RankedTrial, StudyEvidence
from search.final_scores import BUNDLE, CEILING, DEFAULT, LABELS, Score
from search.formatting import format_change, format_duration, format_metric, format_params
from search.study_plan import count_trials

NUM_DECISIVE = 3
"""Hyperparameters that a sentence names."""


def summarize(evidence: StudyEvidence) -> list[str]:
    """Say what was searched, what won, by how much over the baseline, and what it costs."""
    sentences = [_searched(evidence)]
    if evidence.ended_by is not None:
        sentences.append(f"The study ended early: {evidence.ended_by.reason}.")
    leader = evidence.ranking[0] if evidence.ranking else None
    if leader is not None and leader.best is not None:
        sentences.append(_won(evidence, leader))
        sentences += _confirmed(evidence)
        sentences += _by_inputs(evidence)
    sentences += _decisive(evidence)
    sentences += _scored(evidence)
    sentences += _costs(evidence)
    return sentences


def format_interval(score: Score) -> str:
    """Write a score with its interval: 0.7154 (0.7012 to 0.7290)."""
    if score.low is None or score.high is None:
        return format_metric(score.value)
    return (
        f"{format_metric(score.value)} ({format_metric(score.low)} to {format_metric(score.high)})"
    )


def _searched(evidence: StudyEvidence) -> str:
    trials = evidence.trials
    search = evidence.config.search
    states = [trial.state for trial in trials]
    num_left_out = sum(trial.is_left_out for trial in trials)
    num_successors = sum(trial.continues is not None for trial in trials)
    text = (
        f"{len(trials) - num_left_out - num_successors} of {count_trials(evidence.config)} trials "
        f"({search.algorithm}, scheduler {search.scheduler}) searched {len(evidence.varied)} "
        "hyperparameters: "
        f"{states.count('completed')} ran to their end, "
        f"{states.count('stopped') - num_left_out} stopped early"
    )
    if num_successors:
        text += (
            f", {num_successors} of all these continued a better one, in place of a worse one, "
            "with other hyperparameters"
        )
    if num_left_out:
        text += f", {num_left_out} were left out because their models exceed a limit"
    if failed := states.count("failed"):
        text += f", {failed} failed"
    if running := states.count("running"):
        text += f", {running} {'is' if running == 1 else 'are'} not finished"
    spent = sum(trial.seconds for trial in trials)
    return f"{text}; training took {format_duration(spent)} of trial time."


def _won(evidence: StudyEvidence, leader: RankedTrial) -> str:
    assert leader.best is not None
    label, value = evidence.metric.label, leader.best.metrics[evidence.metric.name]
    verb = "leads" if any(t.state == "running" for t in evidence.trials) else "is best"
    if evidence.confirmation is not None:
        verb = "came first in the search"
    return (
        f"Trial {leader.trial.number} {verb} with validation {label} {format_metric(value)} "
        f"({format_params(evidence.varied_params(leader.trial))})."
    )


def _confirmed(evidence: StudyEvidence) -> list[str]:
    """Say what training again showed: the winner, luck, the default, and what is within noise."""
    confirmation = evidence.confirmation
    if confirmation is None:
        if evidence.repeats:
            return [
                "Some trials were trained again with other seeds, but not yet all of them with one "
                "of these; so the search's own values decide, of which the best is a lucky one."
            ]
        return []
    best, first = confirmation.best, confirmation.first_found
    seeds = max(len(confirmed.values) for confirmed in confirmation.ranked)
    half = confirmation.half_interval(best)
    mean = format_metric(best.mean) + ("" if half is None else f" (± {half:.4f})")
    text = (
        f"Trained again with {seeds} other seed{'s' if seeds > 1 else ''}, trial "
        f"{best.found.trial.number} has the best mean, {mean}"
    )
    if first is not best:
        text += f"; trial {first.found.trial.number} reaches {format_metric(first.mean)}"
    sentences = [f"{text}. {_luck(evidence, confirmation)}"]
    if len(confirmation.ranked) > 1:
        second = confirmation.ranked[1]
        apart = confirmation.difference(best, second)
        if apart.half_interval is not None and not apart.is_clear:
            sentences.append(
                f"The second, trial {second.found.trial.number}, is within noise of it: they are "
                f"{_apart(apart)} apart."
            )
    default = confirmation.default
    if default is best:
        sentences.append("That is the default configuration: the search found nothing better.")
    elif default is not None:
        gain = confirmation.difference(best, default)
        verdict = ""
        if gain.half_interval is None:
            verdict = ", without an interval, as one seed gives none"
        elif not gain.is_clear:
            verdict = ", which is no significant gain"
        sentences.append(
            f"Against the default configuration (trial {default.found.trial.number}) that is "
            f"{_apart(gain)}{verdict}."
        )
    return sentences


def _luck(evidence: StudyEvidence, confirmation: Confirmation) -> str:
    """Say how far the search's best value is from what other seeds give."""
    first = confirmation.first_found
    sign = 1 if evidence.metric.higher_is_better else -1
    luck = sign * (first.found.value - first.mean)
    value = f"In the search trial {first.found.trial.number} had {format_metric(first.found.value)}"
    if luck > 0:
        return f"{value}, {luck:.4f} better than with other seeds: that much was luck."
    return f"{value}, no better than with other seeds."


def _apart(difference: Difference) -> str:
    if difference.half_interval is None:
        return format_change(difference.value)
    low, high = (difference.value + side * difference.half_interval for side in (-1, 1))
    return f"{format_change(difference.value)} ({format_change(low)} to {format_change(high)})"


def _decisive(evidence: StudyEvidence) -> list[str]:
    """Say which hyperparameters decided, and from how many trials that is known."""
    found = evidence.importances
    if found is None:
        return []
    first = list(found.shares.items())[:NUM_DECISIVE]
    shares = ", ".join(f"{name} ({share:.0%})" for name, share in first)
    return [
        f"What tells the best {found.num_best} of {found.num_trials} trials from the others is "
        f"mostly {shares}, by PED-ANOVA."
    ]


def _by_inputs(evidence: StudyEvidence) -> list[str]:
    """Set text, fields and both side by side, where a study tries them."""
    names = {"all": "text and fields together", "text": "text alone", "fields": "fields alone"}
    best: dict[str, str] = {}
    for row in evidence.ranking:
        inputs = row.trial.params.get("inputs")
        if row.best is not None and inputs is not None:
            value = format_metric(row.best.metrics[evidence.metric.name])
            best.setdefault(str(inputs), f"{value} (trial {row.trial.number})")
    if len(best) < 2:
        return []
    parts = [f"{name} {best[inputs]}" for inputs, name in names.items() if inputs in best]
    return [f"The best validation {evidence.metric.label} of {', of '.join(parts)}."]


def _scored(evidence: StudyEvidence) -> list[str]:
    if evidence.scores is None:
        return []
    metric = evidence.metric
    scores = evidence.scores.scores[metric.name]
    text = (
        f"On the test split the bundle of trial {evidence.name(evidence.scores.trial)} reaches "
        f"{metric.label} {format_interval(scores[BUNDLE])}"
    )
    for model, lift in evidence.scores.lift[metric.name].items():
        # A metric that is minimized is better where the difference is negative.
        side = "above" if lift.value >= 0 else "below"
        name = f"the {LABELS[model]}" if model == DEFAULT else LABELS[model]
        text += f", {abs(lift.value):.4f} {side} {name}"
        if lift.low is not None and lift.high is not None:
            text += f" (95 % interval of the difference {lift.low:+.4f} to {lift.high:+.4f})"
    if CEILING in scores:
        text += f"; no model could exceed about {format_metric(scores[CEILING].value)}"
    sentences = [text + "."]
    entropy = evidence.scores.scores.get("normalized_entropy", {}).get(BUNDLE)
    if entropy is not None and entropy.value > 1:
        sentences.append(
            "As probabilities its outputs are no better than the click rate of all test rows: "
            f"normalized entropy {format_interval(entropy)}, where that rate has 1. Rank "
            "with them, don't bid by them, or try another compression.calibration."
        )
    if evidence.num_scored > 1:
        sentences.append(
            f"The test split was scored for {evidence.num_scored} bundles of this study, so its "
            "result is a little optimistic if the better one was picked."
        )
    sentences += evidence.scores.policy_sentences()
    if evidence.scores.note:
        sentences.append(f"Note: {evidence.scores.note}.")
    return sentences


def _costs(evidence: StudyEvidence) -> list[str]:
    if evidence.best is None:
        return []
    report = evidence.compressions[evidence.best]
    assert report.chosen is not None
    chosen = report.candidates[report.chosen]
    amount = f"{abs(chosen.metric_drop):.4f}"
    change = f"{amount} {'worse' if chosen.metric_drop > 0 else 'better'} than"
    if float(amount) == 0:
        change = "the same as"
    sure = ""
    if chosen.metric_drop_at_most > chosen.metric_drop:
        most = max(chosen.metric_drop_at_most, 0.0)
        sure = f", and with the confidence that was asked for at most {most:.4f} worse"
    return [
        f"The bundle ({chosen.name}) takes {chosen.size_mb:.1f} MB and {chosen.latency_ms:.2f} ms "
        f"for one row on one thread; its validation {evidence.metric.label} is {change} the "
        f"uncompressed model's{sure}.",
        *_reordered(evidence),
    ]


def _reordered(evidence: StudyEvidence) -> list[str]:
    """Say whether compression changed which winner is the best; winners compare by their means."""
    reports = evidence.compressions
    if len(reports) < 2 or evidence.best is None:
        return []
    sign = 1 if evidence.metric.higher_is_better else -1
    means = means_of(evidence.confirmation)
    values = {
        number: means.get(number, report.baseline[evidence.metric.name])
        for number, report in reports.items()
    }
    before = max(values, key=lambda number: sign * values[number])
    if values[before] == values[evidence.best]:
        return [f"Of the {len(reports)} compressed winners it was the best before, too."]
    return [
        f"Of the {len(reports)} compressed winners, trial {evidence.name(before)} was the best "
        f"before, with {format_metric(values[before])} on validation against "
        f"{format_metric(values[evidence.best])}."
    ]
