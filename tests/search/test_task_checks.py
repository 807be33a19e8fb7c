"""A ranking study without groups, or with torn ones, is refused with what to do."""

import dataclasses

import numpy as np
import pytest

from search.study_config import parse_study
from search.task_checks import check_lessons, grouped_losses
from tests.trainables.data.tables import make_table

STUDY = """
name: tiny
task: {kind: recommendation}
data:
  path: clicks.csv
  columns: {text: [query, title], label: clicked, group: query}
  split: {by: group}
space: {loss: {choice: [pointwise, pairwise, listwise]}}
search: {metric: ndcg@10}
"""


def test_a_ranking_study_loads() -> None:
    config = parse_study(STUDY)

    assert config.task.kind == "recommendation"
    assert grouped_losses(config) == ("pairwise", "listwise")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.columns.group=null", "names no group column"),
        ("data.split.by=random", "split.by is random, which tears"),
        ("resources.workers=2", "resources.workers is 2, and each worker sees a part of a batch"),
        ("deepspeed.micro_batch_rows=4", "micro_batch_rows cuts batches into parts"),
        ("search.metric=accuracy", "which task recommendation doesn't have; it has ndcg@10"),
    ],
)
def test_what_a_ranking_lacks_is_said(override: str, message: str) -> None:
    extra = ["data.split.by=time", "data.columns.timestamp=at"] if "null" in override else []

    with pytest.raises(ValueError, match=message):
        parse_study(STUDY, [*extra, override])


def test_a_click_study_may_compare_rows_if_it_has_groups() -> None:
    click_study = ["task.kind=ctr", "search.metric=roc_auc", "data.split.by=random"]

    assert grouped_losses(parse_study(STUDY, click_study))
    with pytest.raises(ValueError, match=r"space\.loss may be pairwise.*names no group column"):
        parse_study(STUDY, [*click_study, "data.columns.group=null"])


def test_pointwise_losses_take_any_number_of_workers() -> None:
    assert parse_study(STUDY, ["space.loss=pointwise", "resources.workers=2"])


def test_groups_that_teach_nothing_are_refused() -> None:
    table = make_table()
    alone = dataclasses.replace(table, groups=np.arange(len(table)))
    alike = dataclasses.replace(table, clicks=table.impressions)
    config = parse_study(STUDY)

    check_lessons(config, table)
    check_lessons(parse_study(STUDY, ["space.loss=listwise"]), alike)
    check_lessons(parse_study(STUDY, ["space.loss=pointwise"]), alone)
    for useless in (alone, alike):
        with pytest.raises(ValueError, match="no group of the training rows has several rows"):
            check_lessons(config, useless)


TOWERS = ["space.architecture=two_tower", "space.loss=in_batch"]


def test_towers_may_learn_from_the_batch() -> None:
    assert grouped_losses(parse_study(STUDY, TOWERS)) == ()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.columns.text=[title]", "compares two segments, but data.columns.text makes 1"),
        ("data.columns.numeric=[price]", "reads text alone, but data.columns names fields"),
        ("space.tuned_layers=2", "trains all layers; leave space.tuned_layers out"),
        ("space.architecture=cross_encoder", "write space.architecture: two_tower"),
        ("resources.workers=2", "space.loss may be in_batch, which compares the rows of a batch"),
    ],
)
def test_what_towers_cannot_do_is_said(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_study(STUDY, [*TOWERS, override])


def test_towers_read_the_text_of_a_table_with_fields() -> None:
    assert parse_study(STUDY, [*TOWERS, "data.columns.numeric=[price]", "space.inputs=text"])


def test_a_placement_is_not_compared_with_another_column() -> None:
    study = [
        "task={kind: placement, placement: [format]}",
        "search.metric=roc_auc",
        "data.columns.categorical=[format]",
        "space={learning_rate: 0.001}",
    ]
    assert parse_study(STUDY, [*study, "data.columns.compare=[[query, title]]"])

    with pytest.raises(ValueError, match=r"compare names format, which task\.placement chooses"):
        parse_study(STUDY, [*study, "data.columns.compare=[[query, format]]"])
