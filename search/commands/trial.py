"""clicktune trial: one trial in this process, without Ray."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands.preflight import MistakeError, preflight, read_study

if TYPE_CHECKING:
    from rich.console import Console

    from search.study_config import StudyConfig
    from spaces.trial_config import TrialConfig
    from trainables.trial_setup import Progress, TrialSetup


@click.command()
@click.argument("study")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the study (data.path=clicks.csv), or a hyperparameter of the trial by "
    "its bare name (learning_rate=3.0e-4).",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the last checkpoint and the prepared data in this folder; studies and trials beside "
    "it share that data.",
)
def trial(study: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Train one trial of STUDY (a file, or a built-in study's name) here, without Ray.

    Hyperparameters are ClickTune's defaults, then the space's constants (like `method: lora`), then
    --set. The trial has all cores of this machine.
    """
    from search.study_config import write_study
    from search.tables import open_console

    config, trial_config = _read(study, overrides)
    if out is not None:
        _check_folder(out)
    with contextlib.ExitStack() as stack:
        if out is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clicktune-")))
            # A folder inside, so that the token store beside it is removed as well.
            folder = root / "trial"
        else:
            folder = out
        console = open_console()
        setup = _prepare(config, folder, console)
        # clicktune compress reads the text columns' names from it.
        write_study(folder, config)
        _train(trial_config, setup, console, folder if out else None)


def _check_folder(folder: Path) -> None:
    from search.ledger import Ledger

    if Ledger.exists(folder):
        raise MistakeError(
            f"{folder} holds a study, whose study.yaml a single trial would replace; choose "
            "another --out"
        )
    kept = sorted(path.parent.name for path in folder.glob("*/trial.json"))
    if kept:
        raise MistakeError(
            f"{folder} holds an earlier trial's checkpoint ({', '.join(kept)}), which this one "
            "would replace; choose another --out, or remove the old one"
        )


def _read(study: str, overrides: tuple[str, ...]) -> "tuple[StudyConfig, TrialConfig]":
    import yaml

    from search.single_trial import HYPERPARAMETERS, single_trial

    own = [o for o in overrides if o.partition("=")[0].strip() in HYPERPARAMETERS]
    config = read_study(study, [o for o in overrides if o not in own])
    chosen = {}
    for override in own:
        name, equals, text = override.partition("=")
        if not equals:
            raise MistakeError(f"--set {override!r}: expected {override}=VALUE")
        try:
            chosen[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise MistakeError(f"--set {override!r}: not valid YAML, {error}") from error
    with preflight():
        return config, single_trial(config, chosen)


def _prepare(config: "StudyConfig", folder: Path, console: "Console") -> "TrialSetup":
    from search.single_trial import single_trial_setup
    from search.tables import say
    from trainables.data.problems import BAD_ROWS_FILE
    from trainables.data.store import prepare_shared
    from trainables.data.table import load_clicks

    with preflight():
        table = load_clicks(config.data, config.task)
        data = prepare_shared(table, config.encoder, folder)
        if table.bad_rows is not None:
            say(console, f"warning: {table.bad_rows.summary()}")
            table.bad_rows.write(folder / BAD_ROWS_FILE)
        return single_trial_setup(config, data)


def _train(
    trial_config: "TrialConfig", setup: "TrialSetup", console: "Console", keep: Path | None
) -> None:
    from search.formatting import format_params
    from trainables.checkpoint import checkpoint_folder

    console.print(format_params(trial_config.effective()), highlight=False, soft_wrap=True)
    for progress in _epochs(trial_config, setup, console, keep):
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in progress.metrics.items())
        console.print(
            f"epoch {progress.epoch}/{trial_config.epochs}: {metrics} ({progress.seconds:.1f} s)",
            highlight=False,
            soft_wrap=True,
        )
        if keep is not None:
            shutil.rmtree(checkpoint_folder(keep, progress.epoch - 1), ignore_errors=True)
        if progress.done and progress.checkpoint is not None:
            console.print(
                f"checkpoint: {progress.checkpoint.path}", highlight=False, soft_wrap=True
            )


def _epochs(
    trial_config: "TrialConfig", setup: "TrialSetup", console: "Console", keep: Path | None
) -> "Iterator[Progress]":
    """Train under a progress bar over optimizer steps."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from trainables.fine_tune import fine_tune
    from trainables.trial_setup import Worker

    columns = (
        TextColumn("steps"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("steps", total=None)
        training = fine_tune(
            trial_config,
            setup,
            Worker(num_threads=len(os.sched_getaffinity(0))),
            checkpoints=keep,
            on_step=lambda done, total: bar.update(task, completed=done, total=total),
        )
        with contextlib.closing(training):
            yield from training
