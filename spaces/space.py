"""Named parameters: validate, count, enumerate, sample."""

import difflib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from spaces.parameters import Parameter, Value, parse_parameter
from spaces.trial_config import SEARCHABLE, TrialConfig


def _nearest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


@dataclass(frozen=True, slots=True)
class Space:
    """The parameters that a study varies, in the order in which they are decided.

    A parameter with a condition (``when``) exists in a point only if its parents hold one of the
    named values; parents come first. A point is a plain ``{name: value}`` of the active parameters.
    """

    parameters: Mapping[str, Parameter]
    """Name to dimension; each name is a field of :class:`spaces.TrialConfig`."""

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError(
                "the space is empty; name at least one parameter, "
                "like learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}"
            )
        seen: dict[str, Parameter] = {}
        for name, parameter in self.parameters.items():
            if name not in SEARCHABLE:
                raise ValueError(f"unknown parameter {name!r}{_nearest(name, SEARCHABLE)}")
            self._check_condition(name, parameter, seen)
            self._check_values(name, parameter)
            seen[name] = parameter

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
                raise ValueError(f"{name}.when names {parent!r}, which is not a choice or an int")
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
        for name, text in raw.items():
            try:
                parameters[str(name)] = parse_parameter(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return cls(parameters)

    def to_dict(self) -> dict[str, Any]:
        """Return the space as a study file writes it."""
        return {name: parameter.to_dict() for name, parameter in self.parameters.items()}

    def walk(self, decide: Callable[[str, Parameter], Value]) -> dict[str, Value]:
        """Decide the active parameters one by one, parents first, and return the point."""
        point: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if _is_active(parameter, point):
                point[name] = decide(name, parameter)
        return point

    def sample(self, rng: random.Random) -> dict[str, Value]:
        """Draw one point, each active parameter independently."""
        return self.walk(lambda _name, parameter: parameter.sample(rng))

    def continuous(self) -> tuple[str, ...]:
        """Return the names of the parameters that a grid can't enumerate."""
        return tuple(name for name, p in self.parameters.items() if p.choices is None)

    def count(self) -> int | None:
        """Return how many distinct points there are; None if a parameter is continuous."""
        if self.continuous():
            return None
        parents = {parent for p in self.parameters.values() for parent in p.when}
        return self._count({}, list(self.parameters.items()), parents)

    def _count(
        self, point: dict[str, Value], rest: list[tuple[str, Parameter]], parents: set[str]
    ) -> int:
        """Count the ways to decide the rest; only parents need to be tried value by value."""
        if not rest:
            return 1
        (name, parameter), *others = rest
        if not _is_active(parameter, point):
            return self._count(point, others, parents)
        values = parameter.choices or ()
        if name not in parents:
            return len(values) * self._count(point, others, parents)
        return sum(self._count({**point, name: value}, others, parents) for value in values)

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
        if not _is_active(parameter, point):
            yield from self._extend(point, others)
            return
        for value in parameter.choices or ():
            yield from self._extend({**point, name: value}, others)


def _is_active(parameter: Parameter, point: Mapping[str, Value]) -> bool:
    return all(
        parent in point and point[parent] in values for parent, values in parameter.when.items()
    )


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
        raise ValueError(f"unknown preset {name!r}{_nearest(name, preset_names())}")
    text = (resources.files("spaces") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return Space.parse(yaml.safe_load(text))
