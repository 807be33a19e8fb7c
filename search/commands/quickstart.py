"""clicktune quickstart: the whole way, on a simulated log."""

import csv
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands.preflight import MistakeError, find_study, preflight

if TYPE_CHECKING:
    from rich.console import Console

    from search.study_config import StudyConfig


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder for the simulated log and the study.",
)
@click.option("--fresh", is_flag=True, help="Start a new study beside the earlier ones.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
def quickstart(out: Path, *, fresh: bool, overrides: tuple[str, ...]) -> int:
    """Simulate a click log, search, compress, export a verified bundle and predict with it.

    Takes a few minutes on two cores. Run again it goes on with what is there and never deletes
    anything; --fresh starts a new study, OUT/quickstart-2 and so on.
    """
    from search.commands.search import run_to_bundle
    from search.quickstart import NAME, free_name, quickstart_study, write_log
    from search.study import Study
    from search.study_config import STUDY_FILE
    from search.tables import open_console, say

    console = open_console()
    data = out / "quickstart-data"
    name = free_name(out) if fresh else NAME
    say(console, f"simulating a marketplace's log in {data}")
    with preflight():
        write_log(data)
        config = quickstart_study(find_study(NAME), data, name, overrides)
    again = ["clicktune", "quickstart", "--out", str(out)]
    # The name goes into the command, because after --fresh the plain one is another study.
    given = [f"name={name}"] if fresh else []
    again += [word for override in (*overrides, *given) for word in ("--set", override)]
    study = Study(config, out=out)
    try:
        code = run_to_bundle(
            study, console, address=None, resume=True, resume_command=shlex.join(again)
        )
    except MistakeError as error:
        raise MistakeError(
            f"{error}\n(clicktune quickstart --fresh starts a new study beside it)"
        ) from error
    if code == 0:
        _predict(console, config, study.folder)
        say(
            console,
            f"next: copy {study.folder / STUDY_FILE}, set name, data.path and data.columns to "
            "your own table, remove data.truth, and run: clicktune search my_study.yaml",
        )
    return code


def _predict(console: "Console", config: "StudyConfig", folder: Path) -> None:
    """Predict rows that no split of the log holds, and show them."""
    from search.quickstart import write_unseen
    from search.tables import predictions_table, say
    from trainables.bundle.predict_file import PROBABILITY_COLUMN, predict_file

    columns = config.data.columns.text
    unseen, predicted = folder / "unseen.csv", folder / "predictions.csv"
    write_unseen(unseen, columns)
    say(console, f"$ clicktune bundle predict {folder / 'best'} {unseen} {predicted}")
    predict_file(folder / "best", unseen, predicted)
    with predicted.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row[PROBABILITY_COLUMN]))
    console.print(predictions_table(rows, PROBABILITY_COLUMN))
