"""Tell the user's mistakes, found before anything starts, from failures."""

import importlib.resources
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.study_config import StudyConfig


class MistakeError(Exception):
    """The user's mistake; its text says what, what was found and what to do."""


class FailureError(Exception):
    """What was started failed; its text is all that the user needs."""


WRONG_PATH = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""Errors of a path that was given; a full disk, say, is a failure instead."""


@contextmanager
def preflight() -> Iterator[None]:
    """Report a ValueError, or a path that can't be used, as the user's mistake.

    Only what reads the study, the data, the plan or a bundle belongs inside: a ValueError that a
    library raises later is a failure, whoever is to blame.
    """
    try:
        yield
    except ValueError as error:
        raise MistakeError(str(error)) from error
    except OSError as error:
        if not is_wrong_path(error):
            raise
        raise MistakeError(str(error)) from error


def is_wrong_path(error: OSError) -> bool:
    """Return whether a path can't be used as it was given, or ClickTune itself refused."""
    # The system's errors have a number; those that ClickTune raises, like ConnectionError, don't.
    refused = error.errno is None and is_own(error)
    return refused or isinstance(error, WRONG_PATH)


def is_own(error: BaseException) -> bool:
    """Return whether ClickTune itself raised an error, and not a library that it called."""
    trace = error.__traceback__
    module = ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return module.partition(".")[0] in ("cluster", "search", "spaces", "trainables")


def built_in_studies() -> dict[str, Path]:
    """Return the study files that come with ClickTune, by name."""
    folder = Path(str(importlib.resources.files("search") / "studies"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_study(name: str) -> Path:
    """Return the path of a study file, given as a path or as a built-in study's name.

    Raises:
        ValueError: if it is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = built_in_studies()
    if name in known:
        return known[name]
    raise ValueError(
        f"there is no study file {name!r}; give a path, or one of the studies that come with "
        f"ClickTune: {', '.join(known)}"
    )


def read_study(name: str, overrides: Sequence[str]) -> "StudyConfig":
    """Find, read and check a study file; a mistake in it is the user's."""
    from search.study_config import load_study

    with preflight():
        return load_study(find_study(name), overrides)
