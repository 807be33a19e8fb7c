"""clicktune data: make, describe, validate and vary tables."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands.preflight import MistakeError, preflight, read_study

if TYPE_CHECKING:
    from search.study_config import StudyConfig
    from trainables.data.table import ClickTable


@click.group()
def data() -> None:
    """Simulate, make, describe, validate and vary tables of clicks."""


@data.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--impressions", default=120_000, show_default=True, help="Shown products.")
@click.option("--products", default=600, show_default=True, help="Products on sale.")
@click.option("--queries", default=330, show_default=True, help="Distinct queries.")
@click.option("--seed", default=0, show_default=True, help="Equal settings and seed, equal log.")
@click.option("--aggregate", is_flag=True, help="One row for each query and title, with counts.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv", "csv.gz"]),
    default="parquet",
    show_default=True,
)
def simulate(
    folder: Path,
    *,
    impressions: int,
    products: int,
    queries: int,
    seed: int,
    aggregate: bool,
    file_format: str,
) -> None:
    """Write a simulated marketplace log into FOLDER.

    log.FORMAT is what a shop would have; truth.FORMAT holds the true click probability of each of
    its rows, which training never reads; model.json states the model that the clicks were drawn
    from.
    """
    from trainables.data import simulate as simulation

    with preflight():
        config = simulation.SimulationConfig(
            num_impressions=impressions,
            num_products=products,
            num_queries=queries,
            aggregate=aggregate,
            seed=seed,
        )
        simulated = simulation.simulate(config)
        log = simulation.write_simulation(simulated, folder, file_format)  # type: ignore[arg-type]
    click.echo(f"wrote {log}: {len(simulated.log):,} rows")
    click.echo(f"columns: {', '.join(map(str, simulated.log.columns))}")
    click.echo(f"true probabilities: {folder / f'truth.{file_format}'}")


@data.command("next-basket")
@click.argument("orders")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--user", default="user_id", show_default=True, help="Column: who ordered.")
@click.option(
    "--order", default="order_number", show_default=True, help="Column: the order's number or time."
)
@click.option("--product", default="product_name", show_default=True, help="Column: its name.")
@click.option(
    "--categories",
    default="aisle,department",
    show_default=True,
    help="Columns: the product's categories, with commas between them; '' for none.",
)
@click.option("--weekday", default="order_dow", show_default=True, help="Column; '' for none.")
@click.option("--hour", default="order_hour_of_day", show_default=True, help="Column; '' for none.")
@click.option(
    "--days-since-prior",
    default="days_since_prior_order",
    show_default=True,
    help="Column: days since the user's order before; '' for none.",
)
@click.option("--history", default=8, show_default=True, help="Products that a history names.")
@click.option(
    "--candidates", default=30, show_default=True, help="Most candidates of a user's past."
)
@click.option("--popular", default=10, show_default=True, help="Popular candidates beside them.")
def next_basket(orders: str, out: Path, *, categories: str, **settings: str | int) -> None:
    """Make a table for ranking out of order lines.

    ORDERS has a row for each product of each order of each user. OUT, a Parquet file, gets a row
    for each candidate of each order from a user's third on: which products of earlier orders will
    it hold? Everything it says of them stems from earlier orders.
    """
    from trainables.data.next_basket import NextBasketConfig, load_next_baskets

    with preflight():
        if out.suffix != ".parquet":
            raise ValueError(f"OUT is {out}; expected a name that ends in .parquet")
        config = NextBasketConfig(
            categories=tuple(filter(None, (name.strip() for name in categories.split(",")))),
            **{name: value if value != "" else None for name, value in settings.items()},  # type: ignore[arg-type]
        )
        table = load_next_baskets(orders, config)
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(out, index=False)
    click.echo(
        f"wrote {out}: {len(table):,} candidates of {table['basket'].nunique():,} baskets, "
        f"{table['label'].mean():.1%} of them bought"
    )
    click.echo(f"columns: {', '.join(table.columns)}")


def _read(study: str, overrides: tuple[str, ...]) -> "tuple[StudyConfig, ClickTable]":
    from trainables.data.table import load_clicks

    config = read_study(study, overrides)
    with preflight():
        return config, load_clicks(config.data, config.task)


@data.command()
@click.argument("study")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option(
    "--bad-rows",
    "bad_rows_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the rows that data.on_bad_row skips to this CSV file.",
)
def validate(study: str, overrides: tuple[str, ...], bad_rows_file: Path | None) -> None:
    """Check the table of STUDY (a file, or a built-in study's name)."""
    config, table = _read(study, overrides)
    if table.bad_rows is not None:
        click.echo(table.bad_rows.summary())
        if bad_rows_file is not None:
            with preflight():
                table.bad_rows.write(bad_rows_file)
            click.echo(f"all of them: {bad_rows_file}")
    elif bad_rows_file is not None:
        click.echo(f"no row was left out, so {bad_rows_file} isn't written")
    click.echo(
        f"{config.data.path} is fine: {table.num_source_rows:,} rows, {len(table):,} after merging "
        f"identical ones, fingerprint {table.fingerprint}"
    )


@data.command()
@click.argument("study")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the same as one HTML page, too.",
)
def describe(study: str, overrides: tuple[str, ...], page: Path | None) -> None:
    """Describe the table of STUDY: split, columns, text lengths, and what is suspicious in it.

    Suspicious are validation and test rows that repeat training rows, and columns that alone
    predict the label almost perfectly.
    """
    from search.data_report import print_data, write_data_page
    from search.tables import open_console, say
    from trainables.data.describe import describe as describe_table

    config, table = _read(study, overrides)
    with preflight():
        facts = describe_table(table, config.data.columns, config.encoder)
    console = open_console()
    print_data(console, facts, config)
    if page is not None:
        with preflight():
            write_data_page(page, facts, config)
        say(console, f"page: {page}")


@data.command()
@click.argument("study")
@click.option("--operation", required=True, help="The augmentation, like synonym.")
@click.option("--rate", default=0.1, show_default=True, help="Its augmentation_rate.")
@click.option("--show", default=20, show_default=True, help="Variants to print.")
@click.option("--rows", default=1_000, show_default=True, help="Training rows to vary at most.")
@click.option("--seed", default=0, show_default=True, help="Equal seed, equal variants.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
def augment(
    study: str,
    *,
    operation: str,
    rate: float,
    show: int,
    rows: int,
    seed: int,
    overrides: tuple[str, ...],
) -> None:
    """Vary training texts of STUDY and print them beside their originals.

    What a study's trials are trained on is made in the same way, and what is counted here as
    unchanged, or as not good enough, stays as it is there.
    """
    from search.augmentation_preview import preview
    from search.tables import augmentation_table, open_console, say
    from spaces.trial_config import TrialConfig
    from trainables.augmentation.models import check_models
    from trainables.data.table import load_clicks

    if rows < 1:
        raise MistakeError(f"--rows must be at least 1, got {rows}")
    with preflight():
        trial = TrialConfig(
            augmentation=operation,  # type: ignore[arg-type]
            augmentation_rate=rate,
            seed=seed,
        )
    if operation == "none":
        raise MistakeError("--operation none changes nothing; name another one")
    config = read_study(study, overrides)
    with preflight():
        check_models([operation], config.augmentation)
        table = load_clicks(config.data, config.task)
        found = preview(config, table, trial, num_rows=rows)
    console = open_console()
    if shown := found.examples(show):
        console.print(augmentation_table(operation, shown))
    counts = ", ".join(f"{number:,} {fate}" for fate, number in found.counts.items() if number)
    say(console, f"{operation} at rate {rate:g}, {sum(found.counts.values()):,} rows: {counts}")
