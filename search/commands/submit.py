"""clicktune submit: send a study to a cluster as a Ray job."""

import click

from search.commands.preflight import FailureError, MistakeError, read_study


@click.command()
@click.argument("study")
@click.option("--address", required=True, help="The head's job server, like http://HOST:8265.")
@click.option("--out", required=True, help="Output folder on the cluster, absolute and shared.")
@click.option("--resume", is_flag=True, help="Go on with the study that is there already.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key.")
@click.option(
    "--python", default="python", show_default=True, help="Interpreter on the head to run it with."
)
def submit(
    study: str, address: str, out: str, *, resume: bool, overrides: tuple[str, ...], python: str
) -> None:
    """Run STUDY (a file, or a built-in study's name) on a cluster and follow its log.

    Paths in the study are read on the cluster. A cluster's token is taken from ~/.ray/auth_token,
    or from the file that RAY_AUTH_TOKEN_PATH names. Ctrl-C leaves the job running.
    """
    from cluster.submit import submit_study
    from search.study_config import dump_study

    config = read_study(study, overrides)
    lines = 0

    def on_line(line: str) -> None:
        nonlocal lines
        lines += 1
        click.echo(line)

    try:
        outcome = submit_study(
            dump_study(config),
            address=address,
            out=out,
            on_line=on_line,
            arguments=["--resume"] if resume else [],
            python=python,
        )
    except (ValueError, OSError) as error:
        # Before the first line nothing was submitted: the address, the token or --out is wrong.
        raise (FailureError if lines else MistakeError)(str(error)) from error
    if outcome.status in ("FAILED", "STOPPED"):
        # The command there ends with 2, as here, for a mistake in what was given.
        kind = MistakeError if outcome.exit_code == 2 else FailureError
        raise kind(f"job {outcome.job_id} ended as {outcome.status}: {outcome.message}")
    click.echo(f"job {outcome.job_id}: {outcome.status.lower()}")
