"""What a task and its losses need of the rest of a study."""

from typing import TYPE_CHECKING

import numpy as np

from spaces.trial_config import COMPARING_LOSSES, WHOLE_BATCH_LOSSES

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
    compared = {name for pair in data.columns.compare for name in pair}
    if chosen := sorted(compared & set(config.task.placement)):
        raise ValueError(
            f"data.columns.compare names {', '.join(chosen)}, which task.placement chooses: what "
            "it shares with another column differs from placement to placement; compare others"
        )
    if config.task.kind == "placement" and "text" in _chosen(config, "inputs"):
        raise ValueError(
            "space.inputs may be text, but a model must see a placement to choose it; leave text "
            "out, inputs: {choice: [all, fields]}"
        )
    for loss in _chosen(config, "loss"):
        if loss in WHOLE_BATCH_LOSSES:
            _check_loss(config, loss)
            if "mixup_alpha" in config.space.parameters:
                raise ValueError(
                    f"space.loss may be {loss}, which compares rows, but space.mixup_alpha mixes "
                    "them; leave one of the two out"
                )
    if "two_tower" in _chosen(config, "architecture"):
        _check_two_towers(config)


def grouped_losses(config: "StudyConfig") -> tuple[str, ...]:
    """Return the losses of a study that compare the rows of a group."""
    return tuple(loss for loss in _chosen(config, "loss") if loss in COMPARING_LOSSES)


def _chosen(config: "StudyConfig", name: str) -> tuple[str, ...]:
    """Return the options that a study's space gives a hyperparameter."""
    parameter = config.space.parameters.get(name)
    chosen = () if parameter is None else parameter.extremes()
    return tuple(option for option in chosen if isinstance(option, str))


def _check_two_towers(config: "StudyConfig") -> None:
    may = "space.architecture may be two_tower, which"
    columns = config.data.columns
    if columns.layout.num_segments != 2:
        raise ValueError(
            f"{may} compares two segments, but data.columns.text makes "
            f"{columns.layout.num_segments}; name a column for each, text: [query, title]"
        )
    if columns.has_fields and _chosen(config, "inputs") != ("text",):
        raise ValueError(
            f"{may} reads text alone, but data.columns names fields (categorical, numeric, "
            "time_features or compare); write space.inputs: text, or leave them out"
        )
    if "mixup_alpha" in config.space.parameters:
        raise ValueError(f"{may} has no pooled rows to mix; leave space.mixup_alpha out")
    if "tuned_layers" in config.space.parameters:
        raise ValueError(f"{may} trains all layers; leave space.tuned_layers out")


def _check_loss(config: "StudyConfig", loss: str) -> None:
    compares = f"space.loss may be {loss}, which compares the rows of a batch"
    if loss == "in_batch" and set(_chosen(config, "architecture")) != {"two_tower"}:
        raise ValueError(
            f"{compares} by the vectors of their segments; write space.architecture: two_tower"
        )
    if loss in COMPARING_LOSSES and config.data.columns.group is None:
        raise ValueError(
            f"{compares} and group, but data.columns names no group column; name it, group: ..., "
            "or use loss: pointwise"
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
