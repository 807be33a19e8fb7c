"""Named parameters: validate, count, enumerate, sample."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from spaces.conditions import is_active
from spaces.constraints import Constraint, parse_constraints
from spaces.parameters import Grid, Parameter, Value, parse_parameter
from spaces.priors import Prior
from spaces.spelling import nearest
from spaces.trial_config import SEARCHABLE, TrialConfig

CONSTRAINTS = "constraints"
"""The key under which a study file's space has its constraints, beside its parameters."""

LARGEST_LIST = 100_000
"""Combinations of values that are gone through one by one for what constraints leave of them."""

DRAWS, ALLOWED_DRAWS = 10_000, 10
"""Random draws of a new space, and how many of them its constraints must allow."""

QUICK_DRAWS = 100
"""Draws of one point before the allowed ones are listed, where that is possible."""

ATTEMPTS = 100_000
"""Draws of one point; where one in a thousand is allowed, as above, that many never fail."""


@dataclass(frozen=True, slots=True)
class Space:
    """The parameters that a study varies, in the order in which they are decided.

    A parameter with a condition (``when``) exists in a point only if its parents hold one of the
    named values; parents come first. A point is a plain ``{name: value}`` of the active parameters.
    """

    parameters: Mapping[str, Parameter]
    """Name to dimension; each name is a field of :class:`spaces.TrialConfig`."""
    constraints: tuple[Constraint, ...] = ()
    """What the values of every point fulfil together."""

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError(
                "the space is empty; name at least one parameter, "
                "like learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}"
            )
        seen: dict[str, Parameter] = {}
        for name, parameter in self.parameters.items():
            if name not in SEARCHABLE:
                raise ValueError(f"unknown parameter {name!r}{nearest(name, SEARCHABLE)}")
            self._check_condition(name, parameter, seen)
            self._check_values(name, parameter)
            seen[name] = parameter
        for constraint in self.constraints:
            self._check_names(constraint)
        self._check_possible()

    def _check_condition(
        self, name: str, parameter: Parameter, earlier: Mapping[str, Parameter]
    ) -> None:
        for parent, values in parameter.when.items():
            if parent not in self.parameters:
                raise ValueError(f"{name}.when names {parent!r}, which is not in the space")
            if parent not in earlier:
                raise ValueError(f"{name}.when names {parent!r}, which must stand above {name}")
            possible = earlier[parent].choices
            if possible is None:
                raise ValueError(
                    f"{name}.when names {parent!r}, which is not a choice or an int: any real "
                    "number without a step has no value to wait for"
                )
            if not values:
                raise ValueError(f"{name}.when lists no value of {parent}; name at least one")
            for value in values:
                if value not in possible:
                    takes = possible if isinstance(possible, range) else list(possible)
                    raise ValueError(
                        f"{name}.when waits for {parent}={value!r}, which {parent} never is; "
                        f"it takes {takes}"
                    )

    def _check_values(self, name: str, parameter: Parameter) -> None:
        for value in parameter.extremes():
            try:
                TrialConfig(**{name: value})  # type: ignore[arg-type]
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def _check_names(self, constraint: Constraint) -> None:
        for name in constraint.names:
            if name not in self.parameters:
                raise ValueError(
                    f"{CONSTRAINTS}: {constraint.text!r} names {name!r}, which is not in the space"
                    f"{nearest(name, tuple(self.parameters))}"
                )
            for value in self.parameters[name].extremes():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ValueError(
                        f"{CONSTRAINTS}: {constraint.text!r} computes with {name}, which may be "
                        f"{value!r}; constraints are about numbers, write when: for a choice"
                    )

    def _check_possible(self) -> None:
        """Refuse constraints that nothing, or too little to be found by chance, fulfils."""
        if not self.constraints:
            return
        allowed = self._count_allowed(self.constraints)
        if allowed == ALLOWED_DRAWS or (self.is_listable() and any(True for _ in self.enumerate())):
            return
        for constraint in self.constraints:
            if not self._count_allowed((constraint,)):
                which = f"{constraint.text!r}"
                break
        else:
            which = " and ".join(f"{constraint.text!r}" for constraint in self.constraints)
        found = f"only {allowed}" if allowed else "none"
        share = "no point of the space" if self.is_listable() else f"{found} of {DRAWS:,} draws"
        raise ValueError(
            f"{CONSTRAINTS}: {share} fulfils {which}; loosen it, or change what the parameters "
            "may be"
        )

    def _count_allowed(self, constraints: tuple[Constraint, ...]) -> int:
        rng = random.Random(0)
        draws = (self._draw(rng) for _ in range(DRAWS))
        allowed = (d for d in draws if all(constraint.holds(d) for constraint in constraints))
        return sum(1 for _ in itertools.islice(allowed, ALLOWED_DRAWS))

    def is_listable(self) -> bool:
        """Tell whether its combinations, allowed or not, are few enough to be gone through."""
        count = Space(self.parameters).count()
        return count is not None and count <= LARGEST_LIST

    @classmethod
    def parse(cls, raw: Any) -> "Space":  # noqa: ANN401 - unchecked YAML
        """Build a space from a study file's ``space`` section, or from a preset's name.

        Raises:
            ValueError: naming the parameter that is wrong, what was found and what to write.
        """
        if isinstance(raw, Space):
            return raw
        if isinstance(raw, str):
            return load_preset(raw)
        if raw is None:
            raw = {}
        if not isinstance(raw, Mapping):
            raise ValueError(f"expected parameters or a preset's name, got {raw!r}")
        parameters: dict[str, Parameter] = {}
        constraints: tuple[Constraint, ...] = ()
        for name, text in raw.items():
            try:
                if name == CONSTRAINTS:
                    constraints = parse_constraints(text)
                else:
                    parameters[str(name)] = parse_parameter(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return cls(parameters, constraints)

    def to_dict(self) -> dict[str, Any]:
        """Return the space as a study file writes it."""
        raw: dict[str, Any] = {name: p.to_dict() for name, p in self.parameters.items()}
        if self.constraints:
            raw[CONSTRAINTS] = [constraint.text for constraint in self.constraints]
        return raw

    def walk(self, decide: Callable[[str, Parameter], Value]) -> dict[str, Value]:
        """Decide the active parameters one by one, parents first, and return the point.

        The point may break constraints: see :meth:`allows`.
        """
        point: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if is_active(parameter.when, point):
                point[name] = decide(name, parameter)
        return point

    def allows(self, point: Mapping[str, Value]) -> bool:
        """Tell whether a point fulfils all constraints that apply to it."""
        return all(constraint.holds(point) for constraint in self.constraints)

    def sample(self, rng: random.Random) -> dict[str, Value]:
        """Draw one point that the constraints allow, each active parameter independently.

        Of a space of few combinations, most of which constraints forbid, all points are equally
        likely, whatever the priors.

        Raises:
            ValueError: if no draw is allowed, which a space is checked for when it is made.
        """
        for _ in range(QUICK_DRAWS):
            point = self._draw(rng)
            if self.allows(point):
                return point
        if listed := _listed(json.dumps(self.to_dict())):
            return dict(rng.choice(listed))
        for _ in range(ATTEMPTS):
            point = self._draw(rng)
            if self.allows(point):
                return point
        raise ValueError(
            f"{CONSTRAINTS}: none of {ATTEMPTS:,} draws fulfils them; loosen them, or change what "
            "the parameters may be"
        )

    def _draw(self, rng: random.Random) -> dict[str, Value]:
        return self.walk(lambda _name, parameter: parameter.sample(rng))

    def continuous(self) -> tuple[str, ...]:
        """Return the names of the parameters that a grid can't enumerate."""
        return tuple(name for name, p in self.parameters.items() if p.choices is None)

    def grids(self) -> tuple[str, ...]:
        """Return the names of the parameters whose values trials take in turn."""
        return tuple(name for name, p in self.parameters.items() if isinstance(p, Grid))

    def expected(self) -> dict[str, Prior]:
        """Return the priors, by the name of their parameter."""
        priors = {
            name: None if isinstance(p, Grid) else p.prior for name, p in self.parameters.items()
        }
        return {name: prior for name, prior in priors.items() if prior is not None}

    def count(self) -> int | None:
        """Return how many distinct points there are.

        Returns:
            None if a parameter is continuous, or if constraints and conditions join more than
            ``LARGEST_LIST`` combinations of values.
        """
        if self.continuous():
            return None
        decisive = {parent for p in self.parameters.values() for parent in p.when}
        decisive.update(name for constraint in self.constraints for name in constraint.names)
        sizes = (len(self.parameters[name].choices or ()) for name in decisive)
        if self.constraints and math.prod(sizes) > LARGEST_LIST:
            return None
        return self._count({}, list(self.parameters.items()), decisive)

    def _count(
        self, point: dict[str, Value], rest: list[tuple[str, Parameter]], decisive: set[str]
    ) -> int:
        """Count the ways to decide the rest; only what decides on others is tried by value."""
        if not rest:
            return 1
        (name, parameter), *others = rest
        if not is_active(parameter.when, point):
            return self._count(point, others, decisive)
        values = parameter.choices or ()
        if name not in decisive:
            return len(values) * self._count(point, others, decisive)
        points = ({**point, name: value} for value in values)
        return sum(self._count(p, others, decisive) for p in points if self._fits(name, p))

    def _fits(self, name: str, point: Mapping[str, Value]) -> bool:
        """Tell whether the constraints whose last decided parameter is ``name`` hold."""
        about = (constraint for constraint in self.constraints if name in constraint.names)
        return all(constraint.holds(point) for constraint in about)

    def enumerate(self) -> Iterator[dict[str, Value]]:
        """Visit every point once; the last parameter varies fastest.

        Raises:
            ValueError: if a parameter is continuous.
        """
        if names := self.continuous():
            raise ValueError(
                f"a grid can't enumerate {', '.join(names)}; list the values: "
                f"{names[0]}: {{choice: [...]}}, or use algorithm random or tpe"
            )
        yield from self._extend({}, list(self.parameters.items()))

    def _extend(
        self, point: dict[str, Value], rest: list[tuple[str, Parameter]]
    ) -> Iterator[dict[str, Value]]:
        if not rest:
            yield dict(point)
            return
        (name, parameter), *others = rest
        if not is_active(parameter.when, point):
            yield from self._extend(point, others)
            return
        for value in parameter.choices or ():
            longer = {**point, name: value}
            if self._fits(name, longer):
                yield from self._extend(longer, others)


@lru_cache(maxsize=4)
def _listed(space: str) -> tuple[dict[str, Value], ...]:
    """List the points of a space, given as JSON; none where there are too many combinations."""
    listed = Space.parse(json.loads(space))
    return tuple(listed.enumerate()) if listed.is_listable() else ()


def preset_names() -> tuple[str, ...]:
    """Return the names of the spaces that come with ClickTune."""
    folder = resources.files("spaces") / "presets"
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


def load_preset(name: str) -> Space:
    """Load a ready space by name.

    Raises:
        ValueError: if there is no preset of that name.
    """
    if name not in preset_names():
        raise ValueError(f"unknown preset {name!r}{nearest(name, preset_names())}")
    text = (resources.files("spaces") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return Space.parse(yaml.safe_load(text))
