"""The report's charts, as inline SVG."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from search.evidence import RankedTrial, StudyEvidence
from search.final_scores import LABELS, Score
from search.formatting import format_value
from spaces.parameters import LogIntRange, LogUniform, Parameter
from trainables.compression.report import Candidate, CompressionReport

TEXT = "#012345"
"""Stands for the page's own text colour, so that the charts follow its dark mode."""
ACCENT, GREY, GOOD, BAD = "#2f6fde", "#9aa3ad", "#1d9a6c", "#d1495b"

MAX_LABELLED = 2
"""Candidates of the front that are labelled in one chart; more would cover each other."""

MOST_TICKS = 8
"""Values of a hyperparameter that are written under its chart one by one."""

MAX_BARS = 60
"""Bars of the chart of lengths."""

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
}


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def _to_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element that takes the page's width and text colour."""
    buffer = io.StringIO()
    # Ids are hashed with the salt: those of two charts in one page must not meet.
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(TEXT, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Groups are called axes_1, text_2, ... in every chart; only what is referred to keeps its id.
    referred = set(re.findall(r'(?:#)([\w-]+)[)"]', svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in referred else "", svg)
    return re.sub(r'<svg ([^>]*?)width="[^"]*" ', r"<svg \1", svg, count=1).replace(
        "<svg ", f'<svg role="img" aria-label="{name}" ', 1
    )


def draw_all(evidence: StudyEvidence) -> dict[str, Any]:
    """Draw the charts that there is data for.

    Returns:
        SVG by name: ``curves``, ``front``, ``scores``, ``importances``, ``pareto``; and
        ``parameters``, a list of (parameter, SVG). A chart without data is missing or empty.
    """
    charts: dict[str, Any] = {"parameters": _parameter_charts(evidence)}
    drawers: Mapping[str, Callable[[StudyEvidence], str]] = {
        "curves": _learning_curves,
        "front": _compression_front,
        "scores": _test_scores,
        "importances": _importances,
        "pareto": _pareto_front,
    }
    for name, drawer in drawers.items():
        charts[name] = drawer(evidence)
    return charts


def _learning_curves(evidence: StudyEvidence) -> str:
    shown = [row for row in reversed(evidence.ranking) if row.trial.reports]
    if not shown:
        return ""
    metric = evidence.metric
    with _figure(4.6, 3.0) as (figure, axes):
        for row in shown:
            reports = row.trial.reports
            colour, width, _ = _look(row)
            axes.plot(
                [report.epoch for report in reports],
                [report.metrics[metric.name] for report in reports],
                color=colour,
                linewidth=width,
                marker="o",
                markersize=3.5,
                linestyle=":" if row.trial.state == "failed" else "-",
            )
        first = shown[-1]
        if first.rank == 1 and first.best is not None:
            axes.annotate(
                f"trial {first.trial.number}",
                (first.best.epoch, first.best.metrics[metric.name]),
                xytext=(0, 6),
                textcoords="offset points",
                ha="right",
                color=ACCENT,
            )
        if max(row.trial.reports[-1].epoch for row in shown) > 1:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xticks([1])
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"validation {metric.label}")
        axes.margins(y=0.12)
        return _to_svg(figure, "learning curves")


def _look(row: RankedTrial) -> tuple[str, float, int]:
    """Return a trial's colour, line width and order from back to front."""
    if row.rank == 1:
        return ACCENT, 2.4, 3
    if row.trial.state == "completed":
        return GOOD, 1.3, 2
    return (BAD if row.trial.state == "failed" else GREY), 0.9, 1


def _parameter_charts(evidence: StudyEvidence) -> list[tuple[str, str]]:
    charts = []
    for name, parameter in evidence.varied.items():
        rows = [row for row in evidence.ranking if row.rank and name in row.trial.params]
        if rows:
            charts.append((name, _parameter_chart(name, parameter, rows, evidence)))
    return charts


def _parameter_chart(
    name: str, parameter: Parameter, rows: list[RankedTrial], evidence: StudyEvidence
) -> str:
    with _figure(2.9, 2.3) as (figure, axes):
        choices = parameter.choices
        if isinstance(parameter, LogIntRange) and len(parameter.choices) > MOST_TICKS:
            choices = None
        for row in rows:
            assert row.best is not None
            value = row.trial.params[name]
            # A range knows the place of a value; a list of all its values may fill the memory.
            position = value if choices is None else choices.index(value)  # type: ignore[arg-type]
            colour, _, order = _look(row)
            axes.plot(
                position,
                row.best.metrics[evidence.metric.name],
                marker="*" if row.rank == 1 else "o",
                markersize=11 if row.rank == 1 else 5,
                color=colour,
                zorder=2 + order,
            )
        if choices is not None and len(choices) <= MOST_TICKS:
            labels = [format_value(choice).replace("_", "\n") for choice in choices]
            axes.set_xticks(range(len(choices)), labels)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif choices is not None:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.xaxis.set_major_formatter(
                FuncFormatter(
                    lambda x, _: format_value(choices[int(x)]) if 0 <= x < len(choices) else ""
                )
            )
        elif isinstance(parameter, LogUniform | LogIntRange):
            axes.set_xscale("log")
            axes.set_xlim(parameter.low / 1.2, parameter.high * 1.2)
            # Below two decades, matplotlib's own labels of the steps between run into each other.
            steps = (1,) if parameter.high / parameter.low >= 100 else (1, 2, 5)
            axes.xaxis.set_major_locator(LogLocator(subs=steps))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_value(x)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_xlabel(name)
        axes.set_ylabel(evidence.metric.label)
        return _to_svg(figure, f"{evidence.metric.label} by {name}")


def _compression_front(evidence: StudyEvidence) -> str:
    metric = evidence.metric
    shown = evidence.best if evidence.best is not None else min(evidence.compressions, default=None)
    if shown is None:
        return ""
    with _figure(4.6, 3.3) as (figure, axes):
        for number, report in evidence.compressions.items():
            marks = evidence.marks(number)
            labelled = _spread_over_latency(report, marks) if number == shown else ()
            for place, candidate in enumerate(report.candidates):
                _mark(
                    axes,
                    candidate,
                    metric.name,
                    chosen=marks[place] == "bundle",
                    labelled=place in labelled,
                )
        baseline = evidence.compressions[shown].baseline[metric.name]
        sign = 1 if metric.higher_is_better else -1
        compression = evidence.config.compression
        axes.axhline(baseline, color=GREY, linewidth=1, label="uncompressed")
        # With more confidence than that, what is above a line may still lose too much.
        if compression.confidence == 0.5:
            limit = baseline - sign * compression.max_metric_drop
            axes.axhline(limit, color=BAD, linewidth=1, linestyle="--", label="limit")
        axes.legend(loc="lower right", fontsize=8.5, framealpha=0)
        axes.margins(x=0.15, y=0.25)
        axes.set_xlabel("milliseconds for one row on one thread")
        axes.set_ylabel(f"validation {metric.label}")
        return _to_svg(figure, "compression: quality over latency")


def _spread_over_latency(report: CompressionReport, marks: Sequence[str]) -> set[int]:
    """Choose what has room for a label: the chosen candidate, and some of the front."""
    front = sorted(
        (place for place, mark in enumerate(marks) if mark),
        key=lambda place: report.candidates[place].latency_ms,
    )
    spread = np.linspace(0, len(front) - 1, min(MAX_LABELLED, len(front))).round().astype(int)
    chosen = {front[place] for place in spread}
    return chosen if report.chosen is None else chosen | {report.chosen}


def _mark(axes: Axes, candidate: Candidate, metric: str, *, chosen: bool, labelled: bool) -> None:
    whole = not candidate.precision.startswith("int8")
    point = (candidate.latency_ms, candidate.metrics[metric])
    axes.plot(
        *point,
        marker="*" if chosen else "o" if whole else "s",
        markersize=14 if chosen else 6,
        color=ACCENT if chosen else GOOD if labelled else GREY,
        zorder=4 if chosen else 3,
    )
    if labelled:
        axes.annotate(
            f"{candidate.name}\n{candidate.size_mb:.0f} MB",
            point,
            # The precisions of one shape lie side by side; their labels don't.
            xytext=(0, 7 if whole else -7),
            textcoords="offset points",
            ha="center",
            va="bottom" if whole else "top",
            fontsize=8,
            linespacing=1,
        )


def _test_scores(evidence: StudyEvidence) -> str:
    if evidence.scores is None:
        return ""
    scores = evidence.scores.scores[evidence.metric.name]
    rows: list[tuple[str, str, Score]] = [
        (model, label, scores[model]) for model, label in LABELS.items() if model in scores
    ]
    rows.reverse()
    with _figure(4.6, 0.7 + 0.45 * len(rows)) as (figure, axes):
        for height, (model, _, score) in enumerate(rows):
            colour = ACCENT if model == "bundle" else GREY
            if score.low is not None and score.high is not None:
                axes.plot([score.low, score.high], [height, height], color=colour, linewidth=2)
            axes.plot(score.value, height, "o", color=colour, markersize=7)
        axes.set_yticks(range(len(rows)), [_wrap(label) for _, label, _ in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"test {evidence.metric.label}, 95 % interval")
        return _to_svg(figure, "test scores")


def _pareto_front(evidence: StudyEvidence) -> str:
    """Draw the metric over the first objective; the front's points are joined."""
    if not evidence.front:
        return ""
    metric, cost = evidence.metric, evidence.config.search.objectives[0]

    def point(row: RankedTrial) -> tuple[float, float]:
        assert row.best is not None
        return row.trial.reports[-1].metrics[cost], row.best.metrics[metric.name]

    with _figure(4.6, 3.0) as (figure, axes):
        front = sorted(map(point, evidence.front))
        others = [point(row) for row in evidence.ranking if row.rank and row not in evidence.front]
        if others:
            axes.plot(*zip(*others, strict=True), "o", color=GREY, markersize=4)
        axes.plot(*zip(*front, strict=True), "o-", color=ACCENT, markersize=6, linewidth=1)
        for row in evidence.front:
            axes.annotate(
                str(row.trial.number),
                point(row),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.set_xlabel(cost)
        axes.set_ylabel(f"validation {metric.label}")
        axes.margins(y=0.15)
        return _to_svg(figure, "Pareto front")


def _importances(evidence: StudyEvidence) -> str:
    if evidence.importances is None:
        return ""
    rows = list(evidence.importances.shares.items())[::-1]
    with _figure(4.6, 0.7 + 0.28 * len(rows)) as (figure, axes):
        axes.barh(range(len(rows)), [share for _, share in rows], color=ACCENT, height=0.6)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
        axes.set_xlabel("share of what tells the best trials from the others")
        return _to_svg(figure, "importances")


def draw_token_lengths(counts: Mapping[int, int], max_tokens: int) -> str:
    """Draw how many rows have how many tokens, and where the encoder cuts them off."""
    lengths = list(counts)
    with _figure(4.6, 2.4) as (figure, axes):
        bins = min(max(lengths) - min(lengths) + 1, MAX_BARS)
        axes.hist(lengths, bins=bins, weights=list(counts.values()), color=ACCENT)
        axes.axvline(max_tokens, color=BAD, linewidth=1, linestyle="--", label="max_tokens")
        axes.legend(loc="upper right", fontsize=8.5, framealpha=0)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.set_xlabel("tokens of a row")
        axes.set_ylabel("rows")
        return _to_svg(figure, "tokens of a row")


def _wrap(label: str) -> str:
    return label.replace(", ", ",\n").replace(" (", "\n(").replace(" + ", " +\n")
