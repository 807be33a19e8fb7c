"""The command."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from search.commands.bundle import bundle
from search.commands.compress import compress
from search.commands.data import data
from search.commands.preflight import FailureError, MistakeError
from search.commands.quickstart import quickstart
from search.commands.report import report
from search.commands.search import search
from search.commands.study_schema import study_schema
from search.commands.submit import submit
from search.commands.trial import trial

MISTAKE, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes: the user's mistake, a failure, Ctrl-C."""


def _debug_option() -> click.Option:
    # Read by run(), which also handles the errors that click itself raises.
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, help="Show a traceback with an error."
    )


class _Commands(click.Group):
    """A group whose every command takes --debug."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, and --debug to it and its own commands."""
        below = cmd.commands.values() if isinstance(cmd, click.Group) else ()
        for command in (cmd, *below):
            if not any(parameter.name == "debug" for parameter in command.params):
                command.params.append(_debug_option())
        super().add_command(cmd, name)


@click.group(
    cls=_Commands,
    params=[_debug_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="clicktune", message="clicktune %(version)s")
def clicktune() -> None:
    """Turn a table of impressions and clicks into a small, fast, verified BERT bundle.

    Exit codes: 0 done, 1 failed, 2 a mistake in what was given, 130 interrupted.
    """


for _command in (quickstart, data, search, trial, report, compress, bundle, submit, study_schema):
    clicktune.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    debug = "--debug" in arguments
    try:
        result: Any = clicktune.main(list(arguments), prog_name="clicktune", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        # A group without a command: its help, which is no error to read.
        click.echo(error.format_message(), err=True)
        return MISTAKE
    except click.ClickException as error:
        _tell(error.format_message(), hint=_usage_hint(error))
        return MISTAKE
    except MistakeError as error:
        return _stop(str(error), MISTAKE, debug=debug)
    except FailureError as error:
        return _stop(str(error), FAILURE, debug=debug)
    except BrokenPipeError:
        # The reader, like `head`, has seen enough; Python must not fail again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:  # noqa: BLE001 - one readable line for whatever went wrong
        hint = "" if debug else "run it again with --debug for the traceback"
        return _stop(f"{type(error).__name__}: {error}", FAILURE, debug=debug, hint=hint)
    return result if isinstance(result, int) else 0


def _stop(message: str, code: int, *, debug: bool, hint: str = "") -> int:
    if debug:
        traceback.print_exc()
    _tell(message, hint)
    return code


def _tell(message: str, hint: str = "") -> None:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(hint, err=True)


def _usage_hint(error: click.ClickException) -> str:
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    return f"try '{error.ctx.command_path} --help'"


def main() -> None:
    """Run the command with this process's arguments and exit."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
