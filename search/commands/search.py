"""clicktune search: a study from its file to a verified bundle."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands.preflight import (
    FailureError,
    MistakeError,
    is_own,
    is_wrong_path,
    preflight,
    read_study,
)

if TYPE_CHECKING:
    from rich.console import Console

    from search.events import StudyEvent
    from search.results import StudyResult
    from search.study import Study
    from search.trial_record import TrialRecord

INTERRUPTED = 130


@click.command()
@click.argument("study")
@click.option("--address", help="Join this Ray cluster: HOST:PORT of its head, or auto.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder that gets a folder for the study; with a cluster, one that all machines share.",
)
@click.option("--resume", is_flag=True, help="Go on with the study that is in the folder.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check all, measure some steps, say what would run, and start nothing.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
def search(
    study: str,
    address: str | None,
    out: Path,
    *,
    resume: bool,
    dry_run: bool,
    overrides: tuple[str, ...],
) -> int:
    """Search the space of STUDY, compress the winners, and export and verify the best bundle.

    STUDY is a file, or the name of one that comes with ClickTune. Everything is written to
    OUT/NAME. Ctrl-C, or a kill, leaves a study that --resume goes on with. Exit code 1 if the study
    failed or no candidate for the bundle keeps within the limits.
    """
    from search.ledger import Ledger
    from search.study import Study
    from search.tables import open_console

    searched = Study(read_study(study, overrides), out=out)
    if resume and not Ledger.exists(searched.folder):
        raise MistakeError(
            f"there is nothing to resume in {searched.folder}; leave out --resume to start it"
        )
    console = open_console()
    if dry_run:
        _print_plan(searched, console, address=address, resume=resume)
        return 0
    given = ["clicktune", "search", study, "--out", str(out)]
    given += ["--address", address] if address else []
    given += [word for override in overrides for word in ("--set", override)]
    return run_to_bundle(
        searched,
        console,
        address=address,
        resume=resume,
        resume_command=shlex.join([*given, "--resume"]),
    )


def _print_plan(study: "Study", console: "Console", *, address: str | None, resume: bool) -> None:
    from search.space_table import print_space
    from search.study_config import dump_study
    from search.tables import print_costs, print_plan, say

    def warn(event: "StudyEvent") -> None:
        if event.kind == "warning":
            say(console, f"warning: {event.message}")

    with preflight():
        table = study.check(address=address, resume=resume, on_event=warn)
        plan, costs = study.forecast(table, address)
    say(console, dump_study(plan.config))
    print_space(console, plan.config)
    print_plan(console, plan)
    if costs is None:
        say(console, "time and memory: not known; measure on a machine with a GPU")
    else:
        print_costs(console, plan, costs)


def run_to_bundle(
    study: "Study",
    console: "Console",
    *,
    address: str | None,
    resume: bool,
    resume_command: str,
) -> int:
    """Run a study, promote its winners and print what was found.

    Args:
        study: Checked, not started.
        console: Where progress and results go.
        address: Of a cluster to join; None: a Ray on this machine.
        resume: Go on with what is in the study's folder.
        resume_command: What to tell the user to type after an interruption.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        MistakeError: if the study can't start, through the user's fault.
        FailureError: if it failed, or no candidate for the bundle keeps within the limits.
    """
    from search.commands.present import present, promote_or_fail
    from search.ledger import Ledger
    from search.tables import say

    try:
        result = _run(study, console, address=address, resume=resume)
        promotion = None
        if result.status != "interrupted":
            check_result(result)
            promotion = promote_or_fail(
                study.folder,
                study.config,
                address=address,
                on_ray=address is not None or study.config.winners > 1,
                tell=lambda line: say(console, line),
            )
    except KeyboardInterrupt:
        promotion = None
    if promotion is None:
        if Ledger.exists(study.folder):
            say(console, f"interrupted; go on with: {resume_command}")
        return INTERRUPTED
    present(study.folder, console)
    if promotion.best is None:
        raise FailureError(
            "no candidate keeps within the limits, so there is no bundle; allow more with "
            f"clicktune compress {study.folder} --set compression.max_metric_drop=..."
        )
    return 0


def _run(study: "Study", console: "Console", *, address: str | None, resume: bool) -> "StudyResult":
    """Run a study under its display; only what goes wrong before a trial starts is a mistake."""
    from search.display import StudyDisplay, study_goal
    from search.failures import StudyHaltedError
    from search.ledger import Ledger

    earlier: tuple[TrialRecord, ...] = ()
    if Ledger.exists(study.folder):
        with preflight(), Ledger.read(study.folder) as ledger:
            earlier = tuple(ledger.all_trials())
    started = False

    with StudyDisplay(study_goal(study.config), console, trials=earlier) as display:

        def on_event(event: "StudyEvent") -> None:
            nonlocal started
            started = started or event.trial is not None
            display.on_event(event)

        try:
            return study.run(address=address, resume=resume, on_event=on_event)
        except StudyHaltedError as error:
            raise FailureError(str(error)) from error
        except (ValueError, OSError) as error:
            wrong = is_wrong_path(error) if isinstance(error, OSError) else is_own(error)
            if started or not wrong:
                raise
            raise MistakeError(str(error)) from error


def check_result(result: "StudyResult") -> None:
    """Raise FailureError if a study was given up, with what there is."""
    if result.best is not None and result.status != "failed":
        return
    if result.best is None and result.ended_by is not None:
        raise FailureError(
            f"the search ended before any trial gave a result: {result.ended_by.reason}; raise "
            "that and go on with --resume"
        )
    reasons = [trial.error for trial in result.trials if trial.state == "failed" and trial.error]
    given_up = f"the study was given up: {len(reasons)} of {len(result.trials)} trials failed"
    if result.best is None:
        reason = f"; the first one:\n{reasons[0].strip()}" if reasons else ""
        raise FailureError(f"{given_up} and none gave a result{reason}")
    reasons = reasons or [t.error for t in result.repeats if t.error] or ["no reason was given"]
    raise FailureError(
        f"{given_up}, and since it was resumed none gave a result. What the earlier ones gave can "
        f"be compressed with clicktune compress {result.folder}; the last failure:\n"
        f"{reasons[-1].strip()}"
    )
