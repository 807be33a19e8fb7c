"""clicktune report: what a study found, in the terminal and as HTML."""

from pathlib import Path

import click

from search.commands.preflight import preflight


@click.command()
@click.argument("folder", metavar="STUDY_DIR", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Print what the study in STUDY_DIR found so far and write report.html into it.

    Works while the study runs and after it was interrupted.
    """
    from search.commands.present import present
    from search.ledger import Ledger
    from search.tables import open_console

    with preflight():
        Ledger.read(folder).close()
    present(folder, open_console())
