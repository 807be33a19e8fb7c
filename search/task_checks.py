"""What a task and its losses need of the rest of a study."""

from typing import TYPE_CHECKING

import numpy as np

from spaces.trial_config import COMPARING_LOSSES

if TYPE_CHECKING:
    from search.study_config import StudyConfig
    from trainables.data.table import ClickTable


def check_task(config: "StudyConfig") -> None:
    """Check that a study has what its task ranks by, and that its losses see whole groups.

    Raises:
        ValueError: saying what is missing.
    """
    data = config.data
    if config.task.kind == "recommendation":
        if data.columns.group is None:
            raise ValueError(
                "task.kind is recommendation, which ranks the rows of a query or a user, but "
                "data.columns names no group column; name the one that tells them apart, group: ..."
            )
        if data.split.by == "random":
            raise ValueError(
                "task.kind is recommendation, but data.split.by is random, which tears the rows of "
                "a query or a user apart; split by group, time or column"
            )
    if losses := grouped_losses(config):
        _check_losses(config, losses[0])


def grouped_losses(config: "StudyConfig") -> tuple[str, ...]:
    """Return the losses of a study that compare the rows of a group."""
    parameter = config.space.parameters.get("loss")
    chosen = () if parameter is None else parameter.extremes()
    return tuple(loss for loss in chosen if isinstance(loss, str) and loss in COMPARING_LOSSES)


def _check_losses(config: "StudyConfig", loss: str) -> None:
    compares = f"space.loss may be {loss}, which compares the rows of a group"
    if config.data.columns.group is None:
        raise ValueError(
            f"{compares}, but data.columns names no group column; name it, group: ..., or use "
            "loss: pointwise"
        )
    if config.resources.workers > 1:
        raise ValueError(
            f"{compares}, but resources.workers is {config.resources.workers}, and each worker "
            "sees a part of a batch; use workers: 1 or loss: pointwise"
        )
    if config.deepspeed.micro_batch_rows is not None:
        raise ValueError(
            f"{compares}, but deepspeed.micro_batch_rows cuts batches into parts; leave it out and "
            "lower space.batch_size, or use loss: pointwise"
        )


def check_lessons(config: "StudyConfig", table: "ClickTable") -> None:
    """Refuse a loss that could learn nothing from any group of the training rows.

    Raises:
        ValueError: saying what the groups lack.
    """
    train = table.split == 0
    rows = table.groups[train], table.clicks[train], table.impressions[train]
    for loss in grouped_losses(config):
        if not _can_learn(loss, *rows):
            raise ValueError(
                f"space.loss may be {loss}, but no group of the training rows has several rows of "
                "which some were clicked more than others; group by the query or the user "
                "(data.columns.group), or use loss: pointwise"
            )


def _can_learn(loss: str, groups: np.ndarray, clicks: np.ndarray, impressions: np.ndarray) -> bool:
    """Return whether a loss finds a group of several rows to learn from."""
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rates = np.divide(clicks, impressions, out=np.zeros(len(clicks)), where=impressions > 0)
    highest, lowest = np.zeros(len(sizes)), np.ones(len(sizes))
    np.maximum.at(highest, codes, rates)
    np.minimum.at(lowest, codes, rates)
    teaches = highest > (lowest if loss == "pairwise" else 0)
    return bool((teaches & (sizes > 1)).any())
