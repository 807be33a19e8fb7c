"""The end of several commands: promote winners, print what was found, write the report."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.preflight import FailureError, preflight

if TYPE_CHECKING:
    from rich.console import Console

    from search.evidence import StudyEvidence
    from search.promotion import Promotion
    from search.study_config import StudyConfig


def promote_or_fail(
    folder: Path,
    config: "StudyConfig",
    *,
    address: str | None,
    on_ray: bool,
    tell: Callable[[str], None],
) -> "Promotion":
    """Promote a study's winners; what goes wrong is a failure with a readable text.

    Args:
        folder: The study's folder.
        config: The study.
        address: Ray cluster to join; None with ``on_ray``: a Ray on this machine.
        on_ray: Whether to compress the winners side by side, as Ray tasks.
        tell: Called with a line whenever something is done.
    """
    from search.promotion import PromotionError, promote

    with contextlib.ExitStack() as stack:
        if on_ray:
            from cluster.connect import check_shared_folder, connect

            # A wrong address or folder is found here, before any work.
            with preflight():
                stack.enter_context(connect(address))
                check_shared_folder(folder)
        try:
            return promote(folder, config, on_ray=on_ray, tell=tell)
        except PromotionError as error:
            raise FailureError(str(error)) from error


def present(folder: Path, console: "Console") -> "StudyEvidence":
    """Print what a study found and write its report."""
    from search.evidence import read_evidence
    from search.report import write_report
    from search.tables import print_evidence

    # A bundle in it may have been changed by hand.
    with preflight():
        evidence = read_evidence(folder)
    write_report(evidence)
    print_evidence(console, evidence)
    return evidence
