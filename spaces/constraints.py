"""Constraints between parameters: comparisons of arithmetic, read by a whitelist, never executed.

A constraint is parsed into Python's syntax tree, and each node that is allowed becomes a small
function of ours; any other node is an error. Nothing of the text is ever compiled or evaluated.
"""

import ast
import math
import operator
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from spaces.conditions import Value

LONGEST = 300
"""Characters of a constraint; it bounds how deep its parentheses can be."""

TOLERANCE = 1e-9
"""Relative difference under which two real numbers are equal: 6 * 0.05 <= 0.3, as it is meant."""

NOTHING = 1e-12
"""What counts as 0: 0.1 + 0.2 - 0.3 is 5.6e-17. Smaller numbers than this can't be compared."""

GRAMMAR = "numbers, the space's parameters, + - * / ( ), comparisons, and, or"
"""What a constraint is made of."""

Numbers = Mapping[str, float]
"""The values of a constraint's parameters."""


def _equal(left: float, right: float) -> bool:
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=NOTHING)


_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: lambda left, right: left < right and not _equal(left, right),
    ast.LtE: lambda left, right: left < right or _equal(left, right),
    ast.Gt: lambda left, right: left > right and not _equal(left, right),
    ast.GtE: lambda left, right: left > right or _equal(left, right),
    ast.Eq: _equal,
    ast.NotEq: lambda left, right: not _equal(left, right),
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNS: dict[type[ast.unaryop], Callable[[float], float]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the parameters of a point must fulfil together, such as ``a * b <= 64``."""

    text: str
    """Comparisons of sums and products of numbers and parameters, joined by ``and`` and ``or``."""

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError(f"{self.text!r} names no parameter, so it is the same at every point")

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that it is about, in the order in which it names them."""
        return _read(self.text)[1]

    def holds(self, point: Mapping[str, Value]) -> bool:
        """Tell whether a point fulfils it.

        It doesn't apply, and so holds, where one of its parameters is inactive. A division by zero
        fulfils nothing.
        """
        truth, names = _read(self.text)
        if any(name not in point for name in names):
            return True
        numbers: dict[str, Any] = {name: point[name] for name in names}
        try:
            return truth(numbers)
        except ArithmeticError:
            return False


def parse_constraints(raw: Any) -> tuple[Constraint, ...]:  # noqa: ANN401 - unchecked YAML
    """Read constraints as a study file lists them.

    Raises:
        ValueError: naming the constraint, and the part of it that isn't allowed.
    """
    if not isinstance(raw, list | tuple):
        raise ValueError(
            f"expected a list of comparisons like [batch_size * lora_rank <= 512], got {raw!r}"
        )
    for text in raw:
        if not isinstance(text, str):
            raise ValueError(f"expected a comparison like batch_size <= 64, got {text!r}")
    return tuple(Constraint(text.strip()) for text in raw)


@lru_cache(maxsize=256)
def _read(text: str) -> tuple[Callable[[Numbers], bool], tuple[str, ...]]:
    """Return a constraint as a function of its parameters, and their names."""
    if len(text) > LONGEST:
        raise ValueError(
            f"{text[:40]!r}... has {len(text)} characters; write up to {LONGEST}, or cut it in two"
        )
    try:
        with warnings.catch_warnings():
            # What Python only warns of, such as 1or 2, is no comparison that somebody means.
            warnings.simplefilter("error")
            tree = ast.parse(text, mode="eval")
        truth = _truth(tree.body)
    except (SyntaxError, Warning) as error:
        raise ValueError(
            f"{text!r} is no comparison: {_reason(error)}; it may hold {GRAMMAR}"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is nested too deep; write several constraints") from error
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    # The tree is walked level by level; a person reads from left to right.
    names.sort(key=lambda name: (name.lineno, name.col_offset))
    return truth, tuple(dict.fromkeys(name.id for name in names))


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _truth(node: ast.expr) -> Callable[[Numbers], bool]:
    if isinstance(node, ast.BoolOp):
        join = all if isinstance(node.op, ast.And) else any
        parts = [_truth(value) for value in node.values]
        return lambda numbers: join(part(numbers) for part in parts)
    if not isinstance(node, ast.Compare):
        raise ValueError(f"{ast.unparse(node)!r} is no comparison; write one, like a <= b")
    compare = []
    for comparison in node.ops:
        if type(comparison) not in _COMPARISONS:
            raise ValueError(f"{ast.unparse(node)!r} compares by what isn't < <= > >= == or !=")
        compare.append(_COMPARISONS[type(comparison)])
    sides = [_number(side) for side in (node.left, *node.comparators)]

    def holds(numbers: Numbers) -> bool:
        values = [side(numbers) for side in sides]
        pairs = zip(compare, values, values[1:], strict=False)
        return all(compares(left, right) for compares, left, right in pairs)

    return holds


def _number(node: ast.expr) -> Callable[[Numbers], float]:
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.Name):
        name = node.id
        return lambda numbers: numbers[name]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        sign, operand = _SIGNS[type(node.op)], _number(node.operand)
        return lambda numbers: sign(operand(numbers))
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        compute, left, right = _ARITHMETIC[type(node.op)], _number(node.left), _number(node.right)
        return lambda numbers: compute(left(numbers), right(numbers))
    raise ValueError(f"{ast.unparse(node)!r} isn't allowed in a constraint; it may hold {GRAMMAR}")


def _constant(value: object) -> Callable[[Numbers], float]:
    if isinstance(value, str):
        raise ValueError(
            f"{value!r} is text, which can't be compared; write when: under the parameter that "
            "depends on a choice"
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    # A comparison, because math.isfinite overflows on a huge int.
    if value > sys.float_info.max:
        raise ValueError(f"{value!r} is too large a number")
    number = value
    return lambda _numbers: number
