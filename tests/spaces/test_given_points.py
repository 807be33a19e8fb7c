from typing import Any

import pytest

from spaces.given_points import complete_point, complete_points
from spaces.space import Space

SPACE = Space.parse(
    {
        "learning_rate": {"log_uniform": [1e-5, 1e-3]},
        "method": {"choice": ["full", "lora"]},
        "lora_rank": {"ordinal": [4, 16, 64], "when": {"method": "lora"}},
        "batch_size": {"int": [40, 80], "step": 8},
        "dropout": {"uniform": [0.2, 0.4], "step": 0.05},
        "constraints": ["batch_size * lora_rank <= 1600"],
    }
)


def test_what_a_point_leaves_out_is_usual_or_in_the_middle() -> None:
    assert complete_point(SPACE, {}) == {
        "learning_rate": 3e-4,
        "method": "lora",
        "lora_rank": 16,
        "batch_size": 56,
        "dropout": 0.3,
    }


def test_what_a_point_names_is_kept() -> None:
    point = complete_point(SPACE, {"method": "full", "batch_size": 80, "dropout": 0.35})

    assert (point["method"], point["batch_size"], point["dropout"]) == ("full", 80, 0.35)
    assert "lora_rank" not in point


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_sise": 40}, "'batch_sise' is not in the space; did you mean 'batch_size'"),
        ({"batch_size": 41}, "batch_size is 41, which is not in"),
        ({"batch_size": 40.0}, r"batch_size is 40\.0, which is not in"),
        ({"learning_rate": 0.1}, "learning_rate is 0.1, which is not in"),
        ({"learning_rate": True}, "learning_rate is True"),
        (
            {"method": "full", "lora_rank": 4},
            "only exists where method is lora, and method is full",
        ),
        ({"lora_rank": 64}, "breaks the constraint .* with batch_size 56, lora_rank 64"),
    ],
)
def test_point_outside_of_the_space_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete_point(SPACE, given)


def test_a_model_is_not_trained_twice() -> None:
    with pytest.raises(ValueError, match=r"here\[1\] trains the same model as here\[0\]"):
        complete_points(SPACE, [{}, {"method": "lora"}], where="here")
