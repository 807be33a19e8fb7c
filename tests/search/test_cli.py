import csv
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.cli import run
from search.commands.preflight import (
    FailureError,
    MistakeError,
    built_in_studies,
    is_own,
    preflight,
)
from search.commands.search import check_result
from search.ledger import Ledger
from search.promotion import promote
from search.results import read_result
from search.study_config import dump_study, load_study
from search.trial_record import ReportRecord
from spaces.trial_config import TrialConfig
from tests.search.finished_study import finished_config, write_trials
from tests.search.trained_study import trained_config, write_log, write_trained_study
from trainables.checkpoint import read_checkpoint_info
from trainables.data.store import STORE

COMMANDS = [
    [],
    ["quickstart"],
    ["data"],
    ["data", "simulate"],
    ["data", "next-basket"],
    ["data", "validate"],
    ["data", "describe"],
    ["data", "augment"],
    ["search"],
    ["trial"],
    ["report"],
    ["compress"],
    ["bundle"],
    ["bundle", "info"],
    ["bundle", "verify"],
    ["bundle", "predict"],
    ["submit"],
]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.yaml"
    path.write_text(dump_study(trained_config(write_log(folder / "log"), tiny_encoder)))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, study_file: Path) -> Path:
    """A study that was searched and promoted."""
    folder = tmp_path_factory.mktemp("trained") / "trained"
    config = load_study(study_file, ["winners=1"])
    write_trained_study(folder, config)
    promote(folder, config)
    return folder


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import contextlib, io, sys, time
from search.cli import run
for command in {COMMANDS!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run([*command, "--help"]) == 0, command
    assert "--debug" in out.getvalue(), command
heavy = {{"torch", "ray", "pandas", "numpy", "rich", "pydantic", "deepspeed"}} & set(sys.modules)
print(sorted(heavy), time.process_time())
"""
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    heavy, seconds = output.strip().rsplit(maxsplit=1)
    assert heavy == "[]"
    assert float(seconds) < 0.5


def test_module_can_be_run_and_knows_its_version() -> None:
    output = subprocess.run(
        [sys.executable, "-m", "search.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert output.startswith("clicktune 0.")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["search"], "Missing argument 'STUDY'"),
        (["search", "nosuch"], "there is no study file 'nosuch'; give a path, or one of"),
        (["search", "quickstart", "--set", "data.pth=1"], "did you mean 'path'?"),
        (["search", "quickstart", "--set", "data.path=no.csv", "--out", "OUT"], "no.csv"),
        (["search", "headlines", "--set", "resources.cpus_per_worker=999", "--dry-run"], "1 x 999"),
        (["data", "validate", "quickstart", "--set", "data.path=no.csv"], "no.csv"),
        (["data", "next-basket", "no.csv", "OUT"], "expected a name that ends in .parquet"),
        (["data", "next-basket", "no.csv", "no.parquet"], "no.csv does not exist"),
        (["data", "simulate", "OUT", "--products", "3"], "num_products must be at least"),
        (["data", "augment", "quickstart", "--operation", "thesaurus"], "must be one of none, syn"),
        (["data", "augment", "quickstart", "--operation", "none"], "changes nothing"),
        (["data", "augment", "quickstart", "--operation", "synonym", "--rows", "0"], "at least 1"),
        (["trial", "quickstart", "--set", "augmentation=masked_word"], "masked_word, which needs"),
        (
            [
                *("search", "headlines", "--dry-run", "--set"),
                "space.augmentation={choice: [word_dropout, masked_word]}",
                *("--set", "augmentation.masked_language_model=OUT"),
            ],
            "augmentation.masked_language_model: the folder 'OUT' does not exist",
        ),
        (["data", "augment", "quickstart", "--operation", "masked_word"], "which needs augmentat"),
        (["trial", "quickstart", "--set", "learning_rate=7"], "learning_rate must be in (0, 1]"),
        (["trial", "quickstart", "--set", "tuned_layers=7"], "'minilm-l6' has 6 layers"),
        (["search", "headlines", "--set", "space.tuned_layers=7", "--dry-run"], "has 6 layers"),
        (["trial", "quickstart", "--set", "learning_rate"], "expected learning_rate=VALUE"),
        (["trial", "quickstart", "--set", "lr=1"], "unknown key 'lr'"),
        (["report", "OUT"], "holds no study"),
        (["compress", "OUT"], "OUT"),
        (["bundle", "info", "OUT"], "OUT"),
        (["bundle", "verify", "OUT"], "OUT"),
        (["submit", "quickstart", "--address", "head:6379", "--out", "/shared"], "job server"),
        (["submit", "quickstart", "--address", "http://head:1", "--out", "x"], "absolute path"),
    ],
)
def test_users_mistake_is_one_text_and_exit_code_2(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("OUT", str(tmp_path / "OUT")) for word in arguments]

    code, _, err = run_here(capsys, *given)

    assert code == 2
    assert err.startswith("error: ")
    assert expected.replace("OUT", str(tmp_path / "OUT")) in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["data"], ["bundle"]])
def test_group_without_a_command_prints_its_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_here(capsys, *arguments)

    assert code == 2
    assert err.startswith("Usage: clicktune")
    assert "error:" not in err


@pytest.mark.parametrize(
    ("error", "is_mistake"),
    [
        (FileNotFoundError(2, "No such file or directory", "no.csv"), True),
        (PermissionError(13, "Permission denied", "clicks.csv"), True),
        (IsADirectoryError(21, "Is a directory", "clicks"), True),
        (OSError(28, "No space left on device", "runs"), False),
    ],
)
def test_full_disk_is_no_mistake_of_the_user(error: OSError, is_mistake: bool) -> None:
    with pytest.raises(MistakeError if is_mistake else OSError, match="Errno"), preflight():
        raise error


def test_refusal_to_connect_is_a_mistake_of_the_user() -> None:
    from cluster.connect import connect

    with pytest.raises(MistakeError, match="nothing answers"), preflight(), connect("127.0.0.1:1"):
        pass


def test_nothing_is_resumed_where_there_is_no_study(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_here(capsys, "search", study_file, "--out", tmp_path, "--resume")

    assert code == 2
    assert f"nothing to resume in {tmp_path / 'trained'}; leave out --resume to start it" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("with_result", [False, True])
def test_study_that_was_given_up_says_what_there_is(with_result: bool, tmp_path: Path) -> None:
    config = finished_config()
    with Ledger.create(tmp_path, {"config": dump_study(config)}) as ledger:
        for number in range(4):
            ledger.add_trial(number, {}, TrialConfig(), "hash")
            if number == 0 and with_result:
                metrics = {"roc_auc": 0.7}
                ledger.add_report(
                    ReportRecord(
                        number=0, epoch=1, metrics=metrics, seconds=1.0, decision="continue"
                    ),
                    None,
                    "completed",
                )
            else:
                ledger.add_failure(number, f"error {number}", final=True)
        ledger.set_fact("status", "failed")
        ledger.set_fact("higher_is_better", True)

    with pytest.raises(FailureError) as failure:
        check_result(read_result(tmp_path))

    text = str(failure.value)
    if with_result:
        assert "3 of 4 trials failed, and since it was resumed none gave a result" in text
        assert f"clicktune compress {tmp_path}" in text
        assert text.endswith("error 3")
    else:
        assert "4 of 4 trials failed and none gave a result; the first one:\nerror 0" in text


@pytest.mark.parametrize("position", ["before", "after"])
def test_debug_shows_the_traceback(position: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", "/nonexistent"]
    given = ["--debug", *command] if position == "before" else [*command, "--debug"]

    code, _, err = run_here(capsys, *given)

    assert code == 2
    assert "Traceback" in err
    assert "error: " in err


def test_failure_of_a_library_is_no_mistake_of_the_user(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "trained"
    shutil.copytree(trained, folder, symlinks=True)
    shutil.rmtree(folder / "bundles")
    for weights in folder.glob("checkpoints/*/*/model.safetensors"):
        weights.write_bytes(b"broken")

    code, _, err = run_here(capsys, "compress", folder)

    assert code == 1
    assert err.startswith("error: every compression failed")


def test_own_errors_are_told_from_a_librarys() -> None:
    with pytest.raises(ValueError, match="there is no study file") as own:
        load_study_named("nosuch")
    with pytest.raises(ValueError, match="invalid literal") as foreign:
        int("x")

    assert is_own(own.value)
    assert not is_own(foreign.value)


def load_study_named(name: str) -> None:
    from search.commands.preflight import find_study

    find_study(name)


def test_every_built_in_study_is_valid() -> None:
    studies = built_in_studies()

    assert {"quickstart", "headlines"} <= set(studies)
    for path in studies.values():
        load_study(path)


def test_dry_run_says_what_would_run_and_writes_nothing(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_here(
        capsys, "search", study_file, "--out", tmp_path / "runs", "--dry-run",
        "--set", "search.trials=7",
        "--set", "space.constraints=[learning_rate * 100 <= 1.0]",
        "--set", "search.start_from=[{}]",
    )  # fmt: skip

    assert code == 0
    assert "name: trained" in out
    assert re.search(r"learning_rate +log_uniform +\S+ to \S+", out)
    assert "constraint: learning_rate * 100 <= 1.0" in out
    assert "starts from: " in out
    assert "points in the space: infinitely many; trials: 7" in out
    assert "each trial gets 1 x 1 CPUs" in out
    assert re.search(r"lora +32 +[\d.,]+ +\d+ s +[\d.]+ GB", out)
    assert re.search(r"about \d+ (s|min): 7 trials, \d+ at a time", out)
    assert not (tmp_path / "runs").exists()


def test_study_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here(capsys, "study-schema")

    assert code == 0
    assert "search" in json.loads(out)["properties"]


def test_simulate_writes_the_log_apart_from_its_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_here(
        capsys, "data", "simulate", tmp_path / "log", "--impressions", "600", "--products", "60",
        "--queries", "10", "--format", "csv",
    )  # fmt: skip

    assert code == 0
    assert "600 rows" in out
    assert {path.name for path in (tmp_path / "log").iterdir()} == {
        "log.csv",
        "truth.csv",
        "model.json",
    }
    assert "probability" not in (tmp_path / "log" / "log.csv").read_text().splitlines()[0]


def test_next_basket_writes_a_table_of_the_columns_that_it_was_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders, out = tmp_path / "orders.csv", tmp_path / "tables" / "baskets.parquet"
    lines = [f"ann,{order},{item}" for order in range(4) for item in ("tea", f"item {order}")]
    orders.write_text("\n".join(["who,number,item", *lines]))

    code, told, _ = run_here(
        capsys, "data", "next-basket", orders, out, "--user", "who", "--order", "number",
        "--product", "item", "--categories", "", "--weekday", "", "--hour", "",
        "--days-since-prior", "",
    )  # fmt: skip

    assert code == 0
    assert "7 candidates of 2 baskets" in told
    table = pd.read_parquet(out)
    assert table.loc[table["label"] == 1, "product"].tolist() == ["tea", "tea"]


def test_describe_and_validate_say_what_is_in_the_table(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_here(capsys, "data", "validate", study_file)
    assert code == 0
    assert "is fine: 320 rows" in out

    code, out, _ = run_here(capsys, "data", "describe", study_file)
    assert code == 0
    for text in ("train", "validation", "test", "click rate", "tokens of a row: median"):
        assert text in out
    for text in ("query", "title", "0 test rows (0.0%) repeat a training row"):
        assert text in out
    assert "warning" not in out
    assert "compare" not in out


def test_describe_says_what_is_compared(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "data.html"
    compared = ("--set", "data.columns.compare=[[query, title]]")

    code, out, _ = run_here(capsys, "data", "describe", study_file, *compared, "--html", page)

    assert code == 0
    assert "(data.columns.compare): query with title" in out
    assert "(data.columns.compare): query with title." in page.read_text(encoding="utf-8")


def test_search_and_describe_warn_of_what_is_suspicious(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = pd.read_parquet(load_study(study_file).data.path)
    rng = np.random.default_rng(0)
    log["clicked"] = rng.integers(0, 2, len(log))
    log["<b>paid</b>"] = log["clicked"].map({0: "<script>no</script>", 1: "[red]yes"})
    log["title"] = "the same"
    log.to_parquet(tmp_path / "log.parquet")
    columns = "{text: [title], label: clicked, categorical: ['<b>paid</b>'], group: query}"
    settings = [f"data.path={tmp_path / 'log.parquet'}", f"data.columns={columns}"]
    settings += ["data.truth=null", "data.split={by: random}"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    page = tmp_path / "data.html"
    suspicions = (
        "warning: column '<b>paid</b>' alone predicts the label: ROC-AUC 1.0000 on the validation",
        "warning: 100.0% of the validation rows and 100.0% of the test rows repeat a training row",
        "data.split={by: group} keeps the rows of a 'query' together",
    )

    for command in (["search", "--dry-run"], ["data", "describe", "--html", page]):
        code, out, err = run_here(capsys, *command, study_file, *arguments)
        assert code == 0, err
        for suspicion in suspicions:
            assert suspicion in out

    html = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;paid&lt;/b&gt;" in html
    assert "<b>paid" not in html
    assert "<script" not in html
    assert "Nothing suspicious" not in html
    assert "100.0%" in html
    assert str(tmp_path) not in html
    for outside in ("http://", "https://", "src=", "@import"):
        assert outside not in html.replace("http://www.w3.org/", "")


@pytest.fixture
def spoiled_study(tmp_path: Path, study_file: Path) -> tuple[Path, list[str]]:
    """A study whose table has one bad row, and the arguments that let it be skipped."""
    log = pd.read_parquet(load_study(study_file).data.path)
    log.loc[7, "clicks"] = -1
    log.to_parquet(tmp_path / "spoiled.parquet")
    settings = [f"data.path={tmp_path / 'spoiled.parquet'}", "data.truth=null"]
    settings.append("data.on_bad_row=skip")
    return study_file, [word for setting in settings for word in ("--set", setting)]


LEFT_OUT = "1 of 320 rows were left out (0.31%):\n  column 'clicks', row 7: -1 is negative"


def test_commands_say_which_rows_were_left_out(
    spoiled_study: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, settings = spoiled_study
    file, folder = tmp_path / "bad.csv", tmp_path / "kept"
    commands: dict[str, list[str | Path]] = {
        "validate": ["data", "validate", study, "--bad-rows", file],
        "describe": ["data", "describe", study],
        "dry run": ["search", study, "--dry-run", "--out", tmp_path / "runs"],
        "trial": ["trial", study, "--out", folder],
    }

    for name, command in commands.items():
        code, out, err = run_here(capsys, *command, *settings)
        assert code == 0, err
        assert LEFT_OUT in out, name

    for written in (file, folder / "bad-rows.csv"):
        assert len(pd.read_csv(written)) == 1


def test_validate_writes_no_file_where_no_row_is_bad(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_here(
        capsys, "data", "validate", study_file, "--bad-rows", tmp_path / "bad.csv"
    )

    assert code == 0
    assert "no row was left out" in out
    assert not list(tmp_path.iterdir())


def test_trial_trains_here_and_keeps_its_last_checkpoint(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "first"
    code, out, _ = run_here(
        capsys, "trial", study_file, "--out", folder, "--set", "learning_rate=2.0e-3",
        "--set", "search.epochs=2", "--set", "batch_size=64",
    )  # fmt: skip
    assert code == 0
    assert "lr 2e-3, batch 64" in out
    assert "epoch 1/2: train_loss" in out
    assert "epoch 2/2: train_loss" in out
    assert sorted(path.name for path in folder.iterdir()) == ["data", "epoch-0002", "study.yaml"]


def test_trials_side_by_side_share_their_data(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        assert run_here(capsys, "trial", study_file, "--out", tmp_path / name)[0] == 0

    (shared,) = (path for path in (tmp_path / STORE).iterdir() if path.is_dir())
    for name in ("first", "second"):
        info = read_checkpoint_info(tmp_path / name / "epoch-0001")
        assert info.setup.data_folder == str(shared)
        assert (tmp_path / name / "data" / shared.name / "ids.npy").samefile(shared / "ids.npy")


@pytest.mark.slow
def test_checkpoint_of_a_trial_can_be_compressed_also_where_it_was_moved(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(capsys, "trial", study_file, "--out", tmp_path / "there")[0] == 0
    folder = (tmp_path / "there").rename(tmp_path / "here")

    code, out, _ = run_here(capsys, "compress", folder / "epoch-0001")

    assert code == 0
    assert "(bundle)" in out
    assert run_here(capsys, "bundle", "verify", folder / "bundle")[0] == 0


def test_trial_without_out_leaves_nothing(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)

    assert run_here(capsys, "trial", study_file)[0] == 0

    assert list(tmp_path.iterdir()) == []


def test_report_of_a_running_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trials(tmp_path, finished_config(), num_trials=12)

    code, out, _ = run_here(capsys, "report", tmp_path)

    assert code == 0
    assert "not finished" in out
    assert (tmp_path / "report.html").is_file()


def test_compress_refuses_what_would_make_it_another_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trials(tmp_path, finished_config())

    code, _, err = run_here(capsys, "compress", tmp_path, "--set", "search.metric=log_loss")

    assert code == 2
    assert "search.metric is roc_auc there and log_loss here" in err


def test_compress_of_a_study_that_runs_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trials(tmp_path, finished_config())

    with Ledger.open(tmp_path):
        code, _, err = run_here(capsys, "compress", tmp_path)

    assert code == 2
    assert "is running already" in err


def test_single_trial_does_not_write_into_a_study(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trials(tmp_path, finished_config())
    before = (tmp_path / "study.yaml").read_text()

    code, _, err = run_here(capsys, "trial", study_file, "--out", tmp_path)

    assert code == 2
    assert "holds a study" in err
    assert (tmp_path / "study.yaml").read_text() == before


def test_single_trial_does_not_replace_an_earlier_ones_checkpoint(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "epoch-0002").mkdir()
    (tmp_path / "epoch-0002" / "trial.json").write_text("{}")

    code, _, err = run_here(capsys, "trial", study_file, "--out", tmp_path)

    assert code == 2
    assert "holds an earlier trial's checkpoint (epoch-0002)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0002"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("data.path=no.csv", "no.csv"),
        ("data.columns.clicks=clickz", "clickz"),
        ("data.truth=no.parquet", "no.parquet"),
        ("encoder.name=/nowhere", "encoder folder '/nowhere' does not exist"),
    ],
)
def test_dry_run_refuses_what_the_run_refuses(
    change: str, expected: str, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_here(
        capsys, "search", study_file, "--out", tmp_path, "--dry-run", "--set", change
    )

    assert code == 2
    assert expected in err


def test_dry_run_refuses_the_folder_of_a_study_that_is_there(
    trained: Path, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[str | Path] = [
        "search",
        study_file,
        "--out",
        trained.parent,
        "--set",
        "winners=1",
        "--dry-run",
    ]

    code, _, err = run_here(capsys, *given)
    assert code == 2
    assert "holds this study already" in err

    code, out, _ = run_here(capsys, *given, "--resume")
    assert code == 0
    assert "trials: 2" in out


def test_report_of_a_study_whose_bundle_was_damaged_is_a_mistake(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "trained"
    shutil.copytree(trained, folder, symlinks=True)
    (folder / "best" / "manifest.json").write_text("{")

    code, _, err = run_here(capsys, "report", folder)

    assert code == 2
    assert "manifest.json" in err


def test_compress_prints_what_the_search_would(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_here(capsys, "compress", trained)

    assert code == 0
    for text in ("leaderboard", "compression", "test split, scored once", "TF-IDF", "ceiling"):
        assert text in out
    assert f"use it: clicktune bundle predict {trained / 'best'} IN.csv OUT.csv" in out


@pytest.mark.slow
def test_compress_without_a_qualifying_candidate_is_a_failure(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "trained"
    shutil.copytree(trained, folder, symlinks=True)

    code, out, err = run_here(capsys, "compress", folder, "--set", "compression.max_size_mb=0.001")

    assert code == 1
    assert "leaderboard" in out
    assert err.startswith("error: no candidate keeps within the limits")
    # What the report and a later call go by.
    assert read_result(folder).config.compression.max_size_mb == 0.001
    assert load_study(folder / "study.yaml") == read_result(folder).config


def test_bundle_commands(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here(capsys, "bundle", "info", trained / "best")
    assert code == 0
    assert "text columns: query, title" in out

    code, out, _ = run_here(capsys, "bundle", "verify", trained / "best")
    assert code == 0
    assert "6 files match their SHA-256" in out

    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    table.write_text('title,shop,query\n"Red sofa, soft",1,couch\nLamp,2,"lamp"\n')
    code, out, _ = run_here(capsys, "bundle", "predict", trained / "best", table, output)
    assert code == 0
    assert "2 rows" in out
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["shop"] for row in rows] == ["1", "2"]
    assert all(0 < float(row["click_probability"]) < 1 for row in rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title\nLamp\n", "no column 'query'"),
        ("title,query,click_probability\na,b,1\n", "there is a column 'click_probability' already"),
        ("title,query\na\n", "in.csv"),
        ("title,query\na,b,c\n", "in.csv"),
        ("", "in.csv"),
    ],
)
def test_table_that_does_not_fit_the_bundle_leaves_no_output(
    text: str, expected: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text(text)

    code, _, err = run_here(
        capsys, "bundle", "predict", trained / "best", tmp_path / "in.csv", tmp_path / "out.csv"
    )

    assert code == 2
    assert expected in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_tampered_bundle_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trained / "best", bundle)
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"x")

    code, _, err = run_here(capsys, "bundle", "verify", bundle)

    assert code == 2
    assert "model.onnx was changed after the export" in err


@pytest.mark.ray
@pytest.mark.slow
def test_interrupted_search_is_resumed_to_its_bundle(study_file: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "search.cli", "search", str(study_file), "--out", str(tmp_path),
        "--set", "search.trials=3", "--set", "search.epochs=3", "--set", "winners=1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_for_report(tmp_path / "trained")
    process.send_signal(2)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; go on with: clicktune search" in out
    assert out.strip().endswith("--resume")

    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)

    assert resumed.returncode == 0, resumed.stderr
    assert "3 of 3 trials" in resumed.stdout
    assert resumed.stderr == ""
    assert (tmp_path / "trained" / "best" / "manifest.json").is_file()


def wait_for_report(folder: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if Ledger.exists(folder):
            with Ledger.read(folder) as ledger:
                if ledger.reports():
                    return
        time.sleep(0.1)
    raise AssertionError("no trial reported in time")
