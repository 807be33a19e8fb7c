"""One YAML file, composed of its parts' configs."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError

from cluster.resources import TrialResources
from search.algorithms.distinct import effective_key
from search.algorithms.shared_numbers import shared_numbers
from search.search_config import TAKES_GRIDS
from search.search_config import AlgorithmName as AlgorithmName
from search.search_config import SearchConfig as SearchConfig
from search.study_errors import describe_mistakes, section_fields
from search.task_checks import check_task
from spaces.given_points import complete_point, complete_points
from spaces.grids import grid_combinations
from spaces.parameters import Value
from spaces.perturbation import CHANGEABLE, changeable
from spaces.space import Space
from spaces.spelling import nearest
from spaces.trial_config import TrialConfig
from trainables.augmentation.config import AugmentationConfig
from trainables.augmentation.models import name_missing
from trainables.compression.config import CompressionConfig
from trainables.data.config import DataConfig
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.encoder import EncoderConfig
from trainables.task import TASK_METRICS, TaskConfig

STUDY_FILE = "study.yaml"
"""In a study's folder, and in that of a single trial: what it was run with."""

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """A study file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    name: str
    """Name of the study and of its output folder."""
    data: DataConfig
    """The table of clicks."""
    space: Annotated[Space, PlainValidator(Space.parse)]
    """What varies from trial to trial: parameters, or a preset's name."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """What is predicted."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """What is fine-tuned."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """How training texts may be varied."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """Which trials run."""
    resources: TrialResources = field(default_factory=TrialResources)
    """What each trial gets."""
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    """How a trial's steps run."""
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    """What becomes of the winners."""
    winners: int = 3
    """How many of the best trials are compressed; all of them where fewer complete."""

    def __post_init__(self) -> None:
        if not _FOLDER_NAME.fullmatch(self.name):
            raise ValueError(
                f"name is {self.name!r}, which can't name a folder; use up to 100 letters, digits, "
                "'.', '_' and '-', beginning with a letter or digit"
            )
        metrics = TASK_METRICS[self.task.kind]
        if self.search.metric not in metrics:
            raise ValueError(
                f"search.metric is {self.search.metric!r}, which task {self.task.kind} doesn't "
                f"have; it has {', '.join(metrics)}"
            )
        if self.winners < 1:
            raise ValueError(f"winners must be at least 1, got {self.winners}")
        if unknown := sorted(set(self.task.placement) - set(self.data.columns.categorical)):
            raise ValueError(
                f"task.placement names {', '.join(unknown)}, which a model must see to choose by; "
                "list it under data.columns.categorical"
            )
        self._check_space()
        self.start_points()
        check_task(self)
        if mistake := name_missing(self.augmentations(), self.augmentation):
            raise ValueError(mistake)

    def augmentations(self) -> tuple[str, ...]:
        """Return the operations that a trial of the study may use, ``none`` among them."""
        varied = self.space.parameters.get("augmentation")
        if varied is None:
            return (TrialConfig().augmentation,)
        return tuple(map(str, varied.choices or ()))

    def start_points(self) -> tuple[dict[str, Value], ...]:
        """Return the whole points with which the search starts: those given, then the default.

        Raises:
            ValueError: if one isn't in the space, or trains the same model as one before it.
        """
        given = complete_points(self.space, self.search.start_from, where="search.start_from")
        default = self.default_point()
        if default is None or effective_key(default) in map(effective_key, given):
            return given
        return (*given, default)

    def default_point(self) -> dict[str, Value] | None:
        """Return the default configuration's point; None if the study has no such trial."""
        if not self.search.default_trial:
            return None
        try:
            return complete_point(self.space, {})
        except ValueError:
            # It breaks a constraint.
            return None

    def _check_space(self) -> None:
        if self.search.algorithm == "grid" and (names := self.space.continuous()):
            raise ValueError(
                f"search.algorithm is grid, which can't enumerate {', '.join(names)}; list the "
                f"values, {names[0]}: {{choice: [...]}}, or use algorithm random or tpe"
            )
        if self.search.algorithm == "cmaes" and not shared_numbers(self.space):
            raise ValueError(
                "search.algorithm is cmaes, which needs a number that every trial has, but "
                f"space varies only {', '.join(self.space.parameters)}; give one of them as "
                "uniform, log_uniform or int without when, or use algorithm tpe"
            )
        if self.search.scheduler == "pbt" and not changeable(self.space):
            raise ValueError(
                "search.scheduler is pbt, which changes hyperparameters while trials train, but "
                f"space varies only {', '.join(self.space.parameters)}; vary one of "
                f"{', '.join(CHANGEABLE)}, on which no other one's when depends, or use scheduler "
                "asha"
            )
        self._check_grids()
        self._check_inputs()
        batch_size = self.space.parameters.get("batch_size")
        sizes = (TrialConfig().batch_size,) if batch_size is None else batch_size.extremes()
        smallest = min(size for size in sizes if isinstance(size, int))
        if smallest < self.resources.workers:
            raise ValueError(
                f"space.batch_size may be {smallest}, which {self.resources.workers} workers can't "
                "share; raise it or lower resources.workers"
            )

    def _check_grids(self) -> None:
        grids, algorithm = self.space.grids(), self.search.algorithm
        if grids and algorithm not in TAKES_GRIDS:
            raise ValueError(
                f"search.algorithm is {algorithm}, which decides every value by itself, but space."
                f"{grids[0]} is a grid; write {grids[0]}: {{choice: [...]}}, or use algorithm "
                "random or sobol"
            )
        if algorithm != "grid":
            grid_combinations(self.space)

    def _check_inputs(self) -> None:
        columns = self.data.columns
        for name, has_any, keys in (
            ("category_swap", bool(columns.categorical), "categorical columns"),
            ("category_dropout", bool(columns.categorical), "categorical columns"),
            ("timestamp_jitter", bool(columns.time_features), "time_features"),
        ):
            if name in self.space.parameters and not has_any:
                raise ValueError(
                    f"space.{name} varies fields, but data.columns names no {keys}; name some, or "
                    f"leave {name} out"
                )
        parameter = self.space.parameters.get("inputs")
        chosen = () if parameter is None else parameter.extremes()
        for inputs, has_any, keys in (
            ("text", bool(columns.text), "text"),
            ("fields", columns.has_fields, "categorical, numeric, time_features or compare"),
        ):
            if inputs in chosen and not has_any:
                raise ValueError(
                    f"space.inputs may be {inputs}, but data.columns names no {keys}; name some, "
                    "or leave inputs out"
                )


@cache
def _adapter() -> TypeAdapter[StudyConfig]:
    return TypeAdapter(StudyConfig)


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and check a study file.

    Args:
        path: The YAML file.
        overrides: ``a.b=value`` each, the value in YAML; applied in order before the check.

    Raises:
        ValueError: if the file can't be read, or listing every mistake in it with its path.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"can't read the study file {str(path)!r}: {reason}") from error
    return parse_study(text, overrides, source=str(path))


def parse_study(
    text: str, overrides: Sequence[str] = (), *, source: str = "the study"
) -> StudyConfig:
    """Check a study given as YAML text.

    Args:
        text: The YAML.
        overrides: As for :func:`load_study`.
        source: What to call the text in an error.

    Raises:
        ValueError: listing every mistake with its path.
    """
    raw = _parse_yaml(text, source)
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: expected a mapping like 'name: my-study', got {raw!r}")
    for override in overrides:
        _apply_override(raw, override)
    try:
        # JSON, because strict validation then takes a list for a tuple but no "3" for a 3.
        text = json.dumps(raw, default=str)
    except TypeError as error:
        raise ValueError(f"{source} has a key that is no text, such as a date: {error}") from error
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        mistakes = describe_mistakes(error, StudyConfig)
        if len(mistakes) == 1:
            raise ValueError(f"{source}: {mistakes[0]}") from error
        lines = "".join(f"\n  - {mistake}" for mistake in mistakes)
        raise ValueError(f"{source} has {len(mistakes)} mistakes:{lines}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would keep only the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value!r} is there twice",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> Any:  # noqa: ANN401 - unchecked YAML
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader's subclass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{source}{where}: not valid YAML, {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not valid YAML, {error}") from error


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ValueError(
            f"--set {override!r}: expected key=value, like --set search.trials=12 or "
            "--set data.path=clicks.parquet"
        )
    value = _parse_yaml(text, f"--set {override!r}")
    *parents, last = key.split(".")
    section = raw
    for depth, name in enumerate(parents):
        _check_key(override, parents[:depth], name)
        below = section.get(name)
        if depth == 0 and name == "space" and isinstance(below, str):
            below = Space.parse(below).to_dict()
        if below is None:
            below = {}
        if not isinstance(below, dict):
            raise ValueError(
                f"--set {override!r}: {'.'.join(parents[: depth + 1])} holds {below!r}, which has "
                "no keys of its own; set it as a whole"
            )
        # A copy: where YAML anchors share a section, only the one that is named changes.
        section[name] = below = dict(below)
        section = below
    _check_key(override, parents, last)
    section[last] = value


def _check_key(override: str, parents: Sequence[str], name: str) -> None:
    known = section_fields(StudyConfig, parents)
    if known is not None and name not in known:
        raise ValueError(f"--set {override!r}: unknown key {name!r}{nearest(name, known)}")


def study_to_dict(config: StudyConfig) -> dict[str, Any]:
    """Return the resolved study, defaults included, as plain values."""
    plain: dict[str, Any] = _plain(config)
    return plain


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of a config
    if isinstance(value, Space):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def dump_study(config: StudyConfig) -> str:
    """Write the resolved study as YAML; :func:`parse_study` reads it back equal."""
    return yaml.safe_dump(
        study_to_dict(config), sort_keys=False, allow_unicode=True, default_flow_style=None
    )


def write_study(folder: Path, config: StudyConfig) -> None:
    """Write the resolved study into its folder."""
    # Renamed into place: a kill leaves the old file or the new one, not half of it.
    unfinished = folder / f".{STUDY_FILE}.new"
    unfinished.write_text(dump_study(config), encoding="utf-8")
    unfinished.replace(folder / STUDY_FILE)
