"""clicktune bundle: look at a bundle, verify it, predict with it, serve it."""

import os
import socket
from pathlib import Path
from typing import Any

import click

from search.commands.preflight import MistakeError, preflight


@click.group()
def bundle() -> None:
    """Look at a bundle, verify it, predict with it, serve it."""


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path))
def info(folder: Path) -> None:
    """Say what the bundle in FOLDER is and how well it did."""
    from trainables.bundle.verify import describe_bundle

    with preflight():
        facts = describe_bundle(folder)
    for name, value in facts.items():
        click.echo(_fact(name, value))


def _fact(name: str, value: Any, indent: str = "") -> str:  # noqa: ANN401 - any plain value
    if isinstance(value, dict) and value:
        below = "\n".join(_fact(str(key), item, indent + "  ") for key, item in value.items())
        return f"{indent}{name}:\n{below}"
    if isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, list | tuple):
        value = ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value)
    return f"{indent}{name}: {'–' if value is None else value}"  # noqa: RUF001 - an en dash


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--latency", is_flag=True, help="Time it on this machine too, on one thread.")
@click.option(
    "--max-latency-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Fail if one row takes longer; default: compression.max_latency_ms of its study.",
)
def verify(folder: Path, *, latency: bool, max_latency_ms: float | None) -> None:
    """Check every hash of the bundle in FOLDER, its schema, and that it predicts as at export."""
    from trainables.bundle.verify import verify_bundle

    with preflight():
        result = verify_bundle(folder, latency=latency, max_latency_ms=max_latency_ms)
    click.echo(
        f"{folder} is verified: {result.num_files} files match their SHA-256, "
        f"{result.num_parity_rows} rows give what they gave at export "
        f"(largest difference {result.largest_difference:.1e})"
    )
    if result.latency is not None:
        found = result.latency
        allowed = "" if found.limit_ms is None else f", at most {found.limit_ms:g} ms are allowed"
        click.echo(
            f"one row takes {found.median_ms:.2f} ms on one thread{allowed}; at export it took "
            f"{found.at_export_ms:.2f} ms on {result.manifest.latency.machine}"
        )


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: one for each core.")
def predict(folder: Path, table: Path, output: Path, threads: int | None) -> None:
    """Add a column `click_probability` to TABLE (csv, csv.gz, parquet) and write it to OUTPUT.

    Warns where the rows or their scores are distributed otherwise than the validation rows were.
    """
    from trainables.bundle.predict_file import predict_file

    # A bundle that is wrong and a table that doesn't fit it are both the user's to repair.
    with preflight():
        predicted = predict_file(folder, table, output, num_threads=threads)
    click.echo(f"wrote {output}: {predicted.num_rows:,} rows")
    for drift in predicted.drifts:
        click.echo(f"warning: {drift}", err=True)


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--max-share", type=click.FloatRange(0, 1), help="Most rows of one placement.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: one for each core.")
def place(
    folder: Path, table: Path, output: Path, max_share: float | None, threads: int | None
) -> None:
    """Choose each row's best placement, and write TABLE with it to OUTPUT."""
    from trainables.bundle.place_file import place_file

    with preflight():
        num_rows = place_file(folder, table, output, max_share=max_share, num_threads=threads)
    click.echo(f"wrote {output}: {num_rows:,} rows")


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8_000, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: one for each core.")
@click.option(
    "--max-batch-rows",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Rows of several requests that are predicted together.",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="How long a request waits for others while nothing runs.",
)
@click.option(
    "--max-queue-rows",
    type=click.IntRange(min=1),
    default=1_024,
    show_default=True,
    help="Rows that may wait; beyond, a request gets status 429.",
)
def serve(
    folder: Path,
    *,
    host: str,
    port: int,
    threads: int | None,
    max_batch_rows: int,
    max_wait_ms: float,
    max_queue_rows: int,
) -> None:
    """Answer HTTP requests with the bundle in FOLDER: /predict, /health, /metrics, /docs.

    Needs the extra clicktune[serve]. Ctrl-C, or a SIGTERM, answers what waits and ends.
    """
    try:
        import uvicorn

        from trainables.bundle.serving import ServingConfig, build_app
    except ImportError as error:
        raise MistakeError(
            f"clicktune bundle serve needs {error.name}; pip install 'clicktune[serve]'"
        ) from error
    from trainables.bundle.batcher import BatchLimits
    from trainables.bundle.predictor import Predictor

    limits = BatchLimits(
        max_batch_rows=max_batch_rows, max_wait_ms=max_wait_ms, max_queue_rows=max_queue_rows
    )
    _check_free(host, port)
    with preflight():
        predictor = Predictor(folder, num_threads=threads)
    app = build_app(predictor, ServingConfig(limits=limits))
    uvicorn.run(app, host=host, port=port, log_level="info", access_log=False)


def _check_free(host: str, port: int) -> None:
    """Refuse an address that can't be listened on, before the server starts and says less."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        # create_server writes the address into the error's own text, and an unknown name has a
        # number that isn't the system's.
        is_systems = error.errno is not None and not isinstance(error, socket.gaierror)
        reason = os.strerror(error.errno or 0) if is_systems else error.strerror
        raise MistakeError(
            f"can't listen on {host}, port {port} ({reason}); choose another --port or --host"
        ) from error


@bundle.command()
@click.argument("left", type=click.Path(path_type=Path))
@click.argument("right", type=click.Path(path_type=Path))
def diff(left: Path, right: Path) -> None:
    """Say in what the bundles LEFT and RIGHT differ: data, trial, compression, quality, cost.

    Reads what they say of themselves; `clicktune bundle verify` checks that it is true.
    """
    from search.tables import new_table, open_console
    from trainables.bundle.difference import compare_bundles

    with preflight():
        differences = compare_bundles(left, right)
    if not differences:
        click.echo("they are the same in all that a bundle says of itself")
        return
    table = new_table(f"{left} and {right}")
    for name in ("", "first", "second"):
        table.add_column(name)
    for difference in differences:
        table.add_row(difference.name, _plain(difference.left), _plain(difference.right))
    open_console().print(table)


def _plain(value: Any) -> str:  # noqa: ANN401 - any plain value
    return _fact("", value).removeprefix(": ")
