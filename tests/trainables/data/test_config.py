"""A data section that can't work is refused with what to write instead."""

from typing import Any

import pytest

from trainables.data.config import Columns, DataConfig, SplitConfig

TITLE = Columns(text=("title",), label="label")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": (), "label": "y"}, "must list at least one column"),
        ({"text": "title", "label": "y"}, r"write text: \[title\]"),
        ({"text": ("title", "title"), "label": "y"}, "lists a column twice"),
        ({"text": ("title",)}, "needs label"),
        ({"text": ("title",), "clicks": "c"}, "both clicks and impressions"),
        ({"text": ("title",), "label": "y", "clicks": "c"}, "has label and counts"),
    ],
)
def test_columns_without_one_outcome_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Columns(**settings)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.8, 0.2, 0.0), (0.5, 0.2, 0.2)])
def test_fractions_that_are_no_division_are_refused(fractions: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=r"data\.split\.fractions must"):
        SplitConfig(fractions=fractions)


def test_a_seed_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.split\.seed must be at least 0, got -1"):
        SplitConfig(seed=-1)


@pytest.mark.parametrize(("by", "column"), [("group", "group"), ("time", "timestamp")])
def test_a_split_needs_its_column(by: Any, column: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=f"names no {column} column"):
        DataConfig(path="log.csv", columns=TITLE, split=SplitConfig(by=by))


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.path is empty"):
        DataConfig(path="", columns=TITLE)


def test_each_named_column_is_read_once() -> None:
    columns = Columns(text=("query", "title"), label="label", group="query")

    assert columns.named() == ("query", "title", "label")


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ((("title", "color"),), "compare names color, which the model doesn't see"),
        ((("title", "title"),), "compares title with itself"),
        ((("title", "price"),), "of which one is numeric"),
        ((("title", "brand"), ("brand", "title")), "lists a pair twice"),
    ],
)
def test_columns_that_cannot_be_compared_are_refused(
    compare: tuple[tuple[str, str], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Columns(
            text=("title",),
            label="label",
            categorical=("brand",),
            numeric=("price",),
            compare=compare,
        )


def test_comparing_texts_gives_a_model_fields() -> None:
    columns = Columns(text=("query", "title"), label="label", compare=(("query", "title"),))

    assert columns.has_fields
    assert columns.named() == ("query", "title", "label")
