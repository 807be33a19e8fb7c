import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.formatting import (
    format_about,
    format_change,
    format_duration,
    format_metric,
    format_params,
    format_value,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "1e-4"),
        (0.00193, "1.93e-3"),
        (0.05, "0.05"),
        (0.123456, "0.123"),
        (12345.6, "1.23e4"),
        (0.0, "0"),
        (32, "32"),
        (True, "True"),
        ("lora", "lora"),
    ],
)
def test_value_is_short(value: str | float | bool, text: str) -> None:
    assert format_value(value) == text


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_value_keeps_three_digits(value: float) -> None:
    assert float(format_value(value)) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (-1, "0 s"),
    ],
)
def test_duration_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_metric_that_is_missing_is_a_dash() -> None:
    assert (format_metric(0.70004), format_metric(None)) == ("0.7000", "–")  # noqa: RUF001


def test_params_use_short_names() -> None:
    assert format_params({"learning_rate": 3e-4, "lora_rank": 8}) == "lr 3e-4, rank 8"


@pytest.mark.parametrize(
    ("value", "text"), [(-1e-6, "+0.0000"), (0.00151, "+0.0015"), (-0.01, "-0.0100")]
)
def test_a_change_has_a_sign_but_no_negative_nothing(value: float, text: str) -> None:
    assert format_change(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3, "10 s"),
        (44, "40 s"),
        (57, "1 min"),
        (1_450, "24 min"),
        (7_020, "2 h 00 min"),
        (7_900, "2 h 10 min"),
    ],
)
def test_a_prediction_is_no_more_exact_than_it_is_known(seconds: float, text: str) -> None:
    assert format_about(seconds) == text
