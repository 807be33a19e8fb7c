"""Which words an augmentation may touch."""

import re

from trainables.augmentation.units import SPELLINGS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words(
    "aqua azure beige black blue brown burgundy charcoal cream crimson cyan ebony emerald gold "
    "golden gray green grey indigo ivory khaki lavender lilac magenta maroon mint mustard navy "
    "olive orange peach pink purple red rose ruby sand scarlet silver tan teal turquoise violet "
    "white yellow"
)
SIZES = _words(
    "s m l xs xl xxl xxxl small medium large mini midi maxi big tiny huge short long tall petite "
    "plus slim wide narrow single double twin full queen king oversized compact size sizes"
)
UNITS = _words(
    "mm cm m km in inch inches ft feet foot yd yard yards g kg mg lb lbs oz ounce ounces ml cl l "
    "liter liters litre litres gal gallon pint w kw kwh watt watts v volt volts ah mah hz khz mhz "
    "ghz kb mb gb tb mp px dpi rpm hp btu pack packs pcs piece pieces pair pairs set sets count "
    "dozen month months year years week weeks day days hour hours minute minutes"
)
NEGATIONS = _words(
    "no not non never none nobody nothing nowhere neither nor without except free less minus "
    "cannot can't don't doesn't didn't isn't aren't wasn't weren't won't wouldn't shouldn't "
    "couldn't hasn't haven't hadn't nicht kein ohne pas sans sin"
)
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty "
    "fifty sixty hundred thousand million billion first second third half quarter"
)
PROTECTED = COLOURS | SIZES | UNITS.union(*SPELLINGS) | NEGATIONS | NUMBERS
"""Words whose change would make a text say something else about the product."""

FUNCTION_WORDS = _words(
    "a an the and or but if then than that this these those of to in on at by for from with into "
    "onto over under up down out off as is are was were be been being am do does did has have had "
    "will would can could may might shall should must it its he she they them his her their our "
    "your my me we you i us him who whom whose which what when where why how all any both each "
    "few more most other some such only own same so too very just also about after again against "
    "before below between during through until while there here"
)
"""Words without a meaning of their own, which no other word can stand for."""

PROTECTED_CHARACTERS = frozenset(
    "红黄蓝绿黑白灰紫粉橙棕金银青"
    "大中小长短宽窄高低厚薄"
    "克米升寸码厘毫"
    "不无没非免未"
    "〇零一二三四五六七八九十百千万两半双单"
)
"""The same for Chinese, which puts no space between words: a word with one of these stays."""

OPENING_NEGATIONS = NEGATIONS - _words("free less")
"""Words that negate what follows them: sugar-free is over where it says so."""

_EDGES = re.compile(r"^\W+|\W+$")


def bare_word(word: str) -> str:
    """Return a word in lower case, without the punctuation around it."""
    return _EDGES.sub("", word).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower()


def is_protected(word: str, names: frozenset[str] = frozenset()) -> bool:
    """Tell whether a word, with punctuation around it or not, must stay as it is.

    Args:
        word: What stands between two spaces.
        names: More words that must, in lower case.
    """
    bare = bare_word(word)
    if any(character.isdigit() or character in PROTECTED_CHARACTERS for character in bare):
        return True
    # Also the parts of navy-blue and sugar-free, and Harbor's.
    parts = (bare, bare.removesuffix("'s"), *re.split(r"[-/]", bare))
    return any(part in PROTECTED or part in names for part in parts)
