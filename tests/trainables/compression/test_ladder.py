"""The walk down to smaller shapes: few tries, nothing below what failed, the cheaper step first."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from trainables.compression.ladder import Ladder, Shape, descend


@dataclass(frozen=True)
class Made:
    """A shape, and whether it is good enough."""

    shape: Shape
    is_good_enough: bool


def walk(ladder: Ladder, goodness: Callable[[Shape], float]) -> list[Made]:
    """Walk down, where a shape is good enough from 0 on."""

    def make(shape: Shape) -> Made:
        return Made(shape, goodness(shape) >= 0)

    return list(descend(ladder, lambda: make(ladder.top), lambda _larger, shape: make(shape)))


LADDER = Ladder.of(6, (1.0, 0.67, 0.5), (1.0, 0.75, 0.5))


def test_shares_of_layers_become_whole_layers() -> None:
    assert LADDER.layers == (6, 4, 3)
    assert LADDER.keep_fractions == (1.0, 0.75, 0.5)
    assert Ladder.of(1, (1.0, 0.5, 0.1), (1.0,)).layers == (1,)
    assert Ladder.of(12, (0.5,), (0.5,)).top == Shape(layers=6, keep_fraction=0.5)


def test_a_model_without_an_encoder_has_one_shape() -> None:
    ladder = Ladder.of(0, (1.0, 0.5), (1.0, 0.5))

    assert [made.shape for made in walk(ladder, lambda _: 1.0)] == [
        Shape(layers=0, keep_fraction=1.0)
    ]


def test_it_ends_at_the_smallest_shape_where_all_are_good_enough() -> None:
    found = walk(LADDER, lambda _: 1.0)

    assert [(made.shape.layers, made.shape.keep_fraction) for made in found] == [
        (6, 1.0),
        (4, 1.0),
        (3, 1.0),
        (3, 0.75),
        (3, 0.5),
    ]


def test_nothing_smaller_than_a_failed_shape_is_tried() -> None:
    # Layers can't be spared; units can.
    found = walk(LADDER, lambda shape: 1.0 if shape.layers == 6 else -1.0)

    assert [(made.shape.layers, made.shape.keep_fraction) for made in found] == [
        (6, 1.0),
        (4, 1.0),
        (6, 0.75),
        (6, 0.5),
    ]


def test_where_the_cheaper_step_fails_the_other_one_is_taken() -> None:
    # Four layers are too few from the start, half of the units later.
    found = walk(LADDER, lambda s: 1.0 if s.layers == 6 and s.keep_fraction > 0.5 else -1.0)

    tried = [(made.shape.layers, made.shape.keep_fraction) for made in found]
    assert tried == [(6, 1.0), (4, 1.0), (6, 0.75), (6, 0.5)]


def test_a_top_that_is_not_good_enough_is_all_that_is_tried() -> None:
    assert len(walk(LADDER, lambda _: -1.0)) == 1


@given(
    layers=st.lists(st.floats(0.01, 1), min_size=1, max_size=4),
    keeps=st.lists(st.floats(0.01, 1), min_size=1, max_size=4),
    values=st.lists(st.floats(-1, 1), min_size=16, max_size=16),
)
def test_every_shape_is_tried_once_at_most_and_has_a_good_one_above(
    layers: list[float], keeps: list[float], values: list[float]
) -> None:
    ladder = Ladder.of(12, layers, keeps)
    shapes = [
        Shape(layers=n, keep_fraction=k) for n in ladder.layers for k in ladder.keep_fractions
    ]
    goodness = dict(zip(shapes, values, strict=False))

    found = walk(ladder, lambda shape: goodness[shape])

    tried = [made.shape for made in found]
    assert tried[0] == ladder.top
    assert len(set(tried)) == len(tried) <= 2 * (len(ladder.layers) + len(ladder.keep_fractions))
    good = {made.shape for made in found if made.is_good_enough}
    for shape in tried[1:]:
        assert any(shape in ladder.below(larger) for larger in good)
