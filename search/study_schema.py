"""The JSON Schema of a study file, for editors that complete and check it."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from search.study_config import StudyConfig
from spaces.schema import space_schema
from spaces.space import Space
from spaces.trial_config import TrialConfig


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a study file.

    It has every key with its docstring, type and default; what depends on several keys, or on the
    table, is checked only when the study is read.
    """
    schema = TypeAdapter(StudyConfig).json_schema()
    definitions = schema["$defs"]
    for config in set(_configs(StudyConfig)):
        section = schema if config is StudyConfig else definitions[config.__name__]
        for name, text in _docstrings(config).items():
            section["properties"][name]["description"] = text
    schema["properties"]["space"] |= space_schema(_docstrings(TrialConfig))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _configs(config: type) -> Iterator[type]:
    yield config
    for kind in typing.get_type_hints(config).values():
        for inner in (kind, *typing.get_args(kind)):
            # A space has a schema of its own: in a file it is written as its parameters.
            if isinstance(inner, type) and dataclasses.is_dataclass(inner) and inner is not Space:
                yield from _configs(inner)


def _docstrings(config: type) -> dict[str, str]:
    """Return the docstring under each field; pydantic's own way costs every study half a second."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in itertools.pairwise(definition.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found
