"""clicktune report: what a study found, in the terminal and as HTML."""

from pathlib import Path

import click

from search.commands.preflight import preflight


@click.command()
@click.argument("folder", metavar="STUDY_DIR", type=click.Path(path_type=Path))
@click.option(
    "--optuna",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the trials into this SQLite file, for optuna-dashboard sqlite:///FILE.",
)
def report(folder: Path, optuna: Path | None) -> None:
    """Print what the study in STUDY_DIR found so far and write report.html into it.

    Works while the study runs and after it was interrupted.
    """
    from search.commands.present import present
    from search.ledger import Ledger
    from search.tables import open_console, say

    with preflight():
        Ledger.read(folder).close()
    console = open_console()
    present(folder, console)
    if optuna is not None:
        from search.optuna_export import export_to_optuna
        from search.results import read_result

        with preflight():
            num_trials = export_to_optuna(read_result(folder), optuna)
        say(console, f"{num_trials} trials written; see them: optuna-dashboard sqlite:///{optuna}")
