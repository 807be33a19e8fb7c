import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.study_config import SearchConfig, dump_study, load_study, parse_study
from spaces.space import load_preset

REPOSITORY = Path(__file__).parents[2]
STUDY = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space: {learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}}
"""


def study_files() -> list[Path]:
    return sorted((REPOSITORY / "search" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", study_files(), ids=lambda path: path.name)
def test_every_study_file_of_the_repository_loads(path: Path) -> None:
    config = load_study(path)

    assert config.name
    assert parse_study(dump_study(config)) == config


def test_the_repository_has_study_files() -> None:
    assert {path.stem for path in study_files()} >= {
        "quickstart",
        "headlines",
        "headlines_two_workers",
    }


def test_space_may_be_a_preset() -> None:
    assert parse_study(STUDY, ["space=ctr"]).space == load_preset("ctr")


def test_dumped_study_reads_back_equal_with_its_defaults_spelled_out() -> None:
    config = parse_study(STUDY, ["space=ctr", "compression.max_size_mb=12.5", "winners=1"])

    text = dump_study(config)

    assert parse_study(text) == config
    assert "epochs: 3" in text


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("search.trials=7", lambda c: c.search.trials == 7),
        ("data.path=s3://bucket/a=b.csv", lambda c: c.data.path == "s3://bucket/a=b.csv"),
        ("data.columns.text=[query, title]", lambda c: c.data.columns.text == ("query", "title")),
        ("data.split.seed=5", lambda c: c.data.split.seed == 5),
        ("space.dropout=0.2", lambda c: c.space.parameters["dropout"].choices == (0.2,)),
        ("resources.concurrent_trials=2", lambda c: c.resources.concurrent_trials == 2),
        ("compression.max_latency_ms=null", lambda c: c.compression.max_latency_ms is None),
    ],
)
def test_override_replaces_one_value(override: str, read: Callable[..., bool]) -> None:
    assert read(parse_study(STUDY, [override]))


def test_override_inside_a_preset_keeps_its_other_parameters() -> None:
    config = parse_study(STUDY, ["space=ctr", "space.batch_size={choice: [8]}"])

    assert config.space.parameters["batch_size"].choices == (8,)
    assert config.space.parameters.keys() == load_preset("ctr").parameters.keys()


def test_override_of_a_section_that_an_anchor_shares_changes_that_section_alone() -> None:
    text = """
name: tiny
data: {path: clicks.csv, columns: {text: [title], label: clicked}}
space:
  batch_size: &sizes {int: [8, 16]}
  lora_rank: *sizes
"""

    space = parse_study(text, ["space.batch_size.int=[8, 32]"]).space.to_dict()

    assert space == {"batch_size": {"int": [8, 32]}, "lora_rank": {"int": [8, 16]}}


def test_later_override_wins() -> None:
    config = parse_study(STUDY, ["search.seed=1", "search.seed=2"])

    assert config.search.seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serch.trials=1", r"--set 'serch.trials=1': unknown key 'serch'; did you mean 'search'\?"),
        ("search.trails=1", r"unknown key 'trails'; did you mean 'trials'\?"),
        ("data.columns.txt=a", r"unknown key 'txt'; did you mean 'text'\?"),
        ("search.trials", r"expected key=value"),
        ("=3", r"expected key=value"),
        ("name.first=a", r"name holds 'tiny', which has no keys of its own"),
        ("winners=[", r"--set 'winners=\[', line 1.*: not valid YAML"),
        (
            "space.lerning_rate=0.1",
            r"unknown parameter 'lerning_rate'; did you mean 'learning_rate'",
        ),
    ],
)
def test_override_that_fits_nothing_is_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_study(STUDY, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials=0", r"search\.trials must be at least 1, got 0"),
        ("search.trials=true", r"search\.trials must be a whole number, got True"),
        ("search.trials='12'", r"got '12'; write 12 without quotes"),
        ("search.trials=1.5", r"search\.trials must be a whole number, got 1\.5"),
        ("search.epochs=0", r"search\.epochs must be at least 1"),
        ("search.grace_epochs=9", r"grace_epochs is 9, but a trial has only 3 epochs"),
        ("search.brackets=0", r"search\.brackets must be at least 1"),
        ("search.min_peers=0", r"search\.min_peers must be at least 1"),
        ("search.patience=0", r"search\.patience must be at least 1"),
        ("search.patience=soon", r"search\.patience must be a whole number, got 'soon'"),
        ("search.max_hours=0", r"search\.max_hours must be above 0"),
        ("search.max_epoch_minutes=0", r"search\.max_epoch_minutes must be above 0"),
        ("search.max_trial_hours=-1", r"search\.max_trial_hours must be above 0"),
        ("search.target=.inf", r"search\.target must be a finite number"),
        ("search.reduction_factor=1", r"reduction_factor must be at least 2"),
        ("search.seed=-1", r"search\.seed must be at least 0"),
        ("search.seed=9223372036854775808", r"search\.seed must be below 2\*\*63"),
        (
            "search.trials=1e2",
            r"search\.trials must be a whole number, got '1e2'; write 100 without",
        ),
        ("data.split.seed=-1", r"data\.split\.seed must be at least 0"),
        ("compression.seed=-1", r"compression\.seed must be at least 0"),
        ("search.max_failures=-1", r"max_failures must be at least 0"),
        ("search.checkpoint_budget_gb=0", r"checkpoint_budget_gb must be above 0"),
        ("search.checkpoint_budget_gb=.nan", r"must be a finite number"),
        ("search.checkpoint_budget_gb=1e1", r"YAML reads that as text, write 1\.0e\+1"),
        ("compression.max_metric_drop=5e-3", r"got '5e-3'; YAML reads that as text, write 5\.0e-3"),
        (
            "search.algorithm=tp",
            r"search\.algorithm must be grid, random, sobol, tpe, gp, cmaes or nsga2, got 'tp'",
        ),
        ("search.algorithm=grid", r"grid, which can't enumerate learning_rate"),
        ("search.metric=ndcg", r"'ndcg', which task ctr doesn't have; it has roc_auc, pr_auc"),
        ("name=../up", r"can't name a folder"),
        ("name=''", r"can't name a folder"),
        ("name=3", r"name must be text, got 3"),
        ("winners=0", r"winners must be at least 1"),
        ("resources.workers=0", r"resources\.workers must be at least 1"),
        ("resources.concurrent_trials=many", r"must be a whole number or auto, got 'many'"),
        ("data.columns.text=title", r"data\.columns\.text must be a list, got 'title'"),
        (
            "data.columns.compare=[a, b]",
            r"compare\.0 must be a list, .* a list of lists, such as",
        ),
        (
            "data.columns.compare=[[a, b, c]]",
            r"compare\.0 must have 2 values, got \['a', 'b', 'c'\]",
        ),
        ("data.columns={text: [a]}", r"data\.columns needs label"),
        ("data.split.by=group", r"data\.split\.by is group, but data\.columns names no group"),
        ("data={path: a}", r"data\.columns is missing"),
        ("space={}", r"space: the space is empty"),
        ("space=ctl", r"unknown preset 'ctl'; did you mean 'ctr'"),
        ("space.learning_rate={log_uniform: [1e-5, 0.1]}", r"got '1e-5'; write 1\.0e-5"),
        ("space.dropout={uniform: [0, 2]}", r"space\.dropout: dropout must be in \[0, 1\), got 2"),
        ("search=3", r"search must be keys of its own"),
        ("search.start_from=[{lr: 1}]", r"search\.start_from\[0\]: 'lr' is not in the space"),
        ("search.start_from=[{learning_rate: 1}]", r"learning_rate is 1, which is not in"),
        ("space.constraints=[dropout < 1]", r"space\.constraints: 'dropout < 1' names 'dropout'"),
    ],
)
def test_value_that_does_not_fit_is_named_with_its_path(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_study(STUDY, [override])


@pytest.mark.parametrize(
    "space",
    [
        "{method: {choice: [full, lora]}}",
        "{method: {choice: [full, lora]}, lora_rank: {int: [2, 8], when: {method: lora}}}",
        "{lora_rank: {int: [2, 3], step: 4}}",
    ],
)
def test_cmaes_without_a_number_that_every_trial_has_is_refused(space: str) -> None:
    with pytest.raises(ValueError, match="cmaes, which needs a number that every trial has, but"):
        parse_study(STUDY, ["search.algorithm=cmaes", f"space={space}"])


@pytest.mark.parametrize("algorithm", ["tpe", "gp", "cmaes", "nsga2"])
def test_grid_is_refused_by_an_algorithm_that_learns(algorithm: str) -> None:
    space = "space={batch_size: {grid: [16, 32]}, dropout: {uniform: [0.0, 0.3]}}"
    message = rf"{algorithm}, which decides every value .* write batch_size: {{choice: \[\.\.\.\]}}"

    with pytest.raises(ValueError, match=message):
        parse_study(STUDY, [f"search.algorithm={algorithm}", space])


def test_grid_of_too_many_combinations_is_refused_where_trials_take_them_in_turn() -> None:
    values = list(range(1, 40))
    space = f"space={{batch_size: {{grid: {values}}}, lora_rank: {{grid: {values}}}}}"

    parse_study(STUDY, ["search.algorithm=grid", space])
    with pytest.raises(ValueError, match="have 1,521 combinations"):
        parse_study(STUDY, ["search.algorithm=random", space])


def test_grids_and_priors_are_kept_in_the_file() -> None:
    config = parse_study(
        STUDY,
        [
            "search.algorithm=random",
            "space.batch_size={grid: [8, 32]}",
            "space.dropout={uniform: [0.0, 0.3], prior: 0.1, prior_confidence: high}",
        ],
    )

    assert parse_study(dump_study(config)) == config


def test_points_to_start_from_are_completed_and_kept_in_the_file() -> None:
    config = parse_study(
        STUDY, ["space.batch_size={choice: [8, 32]}", "search.start_from=[{learning_rate: 1.0e-4}]"]
    )

    # Before the default configuration.
    assert config.start_points()[:1] == ({"learning_rate": 1e-4, "batch_size": 32},)
    assert parse_study(dump_study(config)) == config


def test_key_that_is_a_date_is_refused() -> None:
    with pytest.raises(ValueError, match="a key that is no text, such as a date"):
        parse_study(STUDY + "2026-01-01: 3\n")


def test_batch_that_the_workers_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size may be 2, which 4 workers can't share"):
        parse_study(STUDY, ["space.batch_size={choice: [8, 2]}", "resources.workers=4"])
    with pytest.raises(ValueError, match=r"batch_size may be 32, which 40 workers can't share"):
        parse_study(STUDY, ["resources.workers=40"])


def test_all_mistakes_are_listed_at_once_in_plain_words() -> None:
    text = STUDY.replace("clicked", "clicked, weigth: w") + "serch: {}\nwinners: few\n"

    with pytest.raises(ValueError, match="3 mistakes") as caught:
        parse_study(text, source="study.yaml")

    message = str(caught.value)
    assert message.startswith("study.yaml has 3 mistakes:")
    assert "unknown key 'data.columns.weigth'; did you mean 'weight'?" in message
    assert "unknown key 'serch'; did you mean 'search'?" in message
    assert "winners must be a whole number, got 'few'" in message
    assert "pydantic" not in message
    assert "http" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"expected a mapping"),
        ("", r"expected a mapping"),
        ("name: [", r"study, line 1, column 8: not valid YAML"),
        (STUDY + "name: again\n", r"the key 'name' is there twice"),
        ("a: !!python/object/apply:os.getcwd []\n", r"not valid YAML, could not determine"),
    ],
)
def test_text_that_is_no_study_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_study(text)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can't read the study file .*gone\.yaml.*No such file"):
        load_study(tmp_path / "gone.yaml")


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ValueError, match="not UTF-8 text"):
        load_study(path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"confirm_trials is 3, but with scheduler pbt .*; write confirm_trials: 0"),
        (["search.confirm_trials=0", "search.trials=3"], r"at least 4 members, but .* is 3"),
        (
            ["search.confirm_trials=0", "search.perturbation_epochs=4"],
            r"perturbation_epochs is 4, but a trial has only 3 epochs, so pbt would never",
        ),
        (["search.confirm_trials=0", "search.perturbation_epochs=0"], r"must be at least 1, got 0"),
        (
            ["search.confirm_trials=0", "search.exploit_fraction=0.6"],
            r"exploit_fraction must be above 0 and at most 0\.5, got 0\.6",
        ),
        (["search.confirm_trials=0", "search.exploit_fraction=0.0"], r"above 0 .* got 0\.0"),
        (
            ["search.confirm_trials=0", "search.algorithm=tpe", "search.objectives=[size_mb]"],
            r"search\.scheduler is pbt, which knows one objective, .* use asha or none",
        ),
        (
            ["search.confirm_trials=0", "space={batch_size: {choice: [8, 16]}, dropout: 0.1}"],
            r"space varies only batch_size, dropout; vary one of learning_rate, .*, or use",
        ),
    ],
)
def test_population_that_could_not_be_trained_is_refused(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_study(STUDY, ["search.scheduler=pbt", *overrides])


def test_population_needs_no_more_than_to_say_so() -> None:
    search = parse_study(STUDY, ["search.scheduler=pbt", "search.confirm_trials=0"]).search

    assert (search.perturbation_epochs, search.exploit_fraction) == (1, 0.25)


def test_one_epoch_fits_asha() -> None:
    assert SearchConfig(epochs=1, grace_epochs=1).scheduler == "asha"


def test_loading_a_study_imports_neither_torch_nor_ray() -> None:
    script = (
        "import sys; from search.study_config import load_study; "
        f"load_study({str(study_files()[0])!r}); "
        "print(sorted({'torch', 'ray', 'pandas', 'optuna', 'transformers'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("masked_word", "augmentation.masked_language_model"),
        ("back_translation", "augmentation.translation.to"),
    ],
)
def test_an_operation_that_may_come_needs_its_model_named(operation: str, key: str) -> None:
    varied = f"space.augmentation={{choice: [none, {operation}]}}"
    models = "{masked_language_model: a/b, translation: {to: a/b, back: b/a}}"

    with pytest.raises(
        ValueError, match=f"space.augmentation may be {operation}, which needs {key}"
    ):
        parse_study(STUDY, [varied])

    config = parse_study(STUDY, [varied, f"augmentation={models}"])
    assert config.augmentations() == ("none", operation)
    assert parse_study(dump_study(config)) == config
    assert parse_study(STUDY).augmentations() == ("none",)
