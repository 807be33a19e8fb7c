import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from search.study_schema import study_schema
from spaces.parameters import KINDS
from spaces.schema import space_schema
from spaces.trial_config import SEARCHABLE

STUDIES = sorted((Path(__file__).parents[2] / "search" / "studies").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(study_schema())


def read(name: str) -> dict[str, Any]:
    path = next(path for path in STUDIES if path.stem == name)
    study: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return study


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_every_study_fits(path: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [
        {"serch": {}},
        {"search": {"trails": 3}},
        {"search": {"algorithm": "tp"}},
        {"space": "ctl"},
        {"space": {"lerning_rate": 0.1}},
        {"space": {"dropout": {"unifrom": [0, 0.1]}}},
        {"space": {"dropout": {"uniform": [0, 0.1], "stpe": 0.1}}},
        {"space": {"batch_size": {"grid": [8, 16], "prior": 8}}},
        {"space": {"batch_size": {"int": [8, 16], "prior": 8.5}}},
        {"space": {"dropout": {"uniform": [0, 0.1], "prior_confidence": "low"}}},
        {"space": {"dropout": {"uniform": [0, 0.1], "prior": 0, "prior_confidence": "sure"}}},
        {"winners": "few"},
    ],
)
def test_typo_does_not_fit(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**read("quickstart"), **change})


def test_every_kind_and_a_preset_fit() -> None:
    space = {
        "learning_rate": {"log_uniform": [1e-5, 1e-3], "prior": 1e-4},
        "dropout": {"uniform": [0, 0.3], "step": 0.05},
        "batch_size": {"int": [8, 64], "step": 8},
        "lora_rank": {"log_int": [1, 64], "when": {"method": "lora"}},
        "tuned_layers": {"ordinal": [1, 2]},
        "method": {"choice": ["lora", "full"], "prior": "lora", "prior_confidence": "low"},
        "weight_decay": {"grid": [0.0, 0.01]},
        "constraints": ["batch_size * tuned_layers <= 64"],
    }

    for given in (space, "ctr"):
        VALIDATOR.validate({**read("quickstart"), "space": given})


def test_schema_has_all_kinds_and_says_what_keys_mean() -> None:
    schema = space_schema(dict.fromkeys(SEARCHABLE, ""))
    kinds = schema["anyOf"][1]["properties"]["dropout"]["anyOf"][1:]

    assert [kind["required"][0] for kind in kinds] == list(KINDS)
    trials = study_schema()["$defs"]["SearchConfig"]["properties"]["trials"]
    assert trials["description"].startswith("Trials of the study")


def keys(schema: object) -> set[str]:
    """Return the names of all properties of a schema, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(keys, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*map(keys, schema.values()))


def test_the_page_about_the_study_file_has_every_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "study-file.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z_0-9]+", page))

    missing = keys(study_schema()) - words

    assert missing == set()
