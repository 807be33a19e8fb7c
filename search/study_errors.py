"""Say what is wrong with a study file, in the words of the file."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from spaces.space import Space
from spaces.spelling import nearest

EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of sensible size",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dataclass_type": "keys of its own, like {key: value}",
}
"""What a value of each kind should have been, by pydantic's name for the mistake."""


def section_fields(config: type, path: Sequence[str]) -> tuple[str, ...] | None:
    """Return the keys that a section of a study file may have.

    Args:
        config: The dataclass of the whole file.
        path: Keys that lead to the section.

    Returns:
        None if the path leads to a value, or to a section without a fixed set of keys.
    """
    section: Any = config
    for name in path:
        if not dataclasses.is_dataclass(section) or name not in _hints(section):
            return None
        section = _hints(section)[name]
    if not _has_fixed_keys(section):
        return None
    return tuple(field.name for field in dataclasses.fields(section))


def _has_fixed_keys(section: Any) -> bool:  # noqa: ANN401 - any annotation
    # Space is a dataclass too, but in a file it is written as its parameters.
    return dataclasses.is_dataclass(section) and section is not Space


def _hints(section: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    return typing.get_type_hints(section)


def describe_mistakes(error: ValidationError, config: type) -> list[str]:
    """Turn a failed validation into one sentence for each mistake, with its dotted path."""
    mistakes: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _path(detail["loc"], config)
        sentence = _describe(path, dict(detail), config)
        # A value that fits no member of a union is reported once for each member.
        mistakes.setdefault(".".join(path), []).append(sentence)
    return [_merge(sentences) for sentences in mistakes.values()]


def _path(location: Sequence[int | str], config: type) -> list[str]:
    """Return the file's keys of a location, without pydantic's own marks for union members."""
    path: list[str] = []
    section: Any = config
    for step in location:
        if _has_fixed_keys(section):
            path.append(str(step))
            section = _hints(section).get(str(step))
        elif isinstance(step, int):
            path.append(str(step))
    return path


def _describe(path: list[str], detail: Mapping[str, Any], config: type) -> str:
    where, kind, found = ".".join(path) or "the file", detail["type"], detail["input"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        known = section_fields(config, path[:-1]) or ()
        return f"unknown key {where!r}{nearest(path[-1], known)}"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{where} is missing"
    if kind == "value_error":
        return _own_message(where, str(detail["ctx"]["error"]), found)
    if kind == "too_long":
        return f"{where} must have {detail['ctx']['max_length']} values, got {found!r}"
    expected = EXPECTED.get(kind)
    if expected is None and kind == "literal_error":
        expected = str(detail["ctx"]["expected"]).replace("'", "")
    if expected is None:
        return f"{where}: {detail['msg']}, got {found!r}"
    hint = _number_hint(kind, found)
    if kind == "tuple_type" and path[-1].isdigit():
        hint = "; it is a list of lists, such as [[first, second]]"
    return f"{where} must be {expected}, got {found!r}{hint}"


def _number_hint(kind: str, found: object) -> str:
    if kind not in ("float_type", "int_type") or not isinstance(found, str):
        return ""
    try:
        number = float(found)
    except ValueError:
        return ""
    if kind == "int_type":
        return f"; write {int(number)} without quotes" if number.is_integer() else ""
    mantissa, has_exponent, exponent = found.lower().partition("e")
    if has_exponent:
        sign = "" if exponent.startswith(("-", "+")) else "+"
        whole = mantissa if "." in mantissa else f"{mantissa}.0"
        return f"; YAML reads that as text, write {whole}e{sign}{exponent}"
    return f"; write {number:g} without quotes"


def _own_message(where: str, message: str, found: object) -> str:
    """Prefix a message of ours with its path, unless it names the path itself."""
    top = where.split(".", maxsplit=1)[0]
    if where == "the file" or message.startswith((f"{top}.", f"{top} ")):
        return message
    first = message.split(":", maxsplit=1)[0]
    if isinstance(found, Mapping) and first in found:
        return f"{where}.{message}"
    return f"{where}: {message}"


def _merge(sentences: list[str]) -> str:
    """Join what was said of one value: '... must be a whole number or auto, got many'."""
    if len(sentences) == 1 or not all(" must be " in sentence for sentence in sentences):
        return "; ".join(dict.fromkeys(sentences))
    start, rest = sentences[0].split(" must be ", maxsplit=1)
    found = rest[rest.rindex(", got ") :]
    options = [
        s.split(" must be ", maxsplit=1)[1].rsplit(", got ", maxsplit=1)[0] for s in sentences
    ]
    return f"{start} must be {' or '.join(dict.fromkeys(options))}{found}"
