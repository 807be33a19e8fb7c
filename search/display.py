"""A study's progress in the terminal: live on a screen, one line an event elsewhere."""

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.events import StudyEvent
from search.formatting import format_duration, format_metric, format_params
from search.study_config import StudyConfig
from search.study_plan import count_repeats, count_trials
from search.trial_record import TrialRecord, say_continuation, say_trial, without_replaced
from trainables.metrics import METRICS

PLAIN_INTERVAL_S = 30.0
"""Between two lines on the whole study where there is no screen to redraw."""
MAX_RUNNING_LINES = 12
"""Running trials that are shown one by one; a large cluster has more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyGoal:
    """What a study is after, as far as its progress is concerned."""

    name: str
    """The study's name."""
    metric: str
    """What is optimized."""
    higher_is_better: bool
    """Whether it is maximized."""
    num_trials: int
    """Trials that the study will have."""
    num_epochs: int
    """Epochs of a trial that isn't stopped."""
    num_repeats: int
    """Trainings with other seeds, at most, once the search is over."""

    def better(self, value: float, other: float) -> bool:
        """Return whether a value of the metric beats another."""
        return value > other if self.higher_is_better else value < other


def study_goal(config: StudyConfig) -> StudyGoal:
    """Return what a study is after, for its display."""
    return StudyGoal(
        name=config.name,
        metric=config.search.metric,
        higher_is_better=METRICS[config.search.metric].higher_is_better,
        num_trials=count_trials(config),
        num_epochs=config.search.epochs,
        num_repeats=count_repeats(config),
    )


def best_trial(trials: Sequence[TrialRecord], goal: StudyGoal) -> tuple[TrialRecord, float] | None:
    """Return the trial with the best value reported so far, and the value; none that failed."""
    best: tuple[TrialRecord, float] | None = None
    for trial in trials:
        report = trial.best_report(goal.metric, higher_is_better=goal.higher_is_better)
        if report is None or trial.state == "failed":
            continue
        value = report.metrics[goal.metric]
        if best is None or goal.better(value, best[1]):
            best = trial, value
    return best


def seconds_left(
    trials: Sequence[TrialRecord], goal: StudyGoal, *, num_places: int
) -> float | None:
    """Estimate the time until the last trial ends, from the mean epoch so far.

    Trials that haven't begun are expected to take as many epochs as those that ended took on
    average, which counts what the scheduler saves.

    Args:
        trials: Those that exist.
        goal: What the study is after.
        num_places: Trials at a time.

    Returns:
        None before the first epoch ended.
    """
    epochs = [report.seconds for trial in trials for report in trial.reports]
    if not epochs:
        return None
    members = without_replaced(trials)
    ended = [trial.last_epoch for trial in members if trial.state != "running"]
    usual = sum(ended) / len(ended) if ended else goal.num_epochs
    started = sum(
        max(goal.num_epochs - trial.last_epoch, 0) for trial in trials if trial.state == "running"
    )
    searched = sum(trial.repeats is None for trial in trials)
    waiting = max(goal.num_trials - searched, 0) * usual
    waiting += max(goal.num_repeats - (len(trials) - searched), 0) * goal.num_epochs
    # Fewer trials than places are left at the end, so the work no longer spreads over all of them.
    places = min(max(num_places, 1), max(goal.num_trials + goal.num_repeats - len(ended), 1))
    return sum(epochs) / len(epochs) * (started + waiting) / places


def count_ended(trials: Sequence[TrialRecord]) -> dict[str, int]:
    """Count the trials that have ended, by how they did."""
    states = [trial.state for trial in trials if not trial.is_left_out]
    return {name: states.count(name) for name in ("completed", "stopped", "failed")}


def describe_counts(trials: Sequence[TrialRecord], goal: StudyGoal, num_live: int) -> str:
    """Write how many trials run, ended and failed in one line."""
    searched, again = apart(trials)
    members = without_replaced(searched)
    ended = count_ended(members)
    text = (
        f"{sum(ended.values())}/{goal.num_trials} trials: {num_live} running, "
        f"{ended['completed']} done, {ended['stopped']} stopped early, {ended['failed']} failed"
    )
    if len(members) < len(searched):
        text += f", {len(searched) - len(members)} replaced"
    if again:
        text += f"; {sum(count_ended(again).values())} trained again"
    return text


def apart(trials: Sequence[TrialRecord]) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Return the trials of the search, and those that were trained again."""
    searched = [trial for trial in trials if trial.repeats is None]
    return searched, [trial for trial in trials if trial.repeats is not None]


def describe_best(trials: Sequence[TrialRecord], goal: StudyGoal) -> str:
    """Write the best value so far with its trial and parameters."""
    best = best_trial(apart(trials)[0], goal)
    if best is None:
        return "no result yet"
    trial, value = best
    return (
        f"best {goal.metric} {format_metric(value)} (trial {trial.number}: "
        f"{format_params(trial.params)})"
    )


def describe_end(trial: TrialRecord, goal: StudyGoal) -> str:
    """Write the line that a log gets when a trial has ended."""
    word = {"completed": "done", "stopped": "stopped early"}.get(trial.state, trial.state)
    line = f"{say_trial(trial)} {word} after {trial.last_epoch} of {goal.num_epochs} epochs"
    report = trial.best_report(goal.metric, higher_is_better=goal.higher_is_better)
    if report is not None:
        line += f", {goal.metric} {format_metric(report.metrics[goal.metric])}"
    line += f", {format_duration(trial.seconds)} ({format_params(trial.params)})"
    if trial.continues is not None:
        line += f", {say_continuation(trial)}"
    if trial.state == "failed" and trial.error:
        line += f": {_last_line(trial.error)}"
    return line


def _last_line(text: str) -> str:
    # A worker's error ends with what happened; above it stands where.
    return (text.strip().splitlines() or ["no reason was given"])[-1]


def draw(
    trials: Sequence[TrialRecord],
    live: Collection[int],
    goal: StudyGoal,
    *,
    elapsed_s: float,
    left_s: float | None,
    note: str,
) -> RenderableType:
    """Draw the study as it stands, for a screen; ``live`` are the trials that processes work on."""
    searched, again = apart(trials)
    counts = count_ended(without_replaced(searched))
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(goal.name, style="bold"),
        Text(f"{len(live)} running", style="cyan"),
        Text(f"{counts['completed']} done", style="green"),
        Text(f"{counts['stopped']} stopped early", style="yellow"),
        Text(f"{counts['failed']} failed", style="red" if counts["failed"] else "dim"),
    )
    ended = sum(counts.values())
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(total=goal.num_trials, completed=ended, width=30),
        Text(f"{ended}/{goal.num_trials} trials" + (f", {len(again)} again" if again else "")),
        Text(f"{format_duration(elapsed_s)} elapsed", style="dim"),
        Text("" if left_s is None else f"about {format_duration(left_s)} left", style="dim"),
    )
    parts: list[RenderableType] = [head, bar, Text(describe_best(trials, goal))]
    running = [trial for trial in trials if trial.number in live]
    if running:
        parts.append(_draw_running(running, goal))
    if note:
        parts.append(Text(note, style="dim"))
    return Group(*parts)


def _draw_running(running: Sequence[TrialRecord], goal: StudyGoal) -> Table:
    table = Table.grid(padding=(0, 2))
    for trial in running[:MAX_RUNNING_LINES]:
        last = trial.reports[-1].metrics.get(goal.metric) if trial.reports else None
        table.add_row(
            Text(f"  {say_trial(trial)}", style="cyan"),
            Text(f"epoch {min(trial.last_epoch + 1, goal.num_epochs)}/{goal.num_epochs}"),
            Text("" if last is None else f"{goal.metric} {format_metric(last)}"),
            Text(format_params(trial.params), style="dim", overflow="ellipsis", no_wrap=True),
        )
    if len(running) > MAX_RUNNING_LINES:
        table.add_row(Text(f"  and {len(running) - MAX_RUNNING_LINES} more", style="dim"))
    return table


class StudyDisplay:
    """Shows a study while it runs; :meth:`on_event` is what the study calls.

    Args:
        goal: What the study is after.
        console: Where to write.
        trials: Those that a resumed study had before.
        interval_s: Between two lines on the whole study, where there is no screen.
    """

    def __init__(
        self,
        goal: StudyGoal,
        console: Console,
        *,
        trials: Sequence[TrialRecord] = (),
        interval_s: float = PLAIN_INTERVAL_S,
    ) -> None:
        self._goal = goal
        self._console = console
        self._trials = {trial.number: trial for trial in trials}
        self._live: set[int] = set()
        # What fits is known to Ray alone; the most that ever ran at a time is the best guess.
        self._num_places = 1
        self._interval_s = interval_s
        self._started = time.monotonic()
        self._note = ""
        self._screen: Live | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._beat: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._screen = Live(
                get_renderable=self._draw,
                console=self._console,
                refresh_per_second=2,
                # What Ray or a library prints would tear the picture; rich puts it above.
                redirect_stdout=True,
                redirect_stderr=True,
            )
            self._screen.start()
        else:
            self._beat = threading.Thread(target=self._tell_regularly, daemon=True)
            self._beat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._note = ""
        if self._screen is not None:
            self._screen.stop()
        if self._beat is not None:
            self._beat.join()

    def on_event(self, event: StudyEvent) -> None:
        """Show what has happened."""
        if event.kind == "warning":
            # Unlike a note it stays on a screen.
            self._print(f"warning: {event.message}")
            return
        if event.trial is None:
            self.note(event.message)
            return
        with self._lock:
            self._trials[event.trial.number] = event.trial
            if event.kind in ("started", "reported") and event.trial.state == "running":
                self._live.add(event.trial.number)
                self._num_places = max(self._num_places, len(self._live))
            else:
                self._live.discard(event.trial.number)
        if event.kind in ("completed", "stopped", "failed") and self._screen is None:
            self._print(describe_end(event.trial, self._goal))
        elif event.kind in ("retried", "failed"):
            self._print(f"{say_trial(event.trial)} {event.kind}: {_last_line(event.message)}")

    def note(self, text: str) -> None:
        """Say what goes on beside the trials: preparing data, compressing."""
        self._note = text
        if text and self._screen is None:
            self._print(text)

    def _tell_regularly(self) -> None:
        while not self._closed.wait(self._interval_s):
            self._print(self._overview())

    def _overview(self) -> str:
        with self._lock:
            trials, num_live = list(self._trials.values()), len(self._live)
        times = f"{format_duration(time.monotonic() - self._started)} elapsed"
        left = seconds_left(trials, self._goal, num_places=self._num_places)
        if left is not None:
            times += f", about {format_duration(left)} left"
        counts = describe_counts(trials, self._goal, num_live)
        best = describe_best(trials, self._goal)
        if not any(trial.reports for trial in trials):
            best += f", no trial has ended its first of {self._goal.num_epochs} epochs"
        return f"{counts}; {best}; {times}"

    def _draw(self) -> RenderableType:
        with self._lock:
            trials, live = list(self._trials.values()), set(self._live)
        return draw(
            trials,
            live,
            self._goal,
            elapsed_s=time.monotonic() - self._started,
            left_s=seconds_left(trials, self._goal, num_places=self._num_places),
            note=self._note,
        )

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
