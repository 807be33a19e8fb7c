import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.constraints import Constraint, parse_constraints

POINT = {"a": 6, "b": 0.05, "zero": 0}
words = st.lists(
    st.sampled_from(
        [*"ab()+-*/<>=.1,:[]{}'", "and", "or", "not", "__import__", "lambda", "==", "**", " "]
    ),
    max_size=25,
).map("".join)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a * b <= 0.3", True),
        ("a * b < 0.3", False),
        ("0.3 == a * b", True),
        ("a != 6", False),
        ("1 < a <= 6 and -a + 2 * (b - 1) < 0", True),
        ("a < 1 or b < 1", True),
        ("a < 1 and b < 1", False),
        ("a / zero > 1", False),
        ("inactive < a and a > 100", True),
    ],
)
def test_constraint_is_arithmetic(text: str, holds: bool) -> None:
    assert Constraint(text).holds(POINT) == holds


def test_large_whole_numbers_are_compared_exactly() -> None:
    assert not Constraint("a == 1000000000000000000").holds({"a": 10**18 - 1})


@given(st.one_of(st.text(max_size=60), words))
def test_any_text_is_a_constraint_or_a_mistake(text: str) -> None:
    try:
        (constraint,) = parse_constraints([text])
    except ValueError:
        return
    assert constraint.holds(dict.fromkeys(constraint.names, 2)) in (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "'a' is no comparison; write one"),
        ("1 < 2", "names no parameter"),
        ("a ** 2 < 9", r"'a \*\* 2' isn't allowed in a constraint"),
        ("open('x') < a", "isn't allowed"),
        ("a.real < 1", "isn't allowed"),
        ("[a for a in b] < 1", "isn't allowed"),
        ("(a := 3) < 1", "isn't allowed"),
        ("a in b", "compares by what isn't"),
        ("not a < 1", "is no comparison"),
        ("a == 'lora'", "'lora' is text, which can't be compared; write when:"),
        ("a < True", "True is no number"),
        ("a < 1e999", "too large a number"),
        ("a <", "is no comparison: "),
        ("a < 1if b", "is no comparison: "),
        ("a" + " + a" * 200 + " < 1", "characters; write up to 300"),
    ],
)
def test_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_constraints([text])


@pytest.mark.parametrize("raw", ["a < 1", None, [3], [None]])
def test_constraints_are_a_list_of_texts(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a"):
        parse_constraints(raw)


def test_sums_that_cancel_are_0_up_to_rounding() -> None:
    (constraint,) = parse_constraints(["dropout + weight_decay - 0.3 <= 0"])

    assert constraint.holds({"dropout": 0.1, "weight_decay": 0.2})
    assert not constraint.holds({"dropout": 0.1, "weight_decay": 0.2001})
