"""Which smaller shape of a winner is tried next: step by step down, while quality holds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How much of a winner's encoder stays."""

    layers: int
    """Encoder layers; 0 for a model without an encoder."""
    keep_fraction: float
    """Share of the attention heads and feed-forward units of those layers."""

    @property
    def cost(self) -> float:
        """What a run takes, about, in whole layers."""
        return self.layers * self.keep_fraction

    def is_inside(self, other: "Shape") -> bool:
        """Tell whether nothing of this shape exceeds the other one."""
        return self.layers <= other.layers and self.keep_fraction <= other.keep_fraction


class Tried(Protocol):
    """A shape that was made and measured."""

    @property
    def shape(self) -> Shape:
        """What stayed."""

    @property
    def is_good_enough(self) -> bool:
        """Whether something smaller is worth a try."""


T = TypeVar("T", bound=Tried)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ladder:
    """The shapes that a search may take: all pairs of a number of layers and a share."""

    layers: tuple[int, ...]
    """Numbers of layers, falling."""
    keep_fractions: tuple[float, ...]
    """Shares, falling."""

    @classmethod
    def of(
        cls, num_layers: int, layer_fractions: Sequence[float], keep_fractions: Sequence[float]
    ) -> "Ladder":
        """Make the ladder of an encoder; a share of its layers is at least one layer."""
        layers = {max(1, round(num_layers * fraction)) for fraction in layer_fractions}
        return cls(
            layers=tuple(sorted(layers, reverse=True)) if num_layers else (0,),
            keep_fractions=tuple(sorted(set(keep_fractions), reverse=True)) if num_layers else (1,),
        )

    @property
    def top(self) -> Shape:
        """The largest shape."""
        return Shape(layers=self.layers[0], keep_fraction=self.keep_fractions[0])

    def below(self, shape: Shape) -> list[Shape]:
        """Return the shapes one step down, fewer layers and a smaller share, the cheaper first."""
        fewer = [n for n in self.layers if n < shape.layers][:1]
        smaller = [keep for keep in self.keep_fractions if keep < shape.keep_fraction][:1]
        steps = [
            *(Shape(layers=n, keep_fraction=shape.keep_fraction) for n in fewer),
            *(Shape(layers=shape.layers, keep_fraction=keep) for keep in smaller),
        ]
        return sorted(steps, key=lambda step: step.cost)


def descend(
    ladder: Ladder, make_top: Callable[[], T], shrink: Callable[[T, Shape], T]
) -> Iterator[T]:
    """Walk down a ladder, and give everything that was tried.

    From where it stands it tries the step that saves more, and if that isn't good enough the other
    one. Each step starts from the model that the one before left, recovered: removing a little at a
    time and training in between loses less than removing all at once (Han et al. 2015,
    https://arxiv.org/abs/1506.02626, section 3). A shape inside one that wasn't good enough isn't
    tried. Of m times n shapes at most 2 (m + n) are tried, and mostly no more than m + n.

    Args:
        ladder: The shapes.
        make_top: Makes the largest one.
        shrink: Makes a smaller shape of one that was made.
    """
    stands = make_top()
    yield stands
    if not stands.is_good_enough:
        return
    failed: list[Shape] = []
    while True:
        for shape in ladder.below(stands.shape):
            if any(shape.is_inside(other) for other in failed):
                continue
            tried = shrink(stands, shape)
            yield tried
            if tried.is_good_enough:
                stands = tried
                break
            failed.append(shape)
        else:
            return
