"""Units are spelled in several ways, and words that only look like units stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.augmentation.units import SPELLINGS, spell_shortly, spell_units


@pytest.mark.parametrize(
    ("chance", "text"),
    [
        (0.0, '16GB and 1kg, 55" wide'.replace("GB", "gb")),
        (0.25, "16 gb and 1 kg, 55 inch wide"),
        (0.5, "16GB and 1KG, 55-inch wide"),
        (0.75, "16 gigabytes and 1 kilogram, 55 inches wide"),
    ],
)
def test_every_spelling_can_come(chance: float, text: str) -> None:
    assert spell_units('16GB and 1 kg, 55" wide', lambda: chance) == text


@pytest.mark.parametrize(
    "text", ['the "model 5" 7" tv', "2 in 1", "5G", "16gbx", "3/4 inch", "gb", '5 "', "1,5,3 cm"]
)
def test_other_words_stay(text: str) -> None:
    assert spell_units(text, lambda: 0.75) == text


@given(
    number=st.from_regex(r"[1-9][0-9]{0,3}([.,][0-9])?", fullmatch=True),
    unit=st.sampled_from([spelling for unit in SPELLINGS for spelling in unit if spelling != '"']),
    space=st.sampled_from(["", " ", "-"]),
    chance=st.floats(0, 0.999),
)
def test_all_spellings_of_a_number_mean_the_same(
    number: str, unit: str, space: str, chance: float
) -> None:
    text = f"a {number}{space}{unit}, b"

    assert spell_shortly(spell_units(text, lambda: chance)) == spell_shortly(text)
