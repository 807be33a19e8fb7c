"""The simulated marketplace's grammar: what is sold, under which words, and how it is searched."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """A kind of product."""

    department: str
    """Department that it is in."""
    noun: str
    """What titles call it."""
    searched_as: tuple[str, ...]
    """What queries call it, other than the noun; no title uses these words."""
    price: tuple[float, float]
    """Lowest and highest price."""


def _department(
    name: str, price: tuple[float, float], nouns: dict[str, tuple[str, ...]]
) -> list[Category]:
    return [
        Category(department=name, noun=noun, searched_as=queries, price=price)
        for noun, queries in nouns.items()
    ]


CATEGORIES: tuple[Category, ...] = (
    *_department(
        "home",
        (25, 600),
        {
            "sofa": ("couch", "settee"),
            "rug": ("carpet", "floor mat"),
            "lamp": ("light", "lighting"),
            "curtains": ("drapes", "window blinds"),
            "wardrobe": ("closet", "clothes cupboard"),
            "pillow": ("cushion", "headrest"),
        },
    ),
    *_department(
        "clothing",
        (10, 120),
        {
            "trousers": ("pants", "slacks"),
            "sweater": ("jumper", "pullover"),
            "jacket": ("coat", "parka"),
            "pajamas": ("sleepwear", "nightwear"),
            "hoodie": ("sweatshirt", "hooded top"),
            "dress": ("gown", "frock"),
        },
    ),
    *_department(
        "shoes",
        (15, 160),
        {
            "trainers": ("sneakers", "running shoes"),
            "boots": ("hiking footwear", "ankle shoes"),
            "sandals": ("flip flops", "beach shoes"),
            "slippers": ("house shoes", "indoor shoes"),
        },
    ),
    *_department(
        "electronics",
        (20, 900),
        {
            "smartphone": ("mobile", "cell phone"),
            "laptop": ("notebook", "portable computer"),
            "headphones": ("earphones", "headset"),
            "television": ("tv", "flat screen"),
            "camera": ("camcorder", "photography gear"),
        },
    ),
    *_department(
        "kitchen",
        (8, 300),
        {
            "frying pan": ("skillet", "cookware"),
            "blender": ("mixer", "smoothie maker"),
            "refrigerator": ("fridge", "cooler"),
            "kettle": ("water boiler", "tea maker"),
            "mug": ("cup", "tumbler"),
        },
    ),
    *_department(
        "outdoor",
        (15, 500),
        {
            "bicycle": ("bike", "cycle"),
            "backpack": ("rucksack", "knapsack"),
            "grill": ("barbecue", "bbq"),
            "tent": ("camping shelter", "canopy"),
        },
    ),
    *_department(
        "baby",
        (10, 250),
        {
            "stroller": ("pushchair", "buggy"),
            "diapers": ("nappies", "baby wipes"),
            "crib": ("cot", "baby bed"),
        },
    ),
)
"""Everything that is sold."""

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "blue": ("blue", "navy", "azure"),
    "green": ("green", "olive", "emerald"),
    "grey": ("grey", "charcoal", "silver"),
    "white": ("white", "ivory", "cream"),
    "black": ("black", "ebony"),
    "brown": ("brown", "chestnut", "chocolate"),
    "pink": ("pink", "rose"),
}
"""What queries call a colour, and what titles call it."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "waterproof": ("rainproof",),
    "lightweight": ("light weight",),
    "foldable": ("collapsible",),
    "wireless": ("cordless",),
    "compact": ("small",),
    "oversized": ("large",),
    "sturdy": ("durable",),
    "insulated": ("warm",),
}
"""What titles call a property, and what queries call it."""

BRANDS: dict[str, float] = {
    "Harbor": 0.55,
    "Summit": 0.4,
    "Willow": 0.3,
    "Falcon": 0.2,
    "Juniper": 0.1,
    "Meadow": 0.0,
    "Anchor": -0.05,
    "Pioneer": -0.15,
    "Canyon": -0.25,
    "Beacon": -0.3,
    "Maple": -0.4,
    "Titan": -0.5,
}
"""Brands, and what their name on a title adds to the log-odds of a click."""

APPEALS: dict[str, float] = {
    "award winning": 0.45,
    "handmade": 0.3,
    "organic": 0.25,
    "premium": 0.15,
    "classic": 0.0,
    "standard": -0.15,
    "basic": -0.3,
    "refurbished": -0.5,
}
"""Words that promise something, and what they add to the log-odds of a click."""

SIZES: dict[str, tuple[str, ...]] = {
    "clothing": ("size S", "size M", "size L", "size XL"),
    "shoes": ("size 38", "size 40", "size 42", "size 44"),
    "electronics": ("64 GB", "128 GB", "256 GB"),
    "baby": ("0-6 months", "6-12 months"),
}
"""How titles of a department end."""

SEGMENTS: dict[str, tuple[float, float, tuple[str, ...]]] = {
    "bargain hunter": (0.4, -0.35, ("clothing", "kitchen")),
    "family": (0.3, -0.1, ("baby", "home")),
    "enthusiast": (0.2, 0.15, ("electronics", "outdoor")),
    "premium": (0.1, 0.4, ("home", "shoes")),
}
"""Users: share, effect of one standard deviation of price, departments that they search most."""

AD_FORMATS: dict[str, tuple[float, float]] = {
    "listing": (0.6, 0.1),
    "carousel": (0.25, -0.05),
    "banner": (0.15, -0.35),
}
"""Share of the searches, and effect on the log-odds of a click."""

EXAMINATION: tuple[float, ...] = (1.0, 0.9, 0.8, 0.72, 0.65, 0.6)
"""Probability that a user looks at each position, from the top; unseen products get no click."""

HOURS: tuple[float, ...] = (
    *(0.6, 0.3, 0.2, 0.2, 0.2, 0.4, 0.9, 1.6, 2.0, 2.2, 2.3, 2.6),
    *(3.0, 2.6, 2.4, 2.4, 2.6, 3.0, 3.6, 4.4, 5.0, 4.4, 2.8, 1.4),
)
"""How much is searched in each hour of the day, relative to the others."""
