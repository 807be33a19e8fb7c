"""How shops spell the unit of a number: 16GB, 16 gb, 16 gigabytes."""

import re
from collections.abc import Callable

SPELLINGS = (
    ("kb", "kilobyte", "kilobytes"),
    ("mb", "megabyte", "megabytes"),
    ("gb", "gigabyte", "gigabytes"),
    ("tb", "terabyte", "terabytes"),
    ("mhz", "megahertz", "megahertz"),
    ("ghz", "gigahertz", "gigahertz"),
    ("mm", "millimeter", "millimeters"),
    ("cm", "centimeter", "centimeters"),
    ('"', "inch", "inches"),
    ("ft", "foot", "feet"),
    ("ml", "milliliter", "milliliters"),
    ("kg", "kilogram", "kilograms"),
    ("oz", "ounce", "ounces"),
)
"""Short, after 1 and after other numbers. Units that may be another word after a number are left
out: 2 in 1, 5G, size 8 m."""

INCH_MARK = '"'

_UNITS = {spelling: unit for unit in SPELLINGS for spelling in unit}
_NUMBER_WITH_UNIT = re.compile(
    r"(?<![\w.,/-])(?P<number>[0-9]+(?:[.,][0-9]+)?)(?P<space>[ -]?)"
    rf"(?P<unit>(?ai:{'|'.join(sorted(_UNITS, key=len, reverse=True))}))(?![\w\"])"
)
_INCHES = re.compile(r'[0-9]"')


def spell_units(text: str, choose: Callable[[], float]) -> str:
    """Spell the units of a text anew.

    Args:
        text: The text.
        choose: Gives a number in [0, 1) for each unit, which decides how it is spelled.
    """
    # A mark that stands for no inch is one of a pair around words.
    are_inches = text.count(INCH_MARK) == len(_INCHES.findall(text))

    def respell(found: re.Match[str]) -> str:
        if found["unit"] == INCH_MARK and (found["space"] or not are_inches):
            return found[0]
        return _spellings(found["number"], _unit(found))[int(choose() * 4)]

    return _NUMBER_WITH_UNIT.sub(respell, text)


def spell_shortly(text: str) -> str:
    """Spell the units of a text in one way, so that texts can be compared.

    Inches are left out: whether a mark means them depends on what else is in the text.
    """

    def respell(found: re.Match[str]) -> str:
        short = _unit(found)[0]
        return found["number"] + (" " if short == INCH_MARK else f" {short}")

    return _NUMBER_WITH_UNIT.sub(respell, text)


def _unit(found: re.Match[str]) -> tuple[str, str, str]:
    return _UNITS[found["unit"].lower()]


def _spellings(number: str, unit: tuple[str, str, str]) -> tuple[str, str, str, str]:
    short, one, many = unit
    word = f"{number} {one if number == '1' else many}"
    if short == INCH_MARK:
        return f'{number}"', f"{number} inch", f"{number}-inch", word
    return f"{number}{short}", f"{number} {short}", f"{number}{short.upper()}", word
